"""What only a whole column tells: whether its values are ids, and how its numbers are written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from bertlite_jax.data.tasks import fields
from bertlite_jax.data.tasks.own import labels
from bertlite_jax.data.tasks.own.columns import first_of
from bertlite_jax.data.tasks.own.formats import OwnFile
from bertlite_jax.data.tasks.own.options import IDS, MAYBE_IDS, OwnOptions
from bertlite_jax.data.tasks.task import Columns

_NO_GROUPS = re.compile(r"[+-]?(0\d*,\d+|\d+,(\d{1,2}|\d{4,}))")
"""Numbers with a comma that cannot stand between thousands."""


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


def has_decimal_commas(file: OwnFile, columns: Columns) -> bool:
    """Whether the numbers of a file's labels have a comma where others have a decimal point.

    Some have a comma that cannot stand between thousands, and none has a point. The file is read once.
    """
    values = (
        next((record[name] for name in columns.label if name in record), None) for _, record in file.records(Counter())
    )
    return _are_decimal_commas(values)


def _are_decimal_commas(values: Iterable[Any]) -> bool:
    sure = False
    for value in values:
        if fields.is_missing(value):
            continue
        text = str(value).strip()
        if "." in text:
            return False
        sure = sure or (isinstance(value, str) and _NO_GROUPS.fullmatch(text) is not None)
    return sure


def with_point(value: Any) -> Any:
    """A number with a decimal comma as one with a point; anything else as it is."""
    if isinstance(value, str) and labels.DECIMAL_COMMA.fullmatch(value.strip()):
        return value.replace(",", ".")
    return value
