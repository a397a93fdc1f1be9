"""What a user says about files of their own, and the names that are found without being said."""

from __future__ import annotations

import dataclasses
from typing import Literal

Kind = Literal["auto", "classify", "multi_label", "regression", "choose", "tag"]
Decimal = Literal["auto", ".", ","]

TEXT = ("text", "text1", "sentence", "sentence1", "premise", "question", "question_stem", "text_a", "question1")
PAIR = ("pair", "text2", "sentence2", "hypothesis", "text_b", "question2")
LABEL = ("label", "labels", "gold_label", "score", "answerKey")
WORDS = ("tokens", "words")
TAGS = ("tags", "labels", "ner_tags")
IDS = ("id", "idx", "index")
MAYBE_IDS = ("guid", "uuid", "uid", "nr", "no", "number", "row_id", "example_id", "sentence_id", "text_id")
CHOICES = ("choices",)
"""Usual names of columns or fields, in the order in which they are looked for; upper and lower case are the same.

`MAYBE_IDS` are ids only where no value occurs twice."""

DELIMITERS = (",", ";", "\t", "|")
"""What is recognised between the columns of a table."""


@dataclasses.dataclass(frozen=True)
class OwnOptions:
    """How files of one's own are read. What is left empty is recognised in the first file."""

    kind: Kind = "auto"
    """What is predicted. `auto`: `tag` for lists of words and for CoNLL columns, `multi_label` for lists of labels,
    otherwise `classify`. `multi_label`: a list of names or of 0 and 1, or one string with `separator` between names;
    `regression`: a number; `choose`: the number of the right choice from 0, its letter or its text; `tag`: a tag for
    each word."""
    text: str = ""
    """Column or field of the text; for `tag`, of the list of words."""
    pair: str = ""
    """Column or field of the second text; if there is none, examples are single texts."""
    label: str = ""
    """Column or field of the label; for `tag`, of the list of tags. Several columns of 0 and 1 with commas between
    their names are several labels."""
    id: str = ""
    """Column or field of the id; if there is none, ids are the numbers of the examples from 1, in JSON lines those of
    the lines."""
    choices: tuple[str, ...] = ()
    """For `choose`: a field with a list, or one column each; empty: the field `choices`."""
    label_names: tuple[str, ...] = ()
    """Names of the outputs in their order, or a file with one on each line; the files may have their numbers from 0
    instead. More than the files have are allowed. Empty: the labels of the training file, numbers by size, others by
    alphabet."""
    own_names: tuple[str, ...] = ()
    """What a trained model calls its outputs, where `label_names` are other names for them."""
    separator: str = "|"
    """Between the labels of one example, for `multi_label` in CSV and TSV."""
    delimiter: str = ""
    """Between the columns of a table; empty: recognised from its header."""
    decimal: Decimal = "auto"
    """Sign before the fractions of a `regression`'s numbers, for a column in which it could stand between thousands:
    1.234 among others with three digits behind the point. `auto`: such a column is refused."""
    single: bool = False
    """Texts are single: only a column that was named is a second text, not one with a usual name for it."""
    skip_unlabelled: bool = False
    """Leave out training and validation examples without a label; otherwise they are refused."""
