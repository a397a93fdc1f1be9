"""What a multiple-choice model reads and answers."""

import numpy as np


def read(item, about):
    """[(text, choice), ...]; ValueError if the input has no text or not two choices."""
    text, choices = item.get("text"), item.get("choices")
    if not isinstance(text, str) or not isinstance(choices, list) or len(choices) < 2:
        raise ValueError('an input of this model is {"text": "...", "choices": ["...", "..."]}')
    if not all(isinstance(choice, str) for choice in choices):
        raise ValueError("choices must be a list of texts")
    return [(text, choice) for choice in choices]


def answer(item, row, outputs, tokenizer, about):
    """{"answer": number of the choice, from 0, "score": its probability, "scores": [probability of each]}."""
    odds = np.exp(outputs["logits"].astype(np.float64) - outputs["logits"].max())
    scores = [float(x) for x in odds / odds.sum()]
    return {"answer": int(odds.argmax()), "score": max(scores), "scores": scores}
