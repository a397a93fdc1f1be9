"""Examples from records and CoNLL columns of one's own files."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks import fields, layouts
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.files import Record
from bertlite_jax.data.tasks.own import conll, labels
from bertlite_jax.data.tasks.own.columns import columns_of, kind_of_head
from bertlite_jax.data.tasks.own.formats import OwnFile, open_file
from bertlite_jax.data.tasks.own.options import Kind, OwnOptions
from bertlite_jax.data.tasks.own.whole_columns import has_decimal_commas, is_separated, with_point
from bertlite_jax.data.tasks.task import Columns
from bertlite_jax.errors import UserError

UNKNOWN = -1
"""Label of a word whose tag the model lacks, for `features.encode`."""


def examples(
    path: str,
    head: Head,
    options: OwnOptions,
    counts: Counter[str],
    unknown: dict[str, int],
    labelled: bool = True,
) -> Iterator[tuple[int, Example]]:
    """The examples of any file of one's own, for a model that is trained already.

    Labels are read where the file has them, and may be missing in every line. Columns that the head does not need are
    left out.

    Args:
      path: a file in any format but plain text.
      head: of the model, not for spans.
      options: what was said when the model was trained; a column that this file lacks may have a usual name instead.
      counts: as of `tasks.read`.
      unknown: labels that the head lacks are added, with how often they occur. Their indices follow on the head's, in
        the order of this dictionary.
      labelled: read labels; otherwise no example has one, whatever the file holds.

    Raises:
      UserError: the file or a line cannot be read, or the text's column is missing.
    """
    file = open_file(path, options)
    reader = Reader(
        options, kind_of_head(head), head.labels, unknown=unknown, needs_labels=False, counts=counts, labelled=labelled
    )
    return reader.read(file, strict=False)


def within(example: Example, head: Head) -> Example:
    """The example without labels that the head lacks: no label, no tag of a word, or one label less of several."""
    label, outputs = example.label, len(head.labels)
    if head.kind == "tag" and isinstance(label, tuple):
        return dataclasses.replace(example, label=tuple(tag if tag < outputs else UNKNOWN for tag in label))
    if head.kind != "classify" or head.problem == "regression":
        return example
    if isinstance(label, tuple):
        return dataclasses.replace(example, label=label[:outputs])
    return dataclasses.replace(example, label=None) if label is not None and label >= outputs else example


class Reader:
    """Makes examples of one kind from records.

    Args:
      options: how labels are written.
      kind: what is predicted, not `auto`.
      names: of the head's outputs.
      unknown: see `examples`; None: unknown labels are refused.
      needs_labels: an example without a label is refused.
      labelled: labels are read; see `examples`.
      vector: several labels are written as a list of 0 and 1; None: what each list looks like decides.
      counts: `other_spellings` (labels that are known only in another case) and what `layouts` counts are added to.
      odd_tags: is told what is wrong with tags that are left out.
      without_labels: what to do to leave out labels that cannot be read, for the end of a message.
    """

    def __init__(
        self,
        options: OwnOptions,
        kind: Kind,
        names: tuple[str, ...],
        *,
        unknown: dict[str, int] | None,
        needs_labels: bool,
        counts: Counter[str],
        vector: bool | None = None,
        labelled: bool = True,
        odd_tags: Callable[[str], None] = lambda problem: None,
        without_labels: str = "",
    ):
        self.options, self.unknown, self.needs_labels = options, unknown, needs_labels
        self.kind: Kind = kind
        self.labelled, self._places = labelled, {name: place for place, name in enumerate(unknown or ())}
        self.names = labels.Names(names, numbered=bool(options.label_names), own=options.own_names)
        self.counts, self.vector = counts, vector
        self.decimal_commas: Callable[[], bool] = lambda: False
        self._odd_tags, self._without_labels = odd_tags, without_labels

    def read(self, file: OwnFile, strict: bool = True) -> Iterator[tuple[int, Example]]:
        """(number of its line, example) of a file. `strict` as for `columns_of`."""
        if file.format == "columns":
            return self._of_columns(file.path)
        if file.format == "text":
            raise UserError(f"task: {file.path}: this is plain text; a table with a header, JSON or CoNLL is expected")
        where = f"{file.path}:{file.first_line}"
        columns = columns_of(file.names, self.options, self.kind, where, file, strict)
        self.decimal_commas = functools.cache(lambda: has_decimal_commas(file, columns, self.options.decimal))
        return self._of_records(file, columns)

    def _of_records(self, file: OwnFile, columns: Columns) -> Iterator[tuple[int, Example]]:
        for place, (line, record) in enumerate(file.records(self.counts), 1):
            skipped = self.options.skip_unlabelled and lacks_label(record, columns, self.kind, self.names.names)
            withheld = self.kind == "classify" and self._is_withheld(record, columns)
            if self.needs_labels and (skipped or withheld):
                self.counts["no_label"] += 1
                continue
            # The objects of a list may stand in one line, and a row of a table in several.
            number = line if file.format == "json_lines" else place
            yield line, self.example(record, columns, number, f"{file.path}:{line}")

    def _is_withheld(self, record: Record, columns: Columns) -> bool:
        column = next((name for name in columns.label if name in record), "")
        if not column or "-1" in self.names.names:
            return False
        # A validation file may have -1 where the training file has no example without a label.
        return labels.is_withheld(record[column], column, self.names.numbered) or self.names.lacks_label(
            str(record[column]).strip()
        )

    def example(self, record: Record, columns: Columns, number: int, where: str) -> Example:
        """The example of one record; `columns` as of `columns_of`. `number` is the id of one that has none."""
        identity = fields.identity(record, columns, number)
        if self.kind == "tag":
            return self._tagged(identity, record, columns, where)
        text = fields.text(record, columns.text, where)
        if "\0" in text:
            self.counts["texts_with_zero_bytes"] += 1
        if self.kind == "choose":
            flat, marks = _flat_choices(record, columns)
            offered = layouts.offered_choices(flat, columns.choices, where)
            chosen = self._chosen(record, columns, offered, marks, where) if self.labelled else None
            return Example(identity, text, choices=offered, label=chosen)
        # A pair that a model's training data had may be missing where the model answers single texts.
        pair = fields.text(record, columns.pair, where) if columns.pair else None
        return Example(identity, text, pair, label=self._label(record, columns, where) if self.labelled else None)

    # --- Labels of texts ---------------------------------------------------------------------------------------------

    def _label(self, record: Record, columns: Columns, where: str) -> int | float | tuple[int, ...] | None:
        if self.kind == "multi_label" and len(columns.label) > 1 and all(name in record for name in columns.label):
            return tuple(labels.bit(record[name], f"{where}: {name}") for name in columns.label)
        value = next((record[name] for name in columns.label if name in record), None)
        if self.kind == "multi_label":
            return self._several(value, record, columns, where)
        if fields.is_missing(value) and not (isinstance(value, str) and value.strip() in self.names.names):
            return self._missing(record, columns, where, value)
        if self.kind == "regression":
            return self._number(value, where)
        return self._index(fields.label_name(value, where), where)

    def _number(self, value: Any, where: str) -> float:
        try:
            return fields.number(with_point(value) if is_separated(value) and self.decimal_commas() else value, where)
        except UserError as error:
            raise UserError(f"{error}{self._without_labels}") from error

    def _several(self, value: Any, record: Record, columns: Columns, where: str) -> tuple[int, ...] | None:
        if value is None or (fields.is_missing(value) and not fields.is_blank(value)):
            return self._missing(record, columns, where, value)
        if isinstance(value, str):
            value = fields.label_parts(value, columns.separator)
        count = len(self.names.names)
        if self.vector or (self.vector is None and self._looks_like_vector(value)):
            if not isinstance(value, list) or len(value) != count:
                size = len(value) if isinstance(value, list) else 1
                raise UserError(f"task: {where}: {size} of 0 and 1, and there are {count} labels")
            return tuple(labels.bit(each, where) for each in value)
        chosen = {self._index(name, where) for name in fields.label_names(value, columns.separator, where)}
        known = max(count, *(place + 1 for place in chosen if place is not None)) if chosen else count
        return tuple(int(place in chosen) for place in range(known))

    def _looks_like_vector(self, value: Any) -> bool:
        """Whether 0 and 1 are for each of the head's labels, rather than the numbers of two labels."""
        if not labels.is_vector(value) or len(value) != len(self.names.names):
            return False
        return len({str(each) for each in value}) < len(value) or self.names.names == ("0", "1") or len(value) > 2

    def _missing(self, record: Record, columns: Columns, where: str, value: Any) -> None:
        if not self.needs_labels:
            return
        fields.find(record, columns.label, where)
        shown = "" if fields.is_blank(value) else " (null)" if value is None else f" ({str(value).strip()!r})"
        raise UserError(
            f"task: {where}: no label{shown}; only a test split may lack them; --data.skip-unlabelled leaves out such "
            "examples"
        )

    def _index(self, name: str, where: str) -> int | None:
        place = self.names.index(name)
        if place is not None:
            same = self.names.names[place]
            if labels.plain(name) != labels.plain(same) and labels.same(name) == labels.same(same):
                self.counts["other_spellings"] += 1
            return place
        if not self.needs_labels and self.names.lacks_label(name):
            return None
        if self.unknown is None:
            return fields.label_index(self.names.names, name, where)
        self.unknown[name] = self.unknown.get(name, 0) + 1
        return len(self.names.names) + self._places.setdefault(name, len(self.unknown) - 1)

    def _chosen(
        self, record: Record, columns: Columns, offered: tuple[str, ...], marks: list[str], where: str
    ) -> int | None:
        """The number of the right choice, from its mark where choices have some, its number, its text or its letter."""
        value = next((record[name] for name in columns.label if name in record), None)
        if fields.is_missing(value):
            return self._missing(record, columns, where, value)
        name = labels.plain(fields.label_name(value, where))
        if len(marks) == len(offered) and name in marks:
            return marks.index(name)
        places = [str(place) for place in range(len(offered))]
        if name not in places and name in offered:
            return offered.index(name)
        letter = ord(name.upper()) - ord("A") if re.fullmatch("[A-Za-z]", name) else -1
        if 0 <= letter < len(offered):
            return letter
        if name == "-1" and not self.needs_labels:
            return None
        return fields.label_index(places, name, where)

    # --- Words with tags ---------------------------------------------------------------------------------------------

    def _of_columns(self, path: str) -> Iterator[tuple[int, Example]]:
        form = conll.form_of(path, self.options, strict=False)  # The training file was asked for them.
        for line, name, words, tags in layouts.column_sentences(path, self.counts, form):
            if tags is None and self.needs_labels:
                raise UserError(f"task: {path}:{line}: no tags; only a test split may lack them")
            layouts.count_odd_words(words, self.counts)
            tags = tags if self.labelled else None
            # Between the words of CoNLL-U are lines that are none.
            place = f"{path}:{line}: word {{}}" if form.universal else ""
            label = (
                None
                if tags is None
                else self._tags(tags, lambda at, p=place, n=line: p.format(at + 1) or f"{path}:{n + at}")
            )
            yield line, Example(name, " ".join(words), words=words, label=label)

    def _tagged(self, identity: str, record: Record, columns: Columns, where: str) -> Example:
        value = record.get(columns.text[0])
        if isinstance(value, str):
            parts = fields.listed(value)
            value = value if parts is None else parts
            record = {**record, columns.text[0]: value}
        if isinstance(value, str) and not self.needs_labels:
            if self.labelled and (column := next((name for name in columns.label if record.get(name)), "")):
                given = f"{columns.text[0]!r} is a text, and the tags in {column!r} need a list of its words"
                self._odd_tags(f'{given}, such as ["a", "word"] beside ["O", "B-X"]')
            return Example(identity, value)
        words = fields.strings(record, columns.text[0], where)
        tags = next((record[name] for name in columns.label if record.get(name) is not None), None)
        if self.labelled and isinstance(tags, str) and not fields.is_blank(tags) and fields.listed(tags) is None:
            self._odd_tags(f'{columns.label[0]!r} holds {tags[:40]!r}, which is no list of tags such as ["O", "B-X"]')
        tags = (fields.listed(tags) if isinstance(tags, str) else tags) if self.labelled else None
        if tags is None and self.needs_labels:
            raise UserError(f"task: {where}: no tags; only a test split may lack them")
        if not words and not self.needs_labels:
            return Example(identity, "")
        if not words:
            raise UserError(f"task: {where}: no words to tag; leave the empty sentence out")
        if tags is not None and (not isinstance(tags, list) or len(tags) != len(words)):
            size = f"{len(tags)} tags" if isinstance(tags, list) else "no list of tags"
            raise UserError(f"task: {where}: {len(words)} words and {size}")
        layouts.count_odd_words(words, self.counts)
        spelled = None if tags is None else tag_names(tags, columns.label[0], bool(self.options.label_names), where)
        label = None if spelled is None else self._tags(spelled, lambda place: f"{where}: word {place + 1}")
        return Example(identity, " ".join(words), words=words, label=label)

    def _tags(self, tags: tuple[str, ...], where: Callable[[int], str]) -> tuple[int, ...] | None:
        """The indices of tags; None if one is kept secret."""
        indices = [self._index(tag, where(place)) for place, tag in enumerate(tags)]
        return tuple(index for index in indices if index is not None) if None not in indices else None


