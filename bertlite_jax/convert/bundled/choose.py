"""The answer of a multiple-choice model."""

import numpy as np


def answer(item, row, outputs, tokenizer, about):
    """{"answer": number of the choice, from 0, "score": its probability, "scores": [probability of each]}."""
    odds = np.exp(outputs["logits"].astype(np.float64) - outputs["logits"].max())
    scores = [float(x) for x in odds / odds.sum()]
    return {"answer": int(odds.argmax()), "score": max(scores), "scores": scores}
