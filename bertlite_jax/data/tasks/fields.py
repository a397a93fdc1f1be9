"""Values of one record: looked up by name, checked for their type, turned into labels."""

from __future__ import annotations

import ast
import io
import json
import math
import re
import tokenize
import unicodedata
from collections.abc import Sequence
from typing import Any, TypeVar

from bertlite_jax.data.tasks.files import Record
from bertlite_jax.data.tasks.task import Columns, Task, needs_labels
from bertlite_jax.errors import UserError

T = TypeVar("T")
_NAMED_ARRAY = re.compile(r"(?:tensor|array)\((\[.*?\])(?:, *dtype=[\w.]+)?\)", re.DOTALL)
_WITHOUT_COMMA = re.compile(r"""['"]\s+u?['"]""")
_PLAIN = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|True|False")
"""A number or a truth value as NumPy writes it."""
_AMOUNT = re.compile(r"([$€£¥₹₽%]|[A-Z]{3}|)\s*([+-]?\d+(?:[.,'’\u00a0\u202f ]\d+)*)\s*([$€£¥₹₽%]|[A-Z]{3}|Euro|)")
"""A number as people write it, perhaps with a currency before or behind it."""
_LARGEST = 3.4e38
"""What float32 holds, in which numbers are learnt."""
_FILLERS = "\u034f\u115f\u1160\u2800\u3164\ufe0e\ufe0f\uffa0"
"""Characters that print nothing and are in none of the categories for that: fillers, an empty cell of Braille."""


def find(record: Record, names: Sequence[str], where: str) -> Any:
    """The value under the first of the names that the record has.

    Raises:
      UserError: the record has none of these names.
    """
    for name in names:
        if name in record:
            return record[name]
    has = ", ".join(map(str, list(record)[:12])) or "none"
    raise UserError(f"task: {where}: no column or field {' or '.join(map(repr, names))}; it has: {has}")


def typed(record: Record, name: str, kind: type[T], where: str) -> T:
    """`record[name]`, which must be a `kind` (a bool is not an int).

    Raises:
      UserError: it is missing or of another type.
    """
    value = find(record, (name,), where)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise UserError(f"task: {where}: {name!r} holds {_type(value)}, not {kind.__name__}")
    return value


def text(record: Record, names: Sequence[str], where: str) -> str:
    """A string without the white space at its ends; empty if nothing of it can be seen."""
    value = find(record, names, where)
    if not isinstance(value, str):
        raise UserError(f"task: {where}: {names[0]!r} holds {_type(value)}, not a string")
    return "" if is_blank(value) else value.strip()


