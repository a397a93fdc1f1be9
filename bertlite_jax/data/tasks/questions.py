"""Questions about a text, from files laid out like SQuAD's, with a rule for everything that can be wrong in them.

Four layouts are known. SQuAD's own (1.1, 2.0 and their followers: CMRC 2018's squad-style files, DRCD, KorQuAD):
`data`, `paragraphs`, `qas`; also a list of its articles or paragraphs, or one of them alone. CMRC 2018's first release:
a list of `context_text` and `qas` with `query_text`, whose answers have no offsets. One question a line, with `answers`
either as SQuAD's list or as the columns `{"text": [...], "answer_start": [...]}` in which data set libraries export
them; and a list of such questions, by itself or as `data`.

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
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from bertlite_jax.data.tasks import files
from bertlite_jax.data.tasks.example import Example
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
                    f"task: {raw.where}: the id {example.id} occurs twice, first in {seen[example.id]}; "
                    "ids must be unique in a split"
                )
            seen[example.id] = path
            yield example


# --- Layouts ---------------------------------------------------------------------------------------------------------


def _nested(path: str) -> Iterator[_Raw]:
    """The questions of a whole JSON file: SQuAD's `data`, a list of what `_asked_in` knows, or one such thing."""
    # Halves of surrogate pairs are found question by question, and told with its id.
    content = json_files.loads(files.whole_text(path), path, "task", by_line=True, names_once=True)
    if isinstance(content, list):
        parts = {f"{path}: [{number}]": part for number, part in enumerate(content)}
    elif isinstance(content, dict) and not any(map(content.__contains__, _LAYOUTS)):
        parts = {f"{path}: data[{number}]": part for number, part in enumerate(_items(content, "data", path))}
    else:
        parts = {path: content}
    for place, part in parts.items():
        yield from _asked_in(part, place)


def _lines(path: str) -> Iterator[_Raw]:
    """One question a line, or one article or paragraph; blank lines do not count."""
    for number, line in files.lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        part = json_files.loads(line, where, "task", names_once=True)
        nested = isinstance(part, dict) and any(name in part for name in _LAYOUTS)
        yield from _asked_in(part, where) if nested else (_raw_of(part, str(number), where),)


_LAYOUTS = ("paragraphs", "qas", "context_text", "context")
"""Fields that tell an article, a paragraph, one of CMRC 2018's first release, and a question with its context."""


def _asked_in(part: Any, place: str) -> Iterator[_Raw]:
    """The questions in an article, in a paragraph, or in an object that is one question with its context."""
    if _is_flat(part):
        yield _raw_of(part, None, place)
    elif isinstance(part, dict) and "context_text" in part:
        yield from _asked(part, place, part["context_text"], ("query_id", "query_text"))
    elif isinstance(part, dict) and ("qas" in part or "context" in part):
        yield from _asked(part, place, _field(part, "context", place), ("id", "question"))
    else:
        for number, paragraph in enumerate(_items(part, "paragraphs", place)):
            here = f"{place}.paragraphs[{number}]"
            yield from _asked(paragraph, here, _field(paragraph, "context", here), ("id", "question"))


def _is_flat(part: Any) -> bool:
    """Whether an object is one question with its context, as data set libraries export them."""
    return isinstance(part, dict) and "question" in part and "context" in part


def _has_lines(path: str) -> bool:
    """Whether a file has one question on each line, by its name or, if it is called .json, by its first line."""
    return files.suffix_of(path) == ".jsonl" or _is_flat(files.object_in(files.first_line(path)))


def _asked(paragraph: Any, place: str, context: Any, names: tuple[str, str]) -> Iterator[_Raw]:
    """The questions about one context; `names` are the fields of their ids and texts."""
    for index, qa in enumerate(_items(paragraph, "qas", place)):
        where = f"{place}.qas[{index}]"
        question = _field(qa, names[1], where)
        identity = qa.get(names[0])
        yield _Raw(where if identity is None else f"{where} ({identity})", identity, question, context,
                   _answers_of(qa), qa.get("is_impossible"))  # fmt: skip


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
    return _Raw(shown, identity, question, _field(qa, "context", where), _answers_of(qa), qa.get("is_impossible"))


def _answers_of(qa: dict[str, Any]) -> Any:
    """`answers`, or the one in `answer`, which may have its place in `answer_start`; None if there is neither."""
    if qa.get("answers") is not None or qa.get("answer") is None:
        return qa.get("answers")
    answer = qa["answer"]
    if isinstance(answer, str) and "answer_start" in qa:
        return [{"text": answer, "answer_start": qa["answer_start"]}]
    return [answer] if isinstance(answer, str | dict) else answer


def _field(mapping: Any, key: str, where: str) -> Any:
    if not isinstance(mapping, dict):
        raise UserError(f"task: {where}: {type(mapping).__name__} instead of an object with the field {key!r}")
    if key not in mapping:
        raise UserError(f"task: {where}: no field {key!r}; it has {', '.join(map(repr, mapping)) or 'none'}")
    return mapping[key]


def _items(mapping: Any, key: str, where: str) -> list[Any]:
    value = _field(mapping, key, where)
    if not isinstance(value, list):
        raise UserError(f"task: {where}: {key} is {type(value).__name__} and must be a list")
    return value


# --- One question ----------------------------------------------------------------------------------------------------


def _example(raw: _Raw, notes: Notes) -> Example:
    if not isinstance(raw.id, str | int) or isinstance(raw.id, bool) or raw.id == "":
        raise UserError(f"task: {raw.where}: the id is {raw.id!r} and must be a string")
    question, context = _text(raw.question, "question", raw.where), _text(raw.context, "context", raw.where)
    raw = raw._replace(impossible=_is_impossible(raw))
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
        raise UserError(f"task: {raw.where}: it has answers and is_impossible is true; only one can be right")
    answers = tuple(_placed(text, start, context, raw.where, notes) for text, start in given)
    notes.counts["answers"] += len(answers)
    notes.counts["without_answer"] += not answers
    return Example(str(raw.id), question, context, label=int(bool(answers)), answers=answers)


def _is_impossible(raw: _Raw) -> bool | None:
    """What `is_impossible` says, if it says something. Raises UserError where it is neither true nor false."""
    said = raw.impossible.strip().casefold() if isinstance(raw.impossible, str) else raw.impossible
    if said in (None, ""):
        return None
    if said in (True, False, "true", "false"):
        return said in (True, "true")
    raise UserError(f"task: {raw.where}: is_impossible is {raw.impossible!r} and must be true or false")


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"task: {where}: the {name} is {type(value).__name__} and must be a string")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise UserError(f"task: {where}: the {name} has half of a surrogate pair, which is not a character")
    return value


def _given(raw: _Raw) -> list[tuple[str, int | None]]:
    """Texts and offsets of the answers, in whichever layout."""
    answers, where = raw.answers, raw.where
    if isinstance(answers, dict):
        texts, starts = _items(answers, "text", where), _items(answers, "answer_start", where)
        if len(texts) != len(starts):
            raise UserError(f"task: {where}: {len(texts)} answer texts and {len(starts)} offsets")
        answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(answers, list):
        raise UserError(f"task: {where}: answers is {type(answers).__name__} and must be a list")
    given = []
    for answer in answers:
        text = answer if isinstance(answer, str) else _field(answer, "text", where)
        start = None if isinstance(answer, str) else answer.get("answer_start")
        if start is not None and (not isinstance(start, int) or isinstance(start, bool)):
            raise UserError(f"task: {where}: answer_start is {start!r} and must be a whole number of characters")
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
