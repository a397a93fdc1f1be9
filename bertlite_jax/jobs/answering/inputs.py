"""What is to be answered, from whatever `finetune` reads: tables, JSON, CoNLL columns, and lines of plain text."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bertlite_jax.config.files import read_json
from bertlite_jax.config.finetune import Examples, Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights.reading import reading_in
from bertlite_jax.data import tasks
from bertlite_jax.data.tasks import files
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own import formats
from bertlite_jax.data.tasks.own.columns import check_named, columns_of, ignored_pair, kind_of_head
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.data.tasks.own.reader import Reader, unknown_in_words
from bertlite_jax.data.tasks.own.whole_columns import has_decimal_commas, id_column
from bertlite_jax.data.tasks.task import Columns
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import task_splits, text_lines

MOST_IN_A_BATCH = 1_000_000
"""Lines. More at once need more memory than they save time."""
_MOST_FORMS = 64
"""Sets of fields whose columns are remembered."""


@dataclasses.dataclass
class Notes:
    """What was odd in an input; is added to while it is read."""

    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    unknown: Counter[str] = dataclasses.field(default_factory=Counter)
    """Labels that the model does not know. Their order is that of their indices behind the known ones."""
    label: str = ""
    """A column or field that labels were looked for in."""
    unread: dict[str, None] = dataclasses.field(default_factory=dict)
    """Columns or fields that were not read, in their order."""
    ignored_pair: str = ""
    """One of them that has a usual name of a second text, where the model was trained on single texts."""

    no_tags: str = ""
    """What is wrong with the first tags that cannot be used, and what would be right."""

    def saw(self, names: Sequence[str], columns: Columns, options: OwnOptions) -> None:
        """Notes what is read of these columns or fields."""
        read = (*columns.text, *columns.pair, *columns.label, *columns.id, *columns.choices)
        self.label = self.label or next((name for name in columns.label if name in names), "")
        self.unread |= dict.fromkeys(name for name in names if name not in read)
        self.ignored_pair = self.ignored_pair or ignored_pair(names, options, columns)

    def unscored(self) -> str:
        """Why nothing is scored and what would be right; empty where the input has nothing but what is read."""
        if self.no_tags:
            return f"nothing is scored: {self.no_tags}"
        if self.label:
            return f"nothing is scored: {self.label!r} is empty; --label-column names another column with the labels"
        if not self.unread:
            return ""
        names = list(self.unread)
        shown = ", ".join(map(repr, names[:12])) + (", .." if len(names) > 12 else "")
        return (
            f"nothing is scored, as no column or field holds labels; if one of {shown} does, pass --label-column NAME"
        )

    def lines(self, known: tuple[str, ...], scored: bool = True) -> list[str]:
        """A line for each oddity. `known` are the model's labels; `scored` says whether there are metrics."""
        said = []
        if replaced := self.counts[text_lines.REPLACED]:
            said.append(f"{replaced:,} inputs with half of a surrogate pair, which is now U+FFFD")
        if odd := task_splits.in_words({name: n for name, n in self.counts.items() if name != text_lines.REPLACED}):
            said.append(odd)
        if self.ignored_pair:
            said.append(f"{self.ignored_pair!r} is not read: the model was trained on single texts")
        if self.unknown and scored:
            shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
            said.append(
                f"{self.unknown.total():,} labels are none of the model's ({shown}) and count as errors: "
                f"{unknown_in_words(self.unknown)}"
            )
        return said


def data_of_run(run: str) -> Examples | None:
    """What a fine-tuning run was trained on; None for another folder."""
    folder = pathlib.Path(run)
    return read_json(folder / "config.json", Finetuned).data if (folder / "best").is_dir() else None


def options_of_run(run: str) -> OwnOptions:
    """The columns that a model was trained on, in a run or an export of one; for another folder, none in particular."""
    reading = reading_in(run)
    if reading is None or (reading.data.task and reading.data.task not in tasks.TASKS):
        return OwnOptions()
    data, single = reading.data, reading.pairs is False
    if not data.task:
        return dataclasses.replace(task_splits.options_of(data), kind="auto", single=single, skip_unlabelled=False)
    named = tasks.TASKS[data.task].columns
    text, pair, label, identity = ((names or ("",))[0] for names in (named.text, named.pair, named.label, named.id))
    return OwnOptions(text=text, pair=pair, label=label, id=identity, choices=named.choices, single=single)


def counts_in_words(counts: Mapping[str, int], length: int = 0, cut: str = "", empty: str = "empty") -> list[str]:
    """What is worth saying of `Encoded.counts`, such as `1 of them cut to 32 tokens` and `2 empty`.

    Args:
      counts: of all that was read.
      length: most tokens in an example; 0: it is not said.
      cut: what was cut, such as `questions `.
      empty: what was empty.
    """
    parts = []
    if counts["truncated"]:
        parts.append(f"{counts['truncated']:,} {cut}cut" + (f" to {length} tokens" if length else ""))
    if counts.get("words_cut_off"):
        parts.append(f"{counts['words_cut_off']:,} words behind the cut without a tag of their own (O)")
    if counts["empty_texts"]:
        parts.append(f"{counts['empty_texts']:,} {empty}")
    return parts


def check_batch(batch: int, job: str) -> None:
    """Raises UserError for a batch of no lines, or of more than can be a batch."""
    if not 1 <= batch <= MOST_IN_A_BATCH:
        raise UserError(f"{job}: --batch {batch} must be 1 to {MOST_IN_A_BATCH:,}")


