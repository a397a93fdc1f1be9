"""The answer of a model that gives numbers."""


def answer(item, row, outputs, tokenizer, about):
    """{"answer": what the numbers mean, "score": the first number, "scores": {name: number}}."""
    scores = dict(zip(about["labels"], map(float, outputs["logits"]), strict=True))
    return {"answer": list(scores), "score": float(outputs["logits"][0]), "scores": scores}
