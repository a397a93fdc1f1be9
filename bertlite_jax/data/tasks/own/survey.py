"""One look at a training file: what is taken for text and label, and how often each label occurs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from bertlite_jax.data.tasks import fields, layouts
from bertlite_jax.data.tasks.files import Record
from bertlite_jax.data.tasks.own import conll, json_values, labels, odd_labels, vectors
from bertlite_jax.data.tasks.own.columns import columns_of, missing_label
from bertlite_jax.data.tasks.own.formats import OwnFile
from bertlite_jax.data.tasks.own.options import Decimal, Kind, OwnOptions
from bertlite_jax.data.tasks.own.reader import lacks_label, tag_names
from bertlite_jax.data.tasks.own.whole_columns import decimal_sign, notes_on_size, with_point
from bertlite_jax.data.tasks.task import Columns
from bertlite_jax.errors import UserError

_MOST_SHOWN = 12


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a training file holds."""

    path: str
    kind: Kind
    """Not `auto`."""
    columns: Columns
    names: tuple[str, ...]
    """Of the outputs."""
    counts: Mapping[str, int]
    """Label -> how many examples (for `tag` words) have it. None for regression and choices."""
    examples: int
    delimiter: str = ""
    vector: bool = False
    """Several labels are written as 0 and 1 for each."""
    named: bool = False
    """The names were said, or stored in the file, and numbers from 0 stand for them."""
    numbers: tuple[float, float] | None = None
    """Least and greatest of a regression."""
    decimal: Decimal = "auto"
    """Decimal sign of a regression, if it is known."""
    notes: tuple[str, ...] = ()
    """Lines on what may be meant otherwise than it is read."""

    @property
    def imbalanced(self) -> bool:
        """Whether one label of several has more than nine tenths of the examples."""
        return self.kind == "classify" and max(self.counts.values(), default=0) > 0.9 * sum(self.counts.values())

    def in_words(self) -> list[str]:
        """Lines for the user: file and columns, then the labels with their counts, the commonest first."""
        parts = [_number(self.examples, "sentence" if self.kind == "tag" else "example"), f"kind {self.kind}"]
        parts += [f"{part} in {_listed(names)}" for part, names in self._columns() if names]
        if self.delimiter not in ("", ",", "\t"):
            parts.append(f"columns divided by {self.delimiter}")
        shown = [f"{self.path}: {', '.join(parts)}"]
        if self.numbers:
            shown.append("labels: numbers from {:g} to {:g}".format(*self.numbers))
        if self.counts:
            common = sorted(self.counts, key=lambda name: (-self.counts[name], name))
            more = f" and {len(common) - _MOST_SHOWN} more" if len(common) > _MOST_SHOWN else ""
            listed = ", ".join(f"{labels.shown(name)} ({self.counts[name]:,})" for name in common[:_MOST_SHOWN])
            shown.append(f"{_number(len(common), 'tag' if self.kind == 'tag' else 'label')}: {listed}{more}")
            if len(common) > _MOST_SHOWN and 2 * len(common) > self.examples and self.kind == "classify":
                column = _listed(self.columns.label)
                shown.append(
                    f"most labels occur once: is {column} the label's column? --data.label-column names another"
                )
        return [*shown, *self.notes]

    def _columns(self) -> list[tuple[str, tuple[str, ...]]]:
        columns = self.columns
        words = "words" if self.kind == "tag" else "text"
        label = "tags" if self.kind == "tag" else "label"
        return [(words, columns.text), ("pair", columns.pair), ("choices", columns.choices), (label, columns.label)]


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names[:6])) + (", .." if len(names) > 6 else "")