def lacks_label(record: Record, columns: Columns, kind: Kind, names: Sequence[str] = ()) -> bool:
    """Whether a record has no label, or no tags. `names`: of labels, one of which may be `nan`.

    A blank cell of a list of labels is no label of them, which is an answer.
    """
    several = [record[name] for name in columns.label if name in record]
    if kind == "multi_label" and len(columns.label) > 1 and len(several) == len(columns.label):
        return all(map(fields.is_missing, several))
    value = next(iter(several), None)
    if isinstance(value, str) and (value.strip() in names or (kind == "multi_label" and fields.is_blank(value))):
        return False
    return fields.is_missing(value)


def _flat_choices(record: Record, columns: Columns) -> tuple[Record, list[str]]:
    """The record with a list of texts for its choices, and their marks, if they have some.

    ARC and OpenBookQA have choices as objects, marked A to D or 1 to 4.
    """
    name = columns.choices[0]
    value = record.get(name)
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        marks = value.get("label")
        return {**record, name: value["text"]}, list(map(str, marks)) if isinstance(marks, list) else []
    if isinstance(value, list) and value and all(isinstance(each, dict) and "text" in each for each in value):
        marked = all("label" in each for each in value)
        return {**record, name: [each["text"] for each in value]}, [str(each["label"]) for each in value if marked]
    return record, []


def tag_names(tags: list[Any], field: str, numbered: bool, where: str) -> tuple[str, ...]:
    """The tags of a sentence as strings.

    Raises:
      UserError: one is neither a string nor a number, or is empty; or it is a number and the names are not said.
    """
    if not all(isinstance(tag, str | int) and not isinstance(tag, bool) for tag in tags):
        raise UserError(f"task: {where}: {field!r} is not a list of strings")
    if not numbered and any(isinstance(tag, int) for tag in tags):
        raise UserError(
            f"task: {where}: the tags in {field!r} are numbers; name them from 0: --data.label-names O B-PER I-PER .."
        )
    if any(map(fields.is_blank, tags)):
        raise UserError(f"task: {where}: an empty tag in {field!r}")
    return tuple(str(tag).strip() for tag in tags)


def unknown_in_words(unknown: Mapping[str, int]) -> str:
    """`x (2), y (1)`: labels that a model lacks, with how often they occur."""
    shown = ", ".join(f"{name} ({count:,})" for name, count in list(unknown.items())[:12])
    return shown + (", ..." if len(unknown) > 12 else "")
