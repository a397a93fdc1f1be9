"""Layouts of files: one or two texts, several choices, words with tags. Each is a `task.Layout`."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from bertlite_jax.data.tasks import fields
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.files import Record, json_lines, lines, records, suffix_of
from bertlite_jax.data.tasks.task import Columns, Task, needs_labels
from bertlite_jax.errors import UserError

DOCUMENT_MARK = "-DOCSTART-"
"""CoNLL 2003's line between two documents: left out and counted."""


def texts(task: Task, path: str, split: str, counts: Counter[str]) -> Iterator[tuple[int, Example]]:
    """One text or two, and a label: CSV, TSV or JSONL."""
    columns = task.columns
    for line, record in records(path, columns, counts):
        where = f"{path}:{line}"
        yield (
            line,
            Example(
                id=fields.identity(record, columns, line),
                text=fields.text(record, columns.text, where),
                pair=fields.text(record, columns.pair, where) if columns.pair else None,
                label=fields.label(task, record, split, where),
            ),
        )


def choices(task: Task, path: str, split: str, counts: Counter[str]) -> Iterator[tuple[int, Example]]:
    """A text and its choices; the label is the number of the right one, from 0."""
    columns = task.columns
    for line, record in records(path, columns, counts):
        where = f"{path}:{line}"
        offered = offered_choices(record, columns.choices, where)
        yield (
            line,
            Example(
                id=fields.identity(record, columns, line),
                text=fields.text(record, columns.text, where),
                choices=offered,
                label=chosen(record, columns.label, offered, split, where),
            ),
        )


def offered_choices(record: Record, names: tuple[str, ...], where: str) -> tuple[str, ...]:
    """The choices of an example, from one field with a list or from one column each.

    Raises:
      UserError: there are fewer than two.
    """
    if len(names) == 1:
        offered = tuple(choice.strip() for choice in fields.strings(record, names[0], where))
    else:
        offered = tuple(fields.text(record, (name,), where) for name in names)
    if len(offered) < 2:
        raise UserError(f"task: {where}: {len(offered)} choices; two or more are expected")
    return offered


def chosen(record: Record, names: tuple[str, ...], offered: tuple[str, ...], split: str, where: str) -> int | None:
    """The label of a multiple choice: an index into `offered`, or None in a split that may lack labels."""
    value = next((record[name] for name in names if name in record), None)
    if value is None or fields.is_blank(value):
        return fields.missing_label(record, names, split, where)
    return fields.label_index([str(place) for place in range(len(offered))], fields.label_name(value, where), where)


# --- Words with tags -----------------------------------------------------------------------------------------------


def tagged_words(task: Task, path: str, split: str, counts: Counter[str]) -> Iterator[tuple[int, Example]]:
    """Sentences of tagged words: JSONL with two lists, or CoNLL columns.

    CoNLL: one word a line, the first column is the word and the last one its tag, tabs or spaces between them, a blank
    line after each sentence. A file of one column has no tags. `Example.text` is the words with spaces between.
    """
    for line, name, words, tags in sentences(task.columns, path, counts):
        where = f"{path}:{line}"
        if tags is None and needs_labels(split):
            raise UserError(f"task: {where}: no tags; only a test split may lack them")
        if tags is not None and len(tags) != len(words):
            raise UserError(f"task: {where}: {len(words)} words and {len(tags)} tags")
        count_odd_words(words, counts)
        label = None if tags is None else _tag_indices(task, path, line, tags)
        yield line, Example(id=name, text=" ".join(words), words=words, label=label)


def count_odd_words(words: tuple[str, ...], counts: Counter[str]) -> None:
    """Counts words that are empty or hold a space, as a column between tabs may."""
    counts["empty_words"] += sum(not word.strip() for word in words)
    counts["words_with_spaces"] += sum(" " in word.strip() for word in words)


Sentence = tuple[int, str, tuple[str, ...], "tuple[str, ...] | None"]
"""Line, id, words, tags."""


def sentences(columns: Columns, path: str, counts: Counter[str]) -> Iterator[Sentence]:
    """What `tagged_words` reads, before the tags are looked up."""
    if is_json(path):
        return _json_sentences(columns, path, counts)
    return column_sentences(path, counts)


def _tag_indices(task: Task, path: str, line: int, tags: tuple[str, ...]) -> tuple[int, ...]:
    known, json = task.head.labels, is_json(path)
    return tuple(
        fields.label_index(known, tag, f"{path}:{line}: word {place + 1}" if json else f"{path}:{line + place}")
        for place, tag in enumerate(tags)
    )


def is_json(path: str) -> bool:
    """Whether a file of tagged words is JSON lines, by its name."""
    return suffix_of(path) in (".jsonl", ".ndjson", ".json")


def _json_sentences(columns: Columns, path: str, counts: Counter[str]) -> Iterator[Sentence]:
    for line, record in json_lines(path, counts):
        where = f"{path}:{line}"
        words = fields.strings(record, _present(record, columns.text), where)
        tags = _present(record, columns.label)
        known = fields.strings(record, tags, where) if record.get(tags) is not None else None
        yield line, fields.identity(record, columns, line), words, known


def _present(record: Record, names: tuple[str, ...]) -> str:
    return next((name for name in names if name in record), names[0])


_COMMENT = re.compile(r"# *(newdoc|newpar|id [^ \t]*(\s+domain=.*)?$|[\w:.-]+ = )")


