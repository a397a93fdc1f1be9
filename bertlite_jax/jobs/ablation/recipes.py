"""Configs as recipes: Python files that `bertlite` reads again, and that a person can run by hand."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from bertlite_jax.host import whole_files


def write(path: pathlib.Path, config: Any, about: str) -> None:
    """Writes a config as a recipe.

    Args:
      path: of the file; its folder is made.
      config: a dataclass of groups of settings, all of which `bertlite_jax.config` hands out.
      about: its docstring, one line.
    """
    groups = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    kinds = sorted({type(value).__name__ for value in (config, *groups.values())})
    lines = [
        f'"""{about}"""',
        "",
        f"from bertlite_jax.config import {', '.join(kinds)}",
        "",
        f"config = {type(config).__name__}(",
        *(f"    {name}={value!r}," for name, value in groups.items()),
        ")",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    whole_files.write_text(path, "\n".join(lines) + "\n")
