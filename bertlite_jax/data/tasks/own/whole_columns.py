"""What only a whole column tells: whether its values are ids, how its numbers are written, and how large they are."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from bertlite_jax.data.tasks import fields
from bertlite_jax.data.tasks.own import labels
from bertlite_jax.data.tasks.own.formats import OwnFile
from bertlite_jax.data.tasks.own.options import IDS, MAYBE_IDS, Decimal, OwnOptions
from bertlite_jax.data.tasks.own.suggestions import first_of
from bertlite_jax.data.tasks.task import Columns
from bertlite_jax.errors import UserError

_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}([.,])\d{3}(?:\1\d{3})*")
"""Numbers with a sign that may stand between thousands; it does not in 0.125, 1.25 and 1234.567."""
_LARGE_DEVIATION = 20.0
"""Numbers of a regression spread further than a head learns in the usual number of steps."""
_ONE_SIGN = re.compile(r"[+-]?(?:\d+[.,]\d*|[.,]\d+)(?:[eE][+-]?\d+)?")


def id_column(file: OwnFile, options: OwnOptions) -> str:
    """The column with a name of `MAYBE_IDS` whose values are all there and all different, if no other is the id.

    Empty if there is none. The file is read once where it has a column of such a name.
    """
    taken = {options.text, options.pair, *map(str.strip, options.label.split(",")), *options.choices}
    names = [name for name in file.names if name not in taken]
    column = first_of(names, MAYBE_IDS)
    if not column or first_of(names, (options.id, *IDS)):
        return ""
    seen: set[str] = set()
    for _, record in file.records(Counter()):
        value = record.get(column)
        shown = str(value).strip()
        if not isinstance(value, str | int) or not shown or shown in seen:
            return ""
        seen.add(shown)
    return column


def has_decimal_commas(file: OwnFile, columns: Columns, decimal: Decimal) -> bool:
    """Whether a comma between digits is a decimal comma in a file's labels, which are numbers.

    It is where semicolons divide the columns, or where nothing has a point. Raises UserError as `decimal_sign`.
    """
    return decimal_sign(file, columns, decimal) == "," or file.delimiter == ";"


def decimal_sign(file: OwnFile, columns: Columns, decimal: Decimal) -> Decimal:
    """The decimal sign of a file's labels, which are numbers; `auto` if none has one, and a point beside commas.

    Args:
      file: is read once.
      columns: whose `label` holds the numbers.
      decimal: the sign where a column leaves it open.

    Raises:
      UserError: whether a comma or a point stands between thousands cannot be told, or it does.
    """
    sure: set[str] = set()
    grouped: dict[str, tuple[str, str]] = {}
    for line, record in file.records(Counter()):
        value = next((record[name] for name in columns.label if name in record), None)
        text = str(value).strip()
        signs = {sign for sign in ".," if sign in text}
        if not signs or fields.is_missing(value):
            continue
        if not isinstance(value, str):
            sure.add(".")
        elif found := _GROUPED.fullmatch(text):
            grouped.setdefault(found[1], (f"{file.path}:{line}", text))
        elif len(signs) > 1 or _ONE_SIGN.fullmatch(text):
            sure.add(max(signs, key=text.rfind))
    for sign, (where, text) in grouped.items():
        if sign not in sure and sign != decimal:
            _refuse_grouped(sign, where, text, bool(sure))
    signs = sure | grouped.keys()
    return "." if "." in signs else "," if signs else "auto"


def _refuse_grouped(sign: str, where: str, text: str, other_is_sure: bool) -> None:
    """Raises UserError for a number that may have, or has, `sign` between its thousands."""
    whole = text.replace(sign, "")
    if other_is_sure or text.count(sign) > 1:
        raise UserError(
            f"task: {where}: the label {text!r} has {sign!r} between thousands, which is not read: remove it, so that "
            f"it is {whole}"
        )
    fraction = text.replace(sign, ".")
    raise UserError(
        f"task: {where}: is the label {text!r} {whole} or {fraction}? Three digits follow on each {sign!r} of the "
        f"column; remove it where it stands between thousands, or pass --data.decimal {sign} if it is the decimal sign"
    )


def is_separated(value: Any) -> bool:
    """Whether a value is a string that may have a decimal sign, or something between thousands."""
    return isinstance(value, str) and ("," in value or "." in value)


def with_point(value: Any) -> Any:
    """A number with a decimal comma as one with a point; anything else as it is."""
    if isinstance(value, str) and labels.DECIMAL_COMMA.fullmatch(value.strip()):
        return value.replace(",", ".")
    return value


def notes_on_size(mean: float, mean_square: float) -> tuple[str, ...]:
    """A line on numbers that a head, which begins near 0 and moves by small steps, hardly reaches."""
    deviation = max(mean_square - mean**2, 0.0) ** 0.5
    if deviation <= _LARGE_DEVIATION and abs(mean) <= _LARGE_DEVIATION * max(deviation, 1.0):
        return ()
    advice = f"(label - {mean:.4g}) / {deviation:.4g}" if deviation else f"label - {mean:.4g}"
    return (
        f"numbers so large are hardly learnt (mean {mean:.4g}, standard deviation {deviation:.4g}): train on "
        f"{advice} in their place, and turn the answers back",
    )
