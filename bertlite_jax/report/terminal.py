"""Where tables are printed."""

from __future__ import annotations

import os

from rich.console import Console

COLUMNS = 120
"""Width of tables that are not printed to a terminal: Rich's 80 would cut their cells."""


def open_console() -> Console:
    """A console as wide as the terminal; where output goes to a file or a pipe, as `$COLUMNS` says, or of `COLUMNS`."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = COLUMNS
    return console