def is_comment(line: str) -> bool:
    """Whether a line is one of CoNLL-U's comments, such as `# sent_id = 3`, or MultiCoNER's `# id 7 domain=train`."""
    return bool(_COMMENT.match(line))


TAG = re.compile(r"O|[BIESLUM]-\S+")
"""A tag of spans."""


def free_comments(numbered: Iterable[tuple[int, str]]) -> frozenset[int]:
    """The numbers of lines with a comment of any form, such as `# exported by a program`.

    It begins with `#` and stands before the first word of a sentence. Tweets begin so, too: a line with the columns of
    the others and one of their tags, or a tag of spans, is a word.

    Args:
      numbered: (number, text) of the lines of a file in CoNLL columns, not CoNLL-U.
    """
    before_words, tags, width, tabs = True, set[str](), 0, False
    unsure: list[tuple[int, str]] = []
    for number, line in numbered:
        if is_comment(line):
            continue
        row = columns_of_line(line)
        if not line.strip() or row[0] == DOCUMENT_MARK:
            before_words = True
        elif before_words and line.startswith("#"):
            unsure.append((number, line))
        else:
            width, tabs, before_words = width or len(row), tabs or "\t" in line, False
            tags.add(row[-1])

    def is_word(line: str) -> bool:
        row = columns_of_line(line) if "\t" in line or not tabs else [line]
        return not width or (len(row) == width and (width == 1 or row[-1] in tags or bool(TAG.fullmatch(row[-1]))))

    return frozenset(number for number, line in unsure if not is_word(line))


def columns_of_line(line: str) -> list[str]:
    """The columns of a CoNLL line: between tabs if it has one, otherwise between spaces.

    Tabs and spaces at the end of the line are no column. No other white space separates columns: a word may contain a
    no-break space.
    """
    line = line.rstrip(" \t")
    return line.split("\t") if "\t" in line else [part for part in line.split(" ") if part]


_BESIDE_WORDS = re.compile(r"\d+([-.])\d+")
"""In place of a word's number: of a multiword token, `1-2`, or of an empty node, `1.1`."""


@dataclasses.dataclass(frozen=True)
class ColumnForm:
    """Which columns of a CoNLL file hold what, from 0."""

    word: int = 0
    tag: int = -1
    """-1: the last one, where there is more than one."""
    header: bool = False
    """The first line names the columns."""
    universal: bool = False
    """CoNLL-U: tabs alone divide columns, each line that begins with `#` is a comment, and lines of multiword tokens
    (`1-2`) and of empty nodes (`1.1`) are no words."""
    names: tuple[str, ...] = ()
    """Of the columns, where the file has them."""
    empty: str = ""
    """In place of the tag of every word, this says that a sentence is not annotated."""


def column_sentences(path: str, counts: Counter[str], form: ColumnForm = ColumnForm()) -> Iterator[Sentence]:
    """The sentences of a file in CoNLL columns.

    Args:
      path: the file.
      counts: `document_marks`, `comments`, `blank_lines`, `multiword_tokens` and `empty_nodes` are added to.
      form: which columns are read.

    Raises:
      UserError: a line has another number of columns than the lines before, or its tag is empty; or the words of
        CoNLL-U are not numbered from 1.
    """
    rows: list[list[str]] = []
    start = width = without_tag = 0
    comments = frozenset[int]() if form.universal else free_comments(lines(path))
    for number, line in lines(path):
        if is_comment(line) or number in comments or (form.universal and line.startswith("#")):
            counts["comments"] += 1
            continue
        row = line.split("\t") if form.universal else columns_of_line(line)
        mark = bool(row) and row[0] == DOCUMENT_MARK
        if mark or not line.strip():
            if rows:
                yield _sentence(start, rows, form)
            counts["document_marks"] += mark
            counts["blank_lines"] += not rows and not mark
            rows = []
        elif width == 1 < len(row) and without_tag:
            raise UserError(f"task: {path}:{without_tag}: an empty tag; line {number} has {len(row)} columns")
        elif width and len(row) != width:
            advice = "; a comment stands before the first word of a sentence" if line.startswith("#") else ""
            raise UserError(f"task: {path}:{number}: {len(row)} columns, and the lines before have {width}{advice}")
        elif form.header and not width:
            width = len(row)
        elif form.universal and (extra := _BESIDE_WORDS.fullmatch(row[0])):
            counts["multiword_tokens" if extra[1] == "-" else "empty_nodes"] += 1
        elif form.universal and row[0] != str(len(rows) + 1):
            raise UserError(
                f"task: {path}:{number}: the number of the word is {row[0][:40]!r}, and {len(rows) + 1} is expected; a "
                "blank line ends a sentence"
            )
        else:
            if len(row) > form.word + 1 and fields.is_blank(row[form.tag]):
                raise UserError(f"task: {path}:{number}: an empty tag")
            without_tag = without_tag or (number if "\t" in line and len(row) == 1 else 0)
            start, width = start if rows else number, len(row)
            rows.append(row)
    if rows:
        yield _sentence(start, rows, form)


def _sentence(start: int, rows: list[list[str]], form: ColumnForm) -> Sentence:
    words = tuple(row[form.word] for row in rows)
    tags = tuple(row[form.tag].strip() for row in rows) if form.tag >= 0 or len(rows[0]) > form.word + 1 else None
    return start, str(start), words, tags if tags and set(tags) != {form.empty} else None
