"""Files that a benchmark's figures go to."""

from __future__ import annotations

import importlib.util
import os
import pathlib

from bertlite_jax.errors import UserError


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
        raise UserError(f"bench: --{option} needs matplotlib; pip install matplotlib")
