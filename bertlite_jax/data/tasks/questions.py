"""Questions about a text, from files laid out like SQuAD's, with a rule for everything that can be wrong in them.

Four layouts are known. SQuAD's own (1.1, 2.0 and their followers: CMRC 2018's squad-style files, DRCD, KorQuAD):
`data`, `paragraphs`, `qas`. CMRC 2018's first release: a list of `context_text` and `qas` with `query_text`, whose
answers have no offsets. One question a line, with `answers` either as SQuAD's list or as the columns
`{"text": [...], "answer_start": [...]}` in which data set libraries export them; and a list of such questions, by
itself or as `data`.

What can be wrong, and what happens:

* broken JSON, bad UTF-8, a missing field, a field of the wrong type, half of a surrogate pair: refused;
* no id: the number of the question in its file, or of its line;
* an id that occurs twice, answers beside `is_impossible`: refused;
* an answer that is not at its offset: moved to the nearest place where it occurs (`moved_answers`);
* an answer without an offset: placed where it occurs first (`placed_answers`);
* an answer that does not occur in its context, or an empty one: kept with the place -1 (`missing_answers`); it counts
  in the score, as in the official scorers, but nothing can be learnt from it;
* an empty question or context: kept (`empty_questions`, `empty_contexts`), as in the official totals.

Source: rajpurkar/SQuAD-explorer, evaluate-v2.0.py; ymcui/cmrc2018, squad-style-data and README.md.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.files import refuse_utf16
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files

MOST_LINES = 100
"""How many odd things are reported one by one; all are counted."""

NO_PLACE = -1
"""First character of an answer that does not occur in its context."""


@dataclasses.dataclass
class Notes:
    """Counts by name, and a line with file and question id for each odd thing in the files."""

    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    lines: list[str] = dataclasses.field(default_factory=list)

    def add(self, name: str, line: str) -> None:
        """Counts under `name`, and notes `line` if it is one of the first `MOST_LINES`."""
        self.counts[name] += 1
        if len(self.lines) < MOST_LINES:
            self.lines.append(line)


class _Raw(NamedTuple):
    """A question as its file has it; `where` names file and place."""

    where: str
    id: Any
    question: Any
    context: Any
    answers: Any
    impossible: Any


def read(paths: Iterable[str], notes: Notes | None = None) -> Iterator[Example]:
    """The questions of one split, in the order of its files.

    Args:
      paths: files; .jsonl ones are read a line at a time, others whole.
      notes: is added to. Counts: questions, without_answer, unlabelled, answers, and those of the list above.

    Yields:
      Examples with `text` the question, `pair` the context, `answers` (text, first character in the context, or -1),
      and `label` 1 if there is an answer, 0 if there is none, None if the file does not say.

    Raises:
      UserError: see the list above; names the file and the question's id, or the line or place.
    """
    notes = Notes() if notes is None else notes
    seen: dict[str, str] = {}
    for path in paths:
        for number, raw in enumerate(_lines(path) if _has_lines(path) else _nested(path), 1):
            if raw.id is None:
                raw = raw._replace(id=str(number))
            example = _example(raw, notes)
            if example.id in seen:
                raise UserError(
                    f"questions: {raw.where}: the id {example.id} occurs twice, first in {seen[example.id]}; "
                    "ids must be unique in a split"
                )
            seen[example.id] = path
            yield example


# --- Layouts ---------------------------------------------------------------------------------------------------------


def _parse(text: bytes, where: str, first_line: int = 0) -> Any:
    refuse_utf16(text[:64], where, "questions")
    try:
        return json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = first_line or text.count(b"\n", 0, error.start) + 1
        raise UserError(f"questions: {where}:{line}: invalid UTF-8 (byte {text[error.start]:#04x})") from error
    except json.JSONDecodeError as error:
        line = first_line or error.lineno
        raise UserError(f"questions: {where}:{line}: broken JSON: {error.msg} (column {error.colno})") from error
    except RecursionError as error:
        raise UserError(f"questions: {where}: broken JSON: nested too deeply") from error
    except ValueError:
        # Says what it is, in one line.
        json_files.parse(text, f"{where}:{first_line}" if first_line else where, "questions")
        raise


def _nested(path: str) -> Iterator[_Raw]:
    """SQuAD's layout, or CMRC 2018's first one."""
    try:
        with open(path, "rb") as file:
            content = _parse(file.read(), path)
    except OSError as error:
        raise UserError(f"questions: {path}: cannot be read: {error.strerror or error}") from error
    if isinstance(content, list):
        for number, part in enumerate(content):
            place = f"{path}: [{number}]"
            if _is_flat(part):
                yield _raw_of(part, None, place)
                continue
            yield from _asked(part, place, _field(part, "context_text", place), ("query_id", "query_text"))
        return
    for article_number, article in enumerate(_items(content, "data", path)):
        place = f"{path}: data[{article_number}]"
        if _is_flat(article):
            yield _raw_of(article, None, place)
            continue
        for number, paragraph in enumerate(_items(article, "paragraphs", place)):
            here = f"{place}.paragraphs[{number}]"
            yield from _asked(paragraph, here, _field(paragraph, "context", here), ("id", "question"))


def _is_flat(part: Any) -> bool:
    """Whether an object is one question with its context, as data set libraries export them."""
    return isinstance(part, dict) and "question" in part and "context" in part


def _has_lines(path: str) -> bool:
    """Whether a file has one question on each line, by its name or, if it is called .json, by its first line."""
    if path.endswith(".jsonl"):
        return True
    try:
        with open(path, "rb") as file:
            return _is_flat(json.loads(file.readline(1 << 20)))
    except (OSError, ValueError, RecursionError):
        return False


def _asked(paragraph: Any, place: str, context: Any, names: tuple[str, str]) -> Iterator[_Raw]:
    """The questions about one context; `names` are the fields of their ids and texts."""
    for index, qa in enumerate(_items(paragraph, "qas", place)):
        where = f"{place}.qas[{index}]"
        question = _field(qa, names[1], where)
        identity = qa.get(names[0])
        yield _Raw(where if identity is None else f"{where} ({identity})", identity, question, context,
                   qa.get("answers"), qa.get("is_impossible"))  # fmt: skip


def _lines(path: str) -> Iterator[_Raw]:
    """One question a line; blank lines do not count."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                qa = _parse(line, path, number)
                yield _raw_of(qa, str(number), where)
    except OSError as error:
        raise UserError(f"questions: {path}: cannot be read: {error.strerror or error}") from error


