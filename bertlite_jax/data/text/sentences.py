"""Paragraphs become sentences."""

from __future__ import annotations

import re
from collections import Counter

from sentencex import segment  # pyright: ignore[reportAttributeAccessIssue]

from bertlite_jax.errors import UserError

SENTENCE_LIMIT = 4000
"""Characters. What is longer is cut at a space: sentencex takes time quadratic in the length of text beyond ASCII
(419 s for a Chinese line of 1 MB), and no window is that long anyway."""

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA = re.compile("[\u3040-\u30ff]")
_CODES = (
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el "
    "en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu "
    "ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na "
    "nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn "
    "so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
"""Codes of two letters (ISO 639-1). Those of three letters are too many to list."""


def check_language(job: str, language: str) -> None:
    """Raises UserError for what is no code of a language: `auto`, `en`, `nds`, `zh-hant`."""
    code, _, variant = language.partition("-")
    known = code in _CODES.split() or re.fullmatch("[a-z]{3}", code)
    if language != "auto" and not (known and re.fullmatch("[A-Za-z0-9-]*", variant)):
        raise UserError(f"{job}: language = {language!r} is no code of a language, such as en or zh; auto finds it")


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

    Examples:
      >>> from bertlite_jax.data.text.sentences import split_paragraph
      >>> split_paragraph("Dr. Watson came at 5 p.m. yesterday. He did not stay.", "en")
      ['Dr. Watson came at 5 p.m. yesterday.', 'He did not stay.']
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
