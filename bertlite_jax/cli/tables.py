"""Figures as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def print_figures(title: str, figures: dict[str, Any]) -> None:
    """Prints a table with a row for each figure. Nested figures are left out."""
    from rich.table import Table

    from bertlite_jax.report import terminal

    table = Table("figure", "value", title=title)
    for name, value in figures.items():
        if not isinstance(value, dict) and not (isinstance(value, list) and value and isinstance(value[0], dict)):
            table.add_row(name, _shown(value))
    terminal.open_console().print(table)


def print_rows(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Prints a table with a column for each name that a row has, `folder` excepted."""
    from rich.table import Table

    from bertlite_jax.report import terminal

    names = list(dict.fromkeys(name for row in rows for name in row if name != "folder"))
    table = Table(*names, title=title)
    for row in rows:
        table.add_row(*(_shown(row[name], "g") if name in row else "" for name in names))
    terminal.open_console().print(table)


def _shown(value: object, number: str = ",.4f") -> str:
    if isinstance(value, float):
        return f"{value:{number}}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