def _type(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def strings(record: Record, name: str, where: str) -> tuple[str, ...]:
    """A JSON list of strings."""
    values = typed(record, name, list, where)
    if not all(isinstance(value, str) for value in values):
        raise UserError(f"task: {where}: {name!r} is not a list of strings")
    return tuple(values)


def identity(record: Record, columns: Columns, line: int) -> str:
    """The id, or the number of the line if the record has no id."""
    for name in columns.id:
        if (value := record.get(name)) is not None and str(value).strip():
            return str(value).strip()
    return str(line)


def label_name(value: Any, where: str) -> str:
    """A label as the task's table spells it: `true` and `false`, the number, or the stripped string.

    Raises:
      UserError: it is a list, an object or null, or NaN or infinity.
    """
    if value is None or isinstance(value, list | dict) or (isinstance(value, float) and not math.isfinite(value)):
        kind = {list: "list", dict: "dict", float: str(value)}.get(type(value), "null")
        raise UserError(f"task: {where}: a label is {kind}; one name or number is expected")
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def label(task: Task, record: Record, split: str, where: str) -> int | float | tuple[int, ...] | None:
    """The example's label as `Example.label` wants it; None in a split that may lack labels.

    Raises:
      UserError: the label is unknown, is not a number on the task's scale where one is needed, or is missing where it
        is needed.
    """
    columns, head = task.columns, task.head
    several = head.kind == "classify" and head.problem == "multi_label"
    value = next((record[name] for name in columns.label if name in record), None)
    if value is None or (is_blank(value) and not several):
        return missing_label(record, columns.label, split, where)
    if several:
        return several_labels(head.labels, label_names(value, columns.separator, where), where)
    if head.problem == "regression":
        return _on_scale(number(value, where), task, where)
    return label_index(head.labels, label_name(value, where), where)


def _on_scale(score: float, task: Task, where: str) -> float:
    if task.scale and not task.scale[0] <= score <= task.scale[1]:
        lowest, highest = task.scale
        raise UserError(f"task: {where}: the label {score:g} is not on {task.name}'s scale, {lowest:g} to {highest:g}")
    return score


def label_names(value: Any, separator: str, where: str) -> list[str]:
    """Names of an example's labels, perhaps none: from a JSON list, or from a string with `separator` between them.

    Raises:
      UserError: one of them is missing (`is_missing`); but nothing between two separators is fine. Or as `label_name`.
    """
    values = label_parts(value, separator) if isinstance(value, str) else value if isinstance(value, list) else [value]
    if gap := next((each for each in values if is_missing(each) and not is_blank(each) and each is not None), None):
        raise UserError(f"task: {where}: one of several labels is {str(gap).strip()!r}, which is none; leave it out")
    return [name for name in (label_name(each, where) for each in values) if not is_blank(name)]


def label_parts(text: str, separator: str) -> list[Any]:
    """The parts of a cell with several labels: of the list that it holds, or between separators."""
    parts = listed(text)
    return text.split(separator) if parts is None else parts


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: null, a blank string, infinity, or NaN, which `pandas` writes as `nan`."""
    if isinstance(value, str):
        return is_blank(value) or value.strip().casefold() in ("nan", "<na>")
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def listed(text: str) -> list[Any] | None:
    """The list that a cell such as `[1, 0]`, `('a', 'b')`, `[1. 0.]` or `['a' 'b']` holds.

    JSON, Python and NumPy write them so, and so does PyTorch with `tensor(` before it. A set comes in its own order.
    NumPy leaves the middle of long arrays out, which is no list then.
    """
    text = _NAMED_ARRAY.sub(r"\1", text.strip())
    if text[:1] + text[-1:] not in ("[]", "()", "{}"):
        return None
    if (strings := _strings_apart(text)) is not None:
        return strings
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(value, set):
            return sorted(value, key=str)
        return list(value) if isinstance(value, list | tuple) else None
    parts = text[1:-1].split()
    return list(map(ast.literal_eval, parts)) if text.startswith("[") and all(map(_PLAIN.fullmatch, parts)) else None


def _strings_apart(text: str) -> list[str] | None:
    """The strings of an array of NumPy, which has no commas between them; Python would take them for one."""
    if not _WITHOUT_COMMA.search(text):
        return None
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return None
    ends = (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
    inside = [token for token in tokens if token.type not in ends][1:-1]
    if not all(token.type == tokenize.STRING for token in inside):
        return None
    return [ast.literal_eval(token.string) for token in inside]


def is_blank(value: Any) -> bool:
    """Whether a value is a string of nothing that can be seen: white space, a zero width space, a byte order mark."""
    return isinstance(value, str) and all(map(_is_unseen, value))


def _is_unseen(character: str) -> bool:
    return character in _FILLERS or unicodedata.category(character) in ("Cc", "Cf", "Zs", "Zl", "Zp")


def missing_label(record: Record, names: Sequence[str], split: str, where: str) -> None:
    """Accepts a missing label in a split that may lack labels.

    Raises:
      UserError: the split needs labels; says whether the column is missing or empty.
    """
    if needs_labels(split):
        find(record, names, where)
        raise UserError(f"task: {where}: no label; only a test split may lack them")


def label_index(labels: Sequence[str], name: str, where: str) -> int:
    """The index of a label.

    Raises:
      UserError: it is not one of the labels.
    """
    if name in labels:
        return labels.index(name)
    known = ", ".join(labels[:12]) + (", ..." if len(labels) > 12 else "")
    raise UserError(f"task: {where}: unknown label {name[:40]!r}; known are: {known}")


def several_labels(labels: Sequence[str], names: Sequence[str], where: str) -> tuple[int, ...]:
    """0 or 1 for each of the labels."""
    chosen = {label_index(labels, name, where) for name in names}
    return tuple(int(index in chosen) for index in range(len(labels)))


def number(value: Any, where: str) -> float:
    """A label that is a finite number, also as float32.

    Raises:
      UserError: it is something else.
    """
    try:
        grouped = isinstance(value, str) and "_" in value  # Python reads 1_000.
        parsed = math.nan if isinstance(value, bool) or grouped else float(value)
    except (TypeError, ValueError, OverflowError):
        parsed = math.nan
    if not abs(parsed) <= _LARGEST:
        advice = "; the largest is 3.4e38" if math.isfinite(parsed) else _spelling_advice(str(value))
        raise UserError(f"task: {where}: the label {str(value)[:40]!r} is not a finite number{advice}")
    return parsed


def _spelling_advice(text: str) -> str:
    """What to change in a number with a currency, with signs between thousands, or with a decimal comma."""
    found = _AMOUNT.fullmatch(text.strip())
    if not found:
        return ""
    unit, digits = found[1] or found[3], found[2]
    signs = sorted({sign for sign in digits if not sign.isdecimal() and sign not in "+-"}, key=digits.rfind)
    last = signs[-1] if signs else ""
    groups = [sign for sign in signs if sign != last or digits.count(sign) > 1 or sign not in ".,"]
    steps = [f"leave out {unit!r}"] if unit else []
    steps += ["remove the thousands separator"] if groups else []
    steps += ["write a decimal point instead of the comma"] if last == "," and last not in groups else []
    for sign in groups:
        digits = digits.replace(sign, "")
    listed = " and ".join([", ".join(steps[:-1]), *steps[-1:]][len(steps) < 2 :])
    return f"; {listed}: {digits.replace(',', '.')}" if steps else ""
