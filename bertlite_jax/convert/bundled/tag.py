"""The answer of a tagger. A word has the label of its first piece; words that continue a label are one span."""

import numpy as np


def answer(item, row, outputs, tokenizer, about):
    """{"answer": [[label, text], ...], "score": the mean probability, "spans": [[first character, end], ...]}."""
    odds = np.exp(outputs["logits"] - outputs["logits"].max(-1, keepdims=True))
    shares, spans, before = odds.max(-1) / odds.sum(-1), [], None
    for (start, end), word, best in zip(row.offsets, row.word_ids, odds.argmax(-1), strict=True):
        label = about["labels"][best]
        if word is not None and word == before and spans and spans[-1][3] == word:
            spans[-1][2:] = [end, word]
        elif word is not None and word != before and label != "O":
            name = label.removeprefix("B-").removeprefix("I-")
            continues = spans and spans[-1][0] == name and spans[-1][3] == before and not label.startswith("B-")
            spans = [*spans[:-1], [name, spans[-1][1], end, word]] if continues else [*spans, [name, start, end, word]]
        before = word
    texts = [[name, item["text"][start:end]] for name, start, end, _ in spans]
    return {"answer": texts, "score": float(shares.mean()), "spans": [[a, b] for _, a, b, _ in spans]}