def survey(file: OwnFile, options: OwnOptions, kind: Kind) -> Survey:
    """Reads a training file once, without keeping its examples.

    Args:
      file: whose format is known.
      options: what was said.
      kind: what is predicted, not `auto`.

    Raises:
      UserError: it has no labels, or labels that cannot be meant; names the line where there is one.
    """
    if file.format == "text":
        raise UserError(f"task: {file.path}: this is plain text without labels; a table with a header is expected")
    if file.format == "columns":
        return _of_columns(file, options)
    columns = columns_of(file.names, options, kind, f"{file.path}:{file.first_line}", file)
    if not any(name in file.names for name in columns.label):
        raise missing_label(columns, file, options, kind)
    shown = dataclasses.replace(columns, label=tuple(name for name in columns.label if name in file.names))
    made = {"choose": _of_choices, "regression": _of_numbers, "tag": _of_tags, "multi_label": _of_several}
    found = made.get(kind, _of_labels)(file, columns, options)
    notes = (*found.notes, *_unused_names(file, found), *_unread_texts(file, columns, options, kind))
    return dataclasses.replace(found, columns=shown, delimiter=file.delimiter, notes=notes)


def _unused_names(file: OwnFile, found: Survey) -> list[str]:
    """A line for names beside the examples of a JSON file, where labels are numbers without names."""
    if file.format != "json" or found.named or not found.names or not all(name.isdecimal() for name in found.names):
        return []
    field, names = json_values.names_beside(file.path)
    shown = " ".join(map(labels.typed, names))
    return [f"{field!r} beside the examples is not read; --data.label-names {shown} names the labels"] if names else []


def _unread_texts(file: OwnFile, columns: Columns, options: OwnOptions, kind: Kind) -> list[str]:
    """A line for a column with a text of several words that is not read, where only one text is."""
    read = (*columns.text, *columns.pair, *columns.label, *columns.id, *columns.choices)
    words = [
        name
        for name, value in file.first.items()
        if name not in read and isinstance(value, str) and len(value.split()) > 2 and fields.listed(value) is None
    ]
    if not words or columns.pair or kind in ("choose", "tag") or options.single:
        return []
    return [f"{_listed(tuple(words))} not read; --data.pair-column {labels.typed(words[0])} reads it as a second text"]


def _rows(file: OwnFile, kind: Kind, columns: Columns, options: OwnOptions) -> Iterator[tuple[str, Record]]:
    for line, record in file.records(Counter()):
        if not (options.skip_unlabelled and lacks_label(record, columns, kind, options.label_names)):
            yield f"{file.path}:{line}", record


def _value(record: Record, columns: Columns, where: str, file: OwnFile, kind: Kind) -> Any:
    """The label of an example. Raises UserError if it is missing; says in how many examples."""
    value = fields.find(record, columns.label, where)
    if fields.is_missing(value):
        shown = "" if fields.is_blank(value) else " (null)" if value is None else f" ({str(value).strip()!r})"
        found = [lacks_label(each, columns, kind) for _, each in file.records(Counter())]
        raise UserError(
            f"task: {where}: no label{shown}; only a test split may lack them, and {sum(found):,} of {len(found):,} "
            "examples do; --data.skip-unlabelled leaves them out"
        )
    return value


def _of_choices(file: OwnFile, columns: Columns, options: OwnOptions) -> Survey:
    return Survey(file.path, "choose", columns, (), {}, sum(1 for _ in _rows(file, "choose", columns, options)))


def _of_numbers(file: OwnFile, columns: Columns, options: OwnOptions) -> Survey:
    least, greatest, count, total, squares = float("inf"), float("-inf"), 0, 0.0, 0.0
    sign = decimal_sign(file, columns, options.decimal)
    commas = file.delimiter == ";" or sign == ","
    for where, record in _rows(file, "regression", columns, options):
        value = _value(record, columns, where, file, "regression")
        number = _number_of(with_point(value) if commas else value, where)
        least, greatest, count = min(least, number), max(greatest, number), count + 1
        total, squares = total + number, squares + number**2
    if not count:
        raise UserError(f"task: {file.path}: it has no label")
    return Survey(
        file.path,
        "regression",
        columns,
        ("score",),
        {},
        count,
        numbers=(least, greatest),
        decimal=sign,
        notes=notes_on_size(total / count, squares / count),
    )


def _number_of(value: Any, where: str) -> float:
    try:
        return fields.number(value, where)
    except UserError as error:
        if isinstance(value, list | dict) or any(each.isdecimal() for each in str(value)):
            raise
        raise UserError(f"{error}; names are learnt as classes with --data.kind classify") from error


