"""The answer of a classifier."""

import numpy as np


def answer(item, row, outputs, tokenizer, about):
    """{"answer": label, "score": its probability, "scores": {label: probability}}."""
    odds = np.exp(outputs["logits"].astype(np.float64) - outputs["logits"].max())
    scores = dict(zip(about["labels"], map(float, odds / odds.sum()), strict=True))
    best = max(scores, key=scores.__getitem__)
    return {"answer": best, "score": scores[best], "scores": scores}
