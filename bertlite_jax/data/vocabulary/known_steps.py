"""Whether a pipeline of the `tokenizers` library is built of the very steps that a fast codec of ours stands for.

Equal ids on the check texts do not show it: a step that replaces `colour`, or long numbers, meets none of them. So the
types of the steps and their parameters are compared.
"""

from __future__ import annotations

import itertools
from typing import Any

from bertlite_jax.data.vocabulary.word_starts import SPACE

Step = dict[str, Any]

_QUOTES: list[Step] = [
    {"type": "Replace", "pattern": {"String": "``"}, "content": '"'},
    {"type": "Replace", "pattern": {"String": "''"}, "content": '"'},
]
_WITHOUT_ACCENTS: list[Step] = [{"type": "NFKD"}, {"type": "StripAccents"}]
_LOWER: list[Step] = [{"type": "Lowercase"}]
_CHARSMAP: list[Step] = [{"type": "Precompiled"}]
_SPACES: list[Step] = [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]
_WORDS: list[Step] = [
    {"type": "WhitespaceSplit"},
    {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True},
]


def are_bert(file: Step) -> bool:
    """Whether these are BERT's steps, in any case and with Chinese characters apart or not.

    Args:
      file: what the library itself writes of a WordPiece pipeline.
    """
    model = file["model"]
    limits = (model["continuing_subword_prefix"], model["max_input_chars_per_word"])
    normalizer = flat(file["normalizer"], "normalizers")
    cleans = [(step["type"], step.get("clean_text")) for step in normalizer] == [("BertNormalizer", True)]
    splits = flat(file["pre_tokenizer"], "pretokenizers") == [{"type": "BertPreTokenizer"}]
    return cleans and splits and limits == ("##", 100)


def are_albert(file: Step) -> bool:
    """Whether these are ALBERT's steps, in any case, with accents or without, and with any character map or none.

    Args:
      file: what the library itself writes of a Unigram pipeline.
    """
    normalizer = [
        {"type": "Precompiled"} if step["type"] == "Precompiled" else step
        for step in flat(file["normalizer"], "normalizers")
    ]
    optional = (_WITHOUT_ACCENTS, _LOWER, _CHARSMAP, _SPACES)
    known = (
        sum((part for part, there in zip(optional, chosen, strict=True) if there), _QUOTES)
        for chosen in itertools.product((True, False), repeat=len(optional))
    )
    words = flat(file["pre_tokenizer"], "pretokenizers")
    return words == _WORDS and normalizer in known and not file["model"].get("byte_fallback")


def are_those_of(file: Step, other: Step) -> bool:
    """Whether two files, as the library itself writes them, have the same steps; offsets aside, which are cut here."""

    def steps_of(one: Step) -> tuple[list[Step], list[Step]]:
        words = flat(one["pre_tokenizer"], "pretokenizers")
        return flat(one["normalizer"], "normalizers"), [step | {"trim_offsets": None} for step in words]

    return steps_of(file) == steps_of(other)


def flat(step: Any, inner: str) -> list[Step]:
    """The steps in their order, those in sequences within a sequence included.

    Args:
      step: the normalizer or pre-tokenizer of a tokenizers file; None has no steps.
      inner: under which key a sequence has its steps.
    """
    found: list[Step] = []
    waiting = [step]
    while waiting:
        first = waiting.pop(0)
        if isinstance(first, dict) and isinstance(first.get(inner), list):
            waiting = first[inner] + waiting
        elif isinstance(first, dict):
            found.append(first)
    return found