def _of_labels(file: OwnFile, columns: Columns, options: OwnOptions) -> Survey:
    spellings: Counter[str] = Counter()
    places: dict[str, str] = {}
    texts = odd_labels.Texts(file.delimiter)
    for where, record in _rows(file, "classify", columns, options):
        value = fields.find(record, columns.label, where)
        column = next(name for name in columns.label if name in record)
        named = isinstance(value, str | int) and str(value).strip() in options.label_names
        if not named and labels.is_withheld(value, column, bool(options.label_names or _stored(file, columns))):
            continue
        value = value if named else _value(record, columns, where, file, "classify")
        name = fields.label_name(value, where)
        spellings[name] += 1
        places.setdefault(name, where)
        texts.add(record.get(columns.text[0]), where)
        if len(spellings) > 2 * labels.MOST_LABELS:
            break
    odd_labels.refuse_joined_lines(places, file.delimiter)
    if said := options.label_names or _stored(file, columns):
        _refuse_numbers_beyond(labels.Names(said, numbered=True), places)
    found = _of_names("classify", spellings, spellings.total(), file, columns, options)
    return dataclasses.replace(found, notes=(*found.notes, *texts.notes(found.names)))


def _refuse_numbers_beyond(names: labels.Names, places: Mapping[str, str]) -> None:
    """Raises UserError if a number stands for no name. `places`: label -> file and line of its first example."""
    unknown = next((name for name in places if names.is_beyond(name)), None)
    if unknown is None:
        return
    numbers = [int(labels.plain(name)) for name in places if names.is_number(name)]
    try:
        fields.label_index(names.names, unknown, places[unknown])
    except UserError as error:
        raise UserError(
            f"{error}; numbers count from 0, so these are 0 to {len(names.names) - 1}, and the file has "
            f"{min(numbers)} to {max(numbers)}"
        ) from error


def _notes(names: labels.Names, spellings: Mapping[str, int]) -> tuple[str, ...]:
    """Lines on labels that may be meant otherwise: numbers from 1, -1 beside 0 and 1, and `NA`."""
    notes = []
    if {labels.same(name) for name in names.names} == {-1, 0, 1} and not names.numbered:
        withheld = sum(count for name, count in spellings.items() if labels.is_minus_1(name))
        notes.append(f"-1 ({withheld:,}) is a label like 0 and 1; --data.label-names 0 1 leaves its examples out")
    numbers = {int(labels.plain(name)) for name in spellings if names.is_number(name)}
    if numbers and 0 not in numbers and max(numbers) == len(names.names) - 1:
        notes.append(f"no example has the number 0, which is {names.names[0]}: numbers of labels count from 0")
    gaps = sorted(name for name in spellings if name.casefold() in labels.GAPS)
    if gaps and not names.numbered:
        notes.append(f"taken as names of labels: {_listed(tuple(gaps))}; leave out examples that have no label")
    return tuple(notes)


def _stored(file: OwnFile, columns: Columns) -> tuple[str, ...]:
    """Names of the classes in a Parquet file."""
    return next((file.class_names[name] for name in columns.label if name in file.class_names), ())


def _of_names(
    kind: Kind, spellings: Counter[str], examples: int, file: OwnFile, columns: Columns, options: OwnOptions,
    longest: int = 0,
) -> Survey:  # fmt: skip
    """The survey of labels that are names or numbers of names. `longest`: words of the longest sentence of a file."""
    said = options.label_names or _stored(file, columns)
    if kind == "tag" and not said:
        labels.refuse_zero_tag(spellings, file.path)
        labels.refuse_small_tags(spellings, file.path)
        odd_labels.refuse_other_spans(spellings, file.path)
        odd_labels.refuse_ignored(tuple(spellings), spellings, file.path, "tag")
    if kind == "multi_label" and not said:
        odd_labels.refuse_scores_in_lists(tuple(spellings), file.path)
    names = said or labels.names_of(spellings, file.path, explicit=options.kind != "auto")
    if kind == "classify" and options.kind == "auto" and not said:
        labels.refuse_joined(names, file.path)
        odd_labels.refuse_lists(names, file.path)
    if kind in ("classify", "multi_label") and not said:
        odd_labels.refuse_ignored(names, spellings, file.path)
        labels.refuse_minus_1(names, spellings, file.path, several=kind == "multi_label")
    counts = _counted(spellings, names, bool(said))
    notes = _notes(labels.Names(names, bool(said)), spellings)
    notes += odd_labels.tag_notes(spellings, longest) if kind == "tag" and not said else ()
    return Survey(file.path, kind, columns, names, counts, examples, named=bool(said), notes=notes)


