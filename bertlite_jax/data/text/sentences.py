"""Paragraphs become sentences."""

from __future__ import annotations

import re
from collections import Counter

from sentencex import segment  # pyright: ignore[reportAttributeAccessIssue]

SENTENCE_LIMIT = 4000
"""Characters. What is longer is cut at a space: sentencex takes time quadratic in the length of text beyond ASCII
(419 s for a Chinese line of 1 MB), and no window is that long anyway."""

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA = re.compile("[\u3040-\u30ff]")


def language_of(text: str) -> str:
    """`ja`, `zh` or `en`, by the script of the first two thousand characters; `en` stands for all spaced languages."""
    text = text[:2000]
    if text.isascii() or len(_HAN.findall(text)) + len(_KANA.findall(text)) < 0.2 * len(text):
        return "en"
    return "ja" if len(_KANA.findall(text)) > 0.05 * len(text) else "zh"


def split_paragraph(paragraph: str, language: str, counts: Counter[str] | None = None) -> list[str]:
    """The sentences of one paragraph, without white space around them.

    Args:
      paragraph: text without line breaks, of any length.
      language: a code that sentencex knows (`en`, `zh`, `de`, ...); for others it falls back to general rules.
      counts: `cut_sentences` grows by the number of places where text was cut for its length.
    """
    sentences, start = [], 0
    while len(paragraph) - start > SENTENCE_LIMIT:
        block = paragraph[start : start + SENTENCE_LIMIT]
        # The last sentence may go on behind the block, so the next block begins with it.
        complete = segment(language, block)[:-1]
        if not complete:
            complete = [_cut(block)]
            if counts is not None:
                counts["cut_sentences"] += 1
        sentences += complete
        start += sum(map(len, complete))
    sentences += segment(language, paragraph[start:])
    return [stripped for sentence in sentences if (stripped := sentence.strip())]


def _cut(text: str) -> str:
    """`text` up to its last space, or all of it."""
    return text[: text.rfind(" ") + 1] or text


def _cut_line(line: str, counts: Counter[str] | None) -> list[str]:
    parts, start = [], 0
    while len(line) - start > SENTENCE_LIMIT:
        parts.append(_cut(line[start : start + SENTENCE_LIMIT]))
        start += len(parts[-1])
    if counts is not None:
        counts["cut_sentences"] += len(parts)
    return [stripped for part in (*parts, line[start:]) if (stripped := part.strip())]


def split_document(
    paragraphs: list[str],
    language: str = "auto",
    one_sentence_per_line: bool = False,
    counts: Counter[str] | None = None,
) -> list[str]:
    """The sentences of a document in order.

    Args:
      paragraphs: lines of the document.
      language: a language code, or `auto`: by the script of the document's first characters.
      one_sentence_per_line: the lines are sentences already; only those beyond `SENTENCE_LIMIT` are cut.
      counts: see `split_paragraph`.
    """
    if one_sentence_per_line:
        return [part for line in paragraphs for part in _cut_line(line, counts)]
    if language == "auto":
        language = language_of(" ".join(paragraphs[:20]))
    return [sentence for paragraph in paragraphs for sentence in split_paragraph(paragraph, language, counts)]