def read(
    inputs: str,
    head: Head,
    options: OwnOptions | None = None,
    notes: Notes | None = None,
    job: str = "predict",
    labelled: bool = True,
    said: OwnOptions | None = None,
) -> Iterator[Example]:
    """Yields the examples of a file, one at a time; of lists in a JSON file, all are in memory.

    Columns and fields that are not needed are ignored. Labels may be missing.

    Args:
      inputs: a file, or `-` for lines of standard input.
      head: of the model, not for spans.
      options: names of columns; where the file lacks one, the usual names are looked for.
      notes: are added to.
      job: begins the messages of errors.
      labelled: whether labels are read, where there are any. One that the head lacks gets an index behind the others.
      said: names of columns that were given for this very input, which has to have them.

    Raises:
      UserError: the file or a line cannot be read, or has no text. The message has the line number.
    """
    try:
        yield from _examples(inputs, head, options or OwnOptions(), notes or Notes(), labelled, said or OwnOptions())
    except UserError as error:  # The readers' messages begin with their own names, and end with finetune's options.
        problem = str(error).partition(": ")[2].replace("--data.label-names", "--labels").replace("--data.", "--")
        raise UserError(f"{job}: {problem}") from error


def _examples(
    inputs: str, head: Head, options: OwnOptions, notes: Notes, labelled: bool, said: OwnOptions
) -> Iterator[Example]:
    form = format_of(inputs, options)
    file = _with_columns(inputs, form, options)
    if file and not said.id:
        options = dataclasses.replace(options, id=id_column(file, options) or options.id)
    if form == "columns" and head.kind != "tag":
        raise UserError(
            f"task: {inputs}: CoNLL columns have words with tags, and this model reads texts; pass --input a file of "
            "plain text with one text on each line, or a table"
        )
    reader = Reader(
        options,
        kind_of_head(head),
        head.labels,
        unknown=notes.unknown,
        needs_labels=False,
        counts=notes.counts,
        labelled=labelled,
        odd_tags=lambda problem: setattr(notes, "no_tags", notes.no_tags or problem),
        without_labels="; --no-score leaves the labels out",
    )
    if form in ("text", "json_lines"):
        of_object = _object_reader(reader, head, options, said, notes, file)
        if file:
            read = functools.partial(columns_of, file.names, options, kind_of_head(head), inputs, strict=False)
            reader.decimal_commas = functools.cache(lambda: has_decimal_commas(file, read(), options.decimal))
        for example in text_lines.read_examples(input_lines(inputs), head, place_of(inputs), of_object, notes.counts):
            yield _with_words(example, head)
        return
    file = file or formats.open_file(inputs, options)
    if file.names:
        where = f"{file.path}:{file.first_line}"
        check_named(file.names, said, where)
        notes.saw(file.names, columns_of(file.names, options, kind_of_head(head), where, file, strict=False), options)
    yield from (_with_words(example, head) for _, example in reader.read(file, strict=False))


def _with_columns(inputs: str, form: formats.Format, options: OwnOptions) -> formats.OwnFile | None:
    """The file, which can be read twice, if it has columns or fields; None otherwise."""
    if form == "json_lines":  # Its lines are answered up to the first that cannot be read, so none is read before.
        first = files.object_in(files.first_line(inputs))
        return formats.OwnFile(inputs, form, tuple(first), first) if first else None
    return formats.open_file(inputs, options) if form in ("table", "json", "parquet") else None


def format_of(inputs: str, options: OwnOptions) -> formats.Format:
    """The format of a file; `text` for standard input and for pipes, of which nothing can be read twice."""
    if inputs == "-" or (pathlib.Path(inputs).exists() and not pathlib.Path(inputs).is_file()):
        return "text"
    return formats.format_of(inputs, dataclasses.replace(options, kind="auto"))


def input_lines(inputs: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of the lines of a file, or of standard input for `-`. Raises UserError as `files.lines`."""
    return files.decoded_lines(sys.stdin.buffer, place_of(inputs)) if inputs == "-" else files.lines(inputs)


def place_of(inputs: str) -> str:
    """The name of an input in messages."""
    return "standard input" if inputs == "-" else inputs


def _object_reader(
    reader: Reader, head: Head, options: OwnOptions, said: OwnOptions, notes: Notes, file: formats.OwnFile | None
) -> text_lines.OfObject:
    texts = dataclasses.replace(said, label="", id="")  # Not every object needs the others.
    known: dict[tuple[str, ...], Columns] = {}

    def of_object(record: dict[str, Any], line: int, where: str) -> Example:
        names = tuple(record)
        if names not in known:
            if len(known) >= _MOST_FORMS:
                known.clear()
            check_named(names, texts, where)
            # `pair` is our own name for a second text: an object that has one does not only look like a pair.
            read = dataclasses.replace(options, single=options.single and "pair" not in names)
            first = file if file and file.names == names else None  # Its rows show what its names may mean.
            known[names] = columns_of(names, read, kind_of_head(head), where, first, strict=False)
            notes.saw(names, known[names], read)
        return reader.example(record, known[names], line, where)

    return of_object


def _with_words(example: Example, head: Head) -> Example:
    """For a tagger, the words of an example that has only a text."""
    if head.kind != "tag" or example.words:
        return example
    return dataclasses.replace(example, words=text_lines.plain_words(example.text, head))
