"""Files that a benchmark's figures go to."""

from __future__ import annotations

import os
import pathlib

from bertlite_jax.errors import UserError


def check_file(option: str, path: str) -> None:
    """Checks, before anything is measured, that an output file can be written.

    Args:
      option: name of the command-line option, for messages.
      path: value of the option; empty: nothing is written.

    Raises:
      UserError: the file's folder does not exist.
    """
    if path and not pathlib.Path(os.path.realpath(path)).parent.is_dir():
        raise UserError(f"bench: --{option} {path}: its folder does not exist; name one that does")
