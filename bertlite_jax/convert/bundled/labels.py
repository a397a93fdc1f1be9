"""The answer of a classifier with any number of labels for a text."""

import numpy as np


def answer(item, row, outputs, tokenizer, about):
    """{"answer": [labels above one half], "score": the highest probability, "scores": {label: probability}}."""
    scores = dict(
        zip(about["labels"], map(float, 1 / (1 + np.exp(-outputs["logits"].astype(np.float64)))), strict=True)
    )
    return {"answer": [x for x in scores if scores[x] > 0.5], "score": max(scores.values()), "scores": scores}
