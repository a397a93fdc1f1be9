"""Where a benchmark's figures go: the terminal and files."""

from __future__ import annotations

import importlib.util
import os
import pathlib

from rich.console import Console

from bertlite_jax.errors import UserError

COLUMNS = 100
"""Width of tables that are not printed to a terminal."""


def open_console() -> Console:
    """A console as wide as the terminal, or of `COLUMNS` where output goes to a file or a pipe."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = COLUMNS
    return console


def check_file(option: str, path: str, drawn: bool = False) -> None:
    """Checks, before anything is measured, that an output file can be written.

    Args:
      option: name of the command-line option, for messages.
      path: value of the option; empty: nothing is written.
      drawn: whether matplotlib is needed for it.

    Raises:
      UserError: the file's folder does not exist, or matplotlib is missing.
    """
    if path and not pathlib.Path(os.path.realpath(path)).parent.is_dir():
        raise UserError(f"bench: --{option} {path}: its folder does not exist; name one that does")
    if path and drawn and importlib.util.find_spec("matplotlib") is None:
        raise UserError(f"bench: --{option} needs matplotlib; pip install 'bertlite_jax[report]'")