def of_record(record: Any, number: int, where: str, notes: Notes) -> Example:
    """The example of one object with a question, its context, and perhaps answers.

    Args:
      record: `question`, `context`, `id`, `answers` and `is_impossible` as in a line of a .jsonl file.
      number: the id, if it has none.
      where: file and line, for messages.
      notes: is added to as by `read`.

    Raises:
      UserError: as `read`.
    """
    return _example(_raw_of(record, str(number), where), notes)


def _raw_of(qa: Any, number: str | None, where: str) -> _Raw:
    question = _field(qa, "question", where)
    identity = qa.get("id")
    shown = where if identity is None else f"{where} ({identity})"
    identity = number if identity is None else identity
    return _Raw(shown, identity, question, _field(qa, "context", where), qa.get("answers"), qa.get("is_impossible"))


def _field(mapping: Any, key: str, where: str) -> Any:
    if not isinstance(mapping, dict):
        raise UserError(f"questions: {where}: {type(mapping).__name__} instead of an object with the field {key!r}")
    if key not in mapping:
        raise UserError(f"questions: {where}: no field {key!r}; it has {', '.join(map(repr, mapping)) or 'none'}")
    return mapping[key]


def _items(mapping: Any, key: str, where: str) -> list[Any]:
    value = _field(mapping, key, where)
    if not isinstance(value, list):
        raise UserError(f"questions: {where}: {key} is {type(value).__name__} and must be a list")
    return value


# --- One question ----------------------------------------------------------------------------------------------------


def _example(raw: _Raw, notes: Notes) -> Example:
    if not isinstance(raw.id, str | int) or isinstance(raw.id, bool) or raw.id == "":
        raise UserError(f"questions: {raw.where}: the id is {raw.id!r} and must be a string")
    question, context = _text(raw.question, "question", raw.where), _text(raw.context, "context", raw.where)
    notes.counts["questions"] += 1
    for name, value in (("question", question), ("context", context)):
        if not value.strip():
            notes.add(f"empty_{name}s", f"{raw.where}: empty {name}")
    if raw.answers is None:
        # A test set without answers, or a question that has is_impossible alone.
        notes.counts["without_answer" if raw.impossible else "unlabelled"] += 1
        return Example(str(raw.id), question, context, label=0 if raw.impossible else None)
    given = _given(raw)
    if given and raw.impossible:
        raise UserError(f"questions: {raw.where}: it has answers and is_impossible is true; only one can be right")
    answers = tuple(_placed(text, start, context, raw.where, notes) for text, start in given)
    notes.counts["answers"] += len(answers)
    notes.counts["without_answer"] += not answers
    return Example(str(raw.id), question, context, label=int(bool(answers)), answers=answers)


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"questions: {where}: the {name} is {type(value).__name__} and must be a string")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise UserError(f"questions: {where}: the {name} has half of a surrogate pair, which is not a character")
    return value


def _given(raw: _Raw) -> list[tuple[str, int | None]]:
    """Texts and offsets of the answers, in whichever layout."""
    answers, where = raw.answers, raw.where
    if isinstance(answers, dict):
        texts, starts = _items(answers, "text", where), _items(answers, "answer_start", where)
        if len(texts) != len(starts):
            raise UserError(f"questions: {where}: {len(texts)} answer texts and {len(starts)} offsets")
        answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(answers, list):
        raise UserError(f"questions: {where}: answers is {type(answers).__name__} and must be a list")
    given = []
    for answer in answers:
        text = answer if isinstance(answer, str) else _field(answer, "text", where)
        start = None if isinstance(answer, str) else answer.get("answer_start")
        if start is not None and (not isinstance(start, int) or isinstance(start, bool)):
            raise UserError(f"questions: {where}: answer_start is {start!r} and must be a whole number of characters")
        given.append((_text(text, "answer", where), start))
    return given


def _placed(text: str, start: int | None, context: str, where: str, notes: Notes) -> tuple[str, int]:
    """The answer, and where it begins in the context."""
    if text.strip():
        if start is not None and start >= 0 and context.startswith(text, start):
            return text, start
        place = _nearest(text, context, start or 0)
        if place != NO_PLACE:
            if start is None:
                notes.counts["placed_answers"] += 1
            else:
                notes.add("moved_answers", f"{where}: answer {text!r} is at {place}, not at {start}")
            return text, place
    notes.add("missing_answers", f"{where}: answer {text!r} is not in its context")
    return text, NO_PLACE


def _nearest(text: str, context: str, start: int) -> int:
    """The place of `text` in `context` that is nearest to `start`, of two the first; -1 if there is none."""
    at = min(max(start, 0), len(context))
    before = context.rfind(text, 0, at + len(text))
    after = context.find(text, at)
    if before == -1 or after == -1:
        return max(before, after)
    return before if start - before <= after - start else after
