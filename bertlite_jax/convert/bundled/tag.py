"""What a tagger reads and answers. A word has the label of its first piece; words behind the cut have none."""

import numpy as np

from bertlite_jax.convert.bundled.words import split_words


def read(item, about):
    """[words]; ValueError if the input has neither words nor a text."""
    text, places = words_of(item, about)
    return [[text[start:end] for start, end in places]]


def answer(item, row, outputs, tokenizer, about):
    """{"answer": [[label, text], ...], "score": the mean probability, "spans": [[first character, end], ...]}.

    Characters of words that were given as a list are those of the words joined by spaces.
    """
    odds = np.exp(outputs["logits"] - outputs["logits"].max(-1, keepdims=True))
    shares, before = odds.max(-1) / odds.sum(-1), None
    text, places = words_of(item, about)
    tags = ["O"] * len(places)
    for word, best in zip(row.word_ids, odds.argmax(-1), strict=True):
        if word is not None and word != before:
            tags[word] = about["labels"][best]
        before = word
    spans = [(label, places[first][0], places[end - 1][1]) for label, first, end in spans_of(tags)]
    texts = [[label, text[start:end]] for label, start, end in spans]
    return {"answer": texts, "score": float(shares.mean()), "spans": [[start, end] for _, start, end in spans]}


def words_of(item, about):
    """The text, and (first character, end) of each of its words."""
    text, words = item.get("text"), item.get("words")
    if words is None and isinstance(text, str):
        return text, split_words(text, about["splits"])
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError('an input of this model is {"text": "..."} or {"words": ["...", "..."]}')
    ends = [sum(map(len, words[: n + 1])) + n for n in range(len(words))]
    return " ".join(words), [(end - len(word), end) for word, end in zip(words, ends, strict=True)]


def spans_of(tags):
    """[(label, first word, end word), ...] of BIO or BIOES tags.

    A span starts at B-x, and at an I-x that follows no B-x or I-x. E ends a span and S is one word; L, U and M of other
    schemes are read as E, S and I. A tag without such a prefix is a span of one word.
    """
    spans, before = [], ("", "")
    for number, tag in enumerate(tags):
        place, dash, name = tag.partition("-")
        place = {"L": "E", "U": "S", "M": "I"}.get(place, place) if dash else ""
        if place in ("I", "E") and before in (("B", name), ("I", name)):
            spans[-1] = (*spans[-1][:2], number + 1)
        elif tag != "O":
            spans.append((name if place in ("B", "I", "E", "S") else tag, number, number + 1))
        before = place, name
    return spans
