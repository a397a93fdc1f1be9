"""Questions about texts, from SQuAD's files, tables, or lines of JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from bertlite_jax.data.tasks import fields, files, questions
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own import formats
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import text_lines
from bertlite_jax.jobs.answering.inputs import format_of, input_lines, place_of

_QUESTION, _CONTEXT = ("question", "text", "query"), ("context", "pair", "passage")
"""Names of the fields, in the order in which they are looked for."""


def read(inputs: str, counts: Counter[str], columns: OwnOptions | None = None) -> Iterator[Example]:
    """Yields the questions of a file, one at a time, with their answers where they are given.

    A JSON file in SQuAD's layout, or records in a list, a table, Parquet, or one a line: {"question" or "text",
    "context" or "pair"[, "id"][, "answers"]}. Other fields are ignored.

    Args:
      inputs: a file, or `-` for lines of standard input.
      counts: `text_lines.REPLACED` is added to.
      columns: `text` names the field of the question, `pair` that of its text, `id` and `delimiter` as for all files;
        None: the usual names.

    Raises:
      UserError: a line cannot be read or has no question, or an id occurs twice. The message has the line number.
    """
    seen: dict[str, str] = {}
    try:
        for at, example in _examples(inputs, counts, columns or OwnOptions()):
            if example.id in seen:
                raise UserError(f"predict: {at}: the id {example.id!r} occurs before, in {seen[example.id]}")
            seen[example.id] = at
            yield example
    except UserError as error:  # The readers' messages begin with their own names.
        raise UserError(f"predict: {str(error).partition(': ')[2]}") from error


def _examples(inputs: str, counts: Counter[str], columns: OwnOptions) -> Iterator[tuple[str, Example]]:
    form, where = format_of(inputs, columns), place_of(inputs)
    whole = form == "json" or files.suffix_of(inputs) == ".json"
    file = formats.open_file(inputs, columns) if whole or form in ("table", "parquet") else None
    if file and whole and not {columns.text, *_QUESTION} & set(file.names):
        yield from (("another place", example) for example in questions.read([inputs]))
        return
    notes = questions.Notes()
    records = file.records(counts) if file else _objects(inputs, where, counts)
    for number, (line, record) in enumerate(records, 1):
        at = f"{where}:{line}"
        # All objects of a list may stand in one line, and a row of a table in several.
        counted = number if form in ("json", "table") else line
        yield at, questions.of_record(_named(record, columns, at), counted, at, notes)


def _objects(inputs: str, where: str, counts: Counter[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in input_lines(inputs):
        if not line.strip():
            continue
        at = f"{where}:{number}"
        if not line.lstrip().startswith("{"):
            raise UserError(
                f'predict: {at}: this model answers questions about texts, so each line must be {{"question": .., '
                '"context": ..}; the name of a file in the layout of SQuAD must end in .json'
            )
        yield number, text_lines.parse_line(line, at, counts)


def _named(record: dict[str, Any], columns: OwnOptions, at: str) -> dict[str, Any]:
    """The record with `question`, `context` and `id` under these names."""
    if lost := next((name for name in (columns.text, columns.pair) if name and name not in record), ""):
        raise UserError(f"predict: {at}: no column or field {lost!r}; it has: {', '.join(list(record)[:12]) or 'none'}")
    question = next((name for name in (columns.text, *_QUESTION) if name in record), "")
    context = next((name for name in (columns.pair, *_CONTEXT) if name in record and name != question), "")
    if not question or not context:
        missing = _CONTEXT if question else _QUESTION
        raise UserError(
            f"predict: {at}: no field {' or '.join(map(repr, missing))}; this model answers questions about a text; it "
            f"has: {', '.join(list(record)[:12]) or 'none'}"
        )
    named = {"question": record[question], "context": record[context]}
    if isinstance(cell := record.get("answers"), str):
        named["answers"] = _answers_in(cell)
    return record | named | ({"id": record[columns.id]} if columns.id in record else {})


def _answers_in(cell: str) -> Any:
    """The answers in a cell of a table: a list or object as JSON or Python writes it, or one answer; None if empty."""
    listed = fields.listed(f"[{cell}]") if cell.strip().startswith(("[", "{")) else None
    if listed and len(listed) == 1 and isinstance(listed[0], list | dict):
        return listed[0]
    return None if fields.is_blank(cell) else [cell]
