"""Windows of examples, where a model is calibrated or compared on tables, JSON or CoNLL columns and not on prose.

They are those that the model will see: a pair is one window with its two segments, a choice is one with its premise, a
question stands before each part of its text, and words that are tagged are cut one by one.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from bertlite_jax.config.finetune import Examples
from bertlite_jax.config.model import Head
from bertlite_jax.convert.bundled.words import split_words
from bertlite_jax.data.examples import features, span_features
from bertlite_jax.data.examples.features import Encoded
from bertlite_jax.data.tasks import files, questions
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own import formats, reader
from bertlite_jax.data.tasks.own.formats import Format
from bertlite_jax.data.tasks.own.options import LABEL, PAIR, TEXT, WORDS, OwnOptions
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError

_TABLES = (".csv", ".tsv", ".tab")
_PACKED = (".zst",)
"""What only the reader of text unpacks."""


class Window(NamedTuple):
    """What a model reads at once: ids and token types, [L] int64 each, special tokens included."""

    ids: np.ndarray
    types: np.ndarray


class Cut(NamedTuple):
    """How examples are cut into windows.

    Attributes:
      tokenizer: of the model.
      length: the most tokens of a window.
      head: whose answers count; None for vectors and masks, which are those of single texts.
    """

    tokenizer: Tokenizer
    length: int
    head: Head | None


def form_of(path: str, head: Head | None, columns: OwnOptions) -> Format:
    """How a file of `--calibrate` is read: `text`, by `documents`, or as examples of one of the other formats.

    JSON lines and Parquet are text where no head says what the examples are; a folder is always text.

    Raises:
      UserError: the file cannot be read, or is a workbook.
    """
    if not pathlib.Path(path).is_file() or path.lower().endswith(_PACKED):
        return "text"
    try:
        form = formats.format_of(path, dataclasses.replace(columns, kind="auto"))
        tab_alone = form == "table" and files.suffix_of(path) not in _TABLES and not _has_known_column(path, columns)
    except UserError as error:
        raise _ours(error) from error
    return "text" if tab_alone or (head is None and form in ("json_lines", "parquet")) else form


def _has_known_column(path: str, columns: OwnOptions) -> bool:
    """Whether the first line is a header. In a file of text it may just as well be a sentence with a tab."""
    delimiter = formats.delimiter_of(path, columns)
    first = next((line for _, line in files.lines(path) if line.strip()), "")
    known = {name.casefold() for name in (columns.text, columns.pair, columns.label, *TEXT, *PAIR, *LABEL, *WORDS)}
    return bool({name.strip().casefold() for name in formats.header_fields(first, delimiter)} & (known - {""}))


def windows(path: str, form: Format, head: Head | None, columns: OwnOptions, cut: Cut) -> list[Window]:
    """The windows of each example, made of its text, pair and choices, but of no label, id or other column.

    A text that is too long is cut as for an answer (`features.encode`), not read to its end in further windows.

    Args:
      path: a file.
      form: as `form_of` says, not `text`.
      head: of the model; None: the usual names of the text's column are looked for.
      columns: as they were said when the model was trained.
      cut: how the windows are made.

    Raises:
      UserError: a line cannot be read, or no column is the text; names the file and the line.
    """
    try:
        examples = [each for each in _examples(path, form, head, columns) if _has_text(each)]
        return split(_encode(examples, cut, path)) if examples else []
    except UserError as error:
        raise _ours(error) from error


def split(encoded: Encoded) -> list[Window]:
    """The windows one by one."""
    parts = [np.split(flat.astype(np.int64), encoded.offsets[1:-1]) for flat in (encoded.tokens, encoded.types)]
    return [Window(ids, types) for ids, types in zip(*parts, strict=True)]


def _encode(examples: Iterable[Example], cut: Cut, where: str) -> Encoded:
    if cut.head is None:
        alone = (Example(each.id, text) for each in examples for text in _texts(each) if text.strip())
        return features.encode(alone, cut.tokenizer, Head(), cut.length, where)
    if cut.head.kind == "span":
        data = Examples(length=cut.length)
        return span_features.encode(examples, cut.tokenizer, data, training=False, where=where).encoded
    if cut.head.kind == "tag":
        examples = (_with_words(each, cut.head) for each in examples)
    return features.encode(examples, cut.tokenizer, cut.head, cut.length, where)


def _with_words(example: Example, head: Head) -> Example:
    """The words that a tagger answers where an example is a plain text, as a row of a table is."""
    words = example.words or tuple(example.text[start:end] for start, end in split_words(example.text, head.splits))
    return dataclasses.replace(example, words=words)


def _texts(example: Example) -> tuple[str, ...]:
    return (example.text, example.pair or "", *example.choices)


def _has_text(example: Example) -> bool:
    return any(text.strip() for text in (*_texts(example), *example.words))


def _examples(path: str, form: Format, head: Head | None, columns: OwnOptions) -> Iterator[Example]:
    if head is not None and head.kind == "span":
        whole = form == "json" or files.suffix_of(path) == ".json"
        if whole and not {columns.text, *TEXT} & set(formats.open_file(path, columns).names):
            yield from questions.read([path])
            return
        head, columns = None, dataclasses.replace(columns, pair=columns.pair or "context")
    wanted = Head(kind="tag") if form == "columns" else head or Head()
    for _, example in reader.examples(path, wanted, columns, Counter(), {}, labelled=False):
        yield example


def _ours(error: UserError) -> UserError:
    """The same error of another reader with our name before it, and without options that only `finetune` has."""
    said = str(error).partition(": ")[2]
    plain, _, advice = said.rpartition("; ")
    return UserError(f"convert: {plain if plain and '--' in advice else said}")
