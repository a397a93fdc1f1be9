"""Several labels for each example: whether lists are 0 and 1 for each label, and whether a separator divides cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from bertlite_jax.data.tasks.own import labels
from bertlite_jax.errors import UserError


class Vectors:
    """Collects the labels of a training file to tell 0 and 1 for each label from numbers of labels.

    Args:
      names: that were said.
    """

    def __init__(self, names: Sequence[str]):
        self.placed: Counter[int] = Counter()
        """Place in the list -> how many examples have a 1 there."""
        self._names = tuple(names)
        self._widths: Counter[int] = Counter()
        self._first: dict[int, tuple[str, Any]] = {}
        """Width, 0 for all that is no vector -> place and value of the first."""
        self._repeats = False
        """Whether 0 or 1 occurs twice in a list, which numbers of labels would not."""

    def add(self, value: Any, where: str) -> None:
        """Looks at the label of one example.

        Raises:
          UserError: a list has -1 beside 0 and 1.
        """
        self._refuse_minus_1(value, where)
        single = isinstance(value, list) and len(value) == 1 and labels.is_vector(value * 2)
        bits = value if single or labels.is_vector(value) else []
        self._widths[len(bits)] += 1
        self._first.setdefault(len(bits), (where, value))
        ones = [labels.bit(each, where) for each in bits]
        self._repeats |= len(set(ones)) < len(ones)
        self.placed.update(place for place, each in enumerate(ones) if each)

    def width(self) -> int:
        """How many labels each list is for; 0 if the lists hold names or numbers of labels.

        Raises:
          UserError: most lists are 0 and 1 for each label, and one has another length; or all have one number.
        """
        if set(self._widths) == {1}:
            return self._of_one()
        if len(self._widths) == 1:
            return next(iter(self._widths))
        vectors = sum(count for width, count in self._widths.items() if width > 1)
        if not self._repeats or 2 * vectors < self._widths.total():
            return 0
        usual = max((width for width in self._widths if width > 1), key=lambda width: self._widths[width])
        where, value = next(first for width, first in self._first.items() if width != usual)
        raise UserError(
            f"task: {where}: the label {_shown(value)}, and most are lists of {usual} numbers 0 and 1, one for each "
            "label"
        )

    def _of_one(self) -> int:
        if len(self._names) == 1:
            return 1
        if self._names:
            return 0
        where, value = self._first[1]
        raise UserError(
            f"task: {where}: each label is a list of one number 0 or 1, such as {_shown(value)}; --data.label-names "
            "with one name if 1 says that it applies, with two if 0 and 1 are their numbers"
        )

    def _refuse_minus_1(self, value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) < 2 or "-1" in self._names:
            return
        bits = [each for each in value if labels.plain(str(each).strip()) != "-1"]
        if len(bits) < len(value) and (not bits or labels.is_vector(bits * 2)):
            raise UserError(
                f"task: {where}: the label {_shown(value)} has -1 where 0 or 1 is expected, for a label that is given "
                "or not"
            )


class Separators:
    """Collects cells to find a separator between labels that was not said."""

    def __init__(self) -> None:
        self._several = False
        self._found: tuple[str, str, str] | None = None

    def add(self, cell: str, parts: Sequence[Any], where: str) -> None:
        """Looks at a cell and at the labels that it was divided into."""
        self._several |= len(parts) > 1
        if len(parts) == 1 and self._found is None and not cell.strip().startswith("["):
            for separator in (";", ",", "；", "，", "、"):
                if sum(bool(part.strip()) for part in cell.split(separator)) > 1:
                    self._found = where, cell.strip(), separator
                    return

    def refuse(self, separator: str) -> None:
        """Raises UserError if no cell has two labels, and one has a comma or a semicolon."""
        if self._found and not self._several:
            where, cell, found = self._found
            raise UserError(
                f"task: {where}: {cell[:40]!r} has no {separator!r} between labels, nor has any other line; several "
                f"labels? --data.separator '{found}' (one label: --data.kind classify)"
            )


def _shown(value: Any) -> str:
    return f"{str(value)[:40]}{' ..' if len(str(value)) > 40 else ''}"
