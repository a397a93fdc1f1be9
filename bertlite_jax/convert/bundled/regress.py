"""The answer of a regression model."""


def answer(item, row, outputs, tokenizer, about):
    """{"answer": the number, or a list of several, "score": the first one, "scores": {name: number}}."""
    numbers = list(map(float, outputs["logits"]))
    scores = dict(zip(about["labels"], numbers, strict=True))
    return {"answer": numbers if len(numbers) > 1 else numbers[0], "score": numbers[0], "scores": scores}