def _counted(spellings: Counter[str], names: tuple[str, ...], numbered: bool) -> dict[str, int]:
    finder, counts = labels.Names(names, numbered), dict.fromkeys(names, 0)
    for name, count in spellings.items():
        place = finder.index(name)
        if place is not None:
            counts[names[place]] += count
    return counts


def _of_several(file: OwnFile, columns: Columns, options: OwnOptions) -> Survey:
    if len(columns.label) > 1 and all(name in file.names for name in columns.label):
        return _of_bits(file, columns, options)
    spellings: Counter[str] = Counter()
    found, separators = vectors.Vectors(options.label_names), vectors.Separators()
    examples = 0
    for where, record in _rows(file, "multi_label", columns, options):
        value = next((record[name] for name in columns.label if name in record), None)
        if value is None or (fields.is_missing(value) and not fields.is_blank(value)):
            _value(record, columns, where, file, "multi_label")
        if isinstance(value, str):
            parts = fields.label_parts(value, columns.separator)
            separators.add(value, parts, where)
            value = value if parts == [value] else parts
        found.add(value, where)
        spellings.update(fields.label_names(value, columns.separator, where))
        examples += 1
    if width := found.width():
        names = options.label_names or tuple(str(place) for place in range(width))
        if len(names) != width:
            raise UserError(
                f"task: {file.path}: each label is a list of {width} numbers 0 and 1, and --data.label-names lists "
                f"{len(names)} names"
            )
        counts = {name: found.placed[place] for place, name in enumerate(names)}
        return Survey(file.path, "multi_label", columns, names, counts, examples, vector=True)
    if not options.label_names:
        separators.refuse(columns.separator)
    return _of_names("multi_label", spellings, examples, file, columns, options)


def _of_bits(file: OwnFile, columns: Columns, options: OwnOptions) -> Survey:
    names = options.label_names or columns.label
    if len(names) != len(columns.label):
        raise UserError(
            f"task: {file.path}: {len(columns.label)} columns of labels, and {len(names)} --data.label-names"
        )
    counts, examples = dict.fromkeys(names, 0), 0
    for where, record in _rows(file, "multi_label", columns, options):
        for name, column in zip(names, columns.label, strict=True):
            counts[name] += labels.bit(record.get(column), f"{where}: {column}")
        examples += 1
    return Survey(file.path, "multi_label", columns, names, counts, examples, vector=True)


def _of_tags(file: OwnFile, columns: Columns, options: OwnOptions) -> Survey:
    field = next(name for name in columns.label if name in file.names)
    numbered = bool(options.label_names or _stored(file, columns))
    spellings: Counter[str] = Counter()
    examples = 0
    for where, record in _rows(file, "tag", columns, options):
        tags = record.get(field)
        tags = fields.listed(tags) if isinstance(tags, str) else tags
        if not isinstance(tags, list):
            advice = (
                "; one label for a whole text is learnt with --data.kind classify"
                if isinstance(record.get(field), str)
                else ""
            )
            raise UserError(f"task: {where}: {field!r} is not a list of tags{advice}")
        spellings.update(tag_names(tags, field, numbered, where))
        examples += 1
    return _of_names("tag", spellings, examples, file, columns, options)


def _of_columns(file: OwnFile, options: OwnOptions) -> Survey:
    spellings: Counter[str] = Counter()
    examples = longest = 0
    form = conll.form_of(file.path, options)
    for line, _, words, tags in layouts.column_sentences(file.path, Counter(), form):
        if tags is None:
            raise UserError(f"task: {file.path}:{line}: no tags; only a test split may lack them")
        spellings.update(tags)
        examples, longest = examples + 1, max(longest, len(words))
    named = form.names or ("first column",) * (form.word + 1) + ("last column",)
    columns = Columns(text=(named[form.word],), label=(named[form.tag],))
    return _of_names("tag", spellings, examples, file, columns, options, longest)
