"""`bertlite recipes`: lists, shows and copies the recipes that come with the package.

What a recipe is, costs and is started with is read in its docstring; nothing of it is run.
"""

from __future__ import annotations

import ast
import pathlib
import re
from typing import NamedTuple

from bertlite_jax.config import files
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files

_JOBS = ("pretrain", "distill", "finetune", "search", "ablate")
"""The order of the list."""


class Recipe(NamedTuple):
    """What the docstring of a recipe says.

    Attributes:
      about: its first line.
      command: how it is started, without the options: `bertlite pretrain albert_base`.
      parameters: of the model with its heads, such as `11,813,810`, of the largest in a grid; empty where that depends
        on the user's encoder.
      flop: of the whole run, such as `1.5e+20`; empty likewise.
    """

    about: str
    command: str
    parameters: str
    flop: str


def described() -> list[Recipe]:
    """All recipes of the package, by job and name."""
    found = [describe(name, path.read_text(encoding="utf-8")) for name, path in files.shipped().items()]
    return sorted(found, key=lambda each: _JOBS.index(each.command.split()[1]))


def describe(name: str, text: str) -> Recipe:
    """Reads the docstring of a recipe.

    Args:
      name: of the recipe.
      text: of its file.

    Raises:
      UserError: in a clone, somebody has changed the file so that Python cannot read it or the command is gone.
    """
    try:
        docstring = ast.get_docstring(ast.parse(text)) or ""
    except SyntaxError as error:
        raise UserError(f"recipes: {name}.py:{error.lineno}: {error.msg}") from error
    command = re.search(rf"bertlite (?:{'|'.join(_JOBS)}) {name}\b", docstring)
    if not command:
        raise UserError(f"recipes: the docstring of {name}.py has no line `bertlite JOB {name} ...`")
    figures = [re.search(rf"([\d.,e+]+) {unit}", docstring) for unit in ("parameters", "FLOP in all")]
    parameters, flop = (figure[1] if figure else "" for figure in figures)
    return Recipe(docstring.splitlines()[0], command[0], parameters, flop)


def text_of(name: str) -> str:
    """The file of a recipe.

    Raises:
      UserError: the package has none of that name; names the nearest.
    """
    known = files.shipped()
    if name not in known:
        near = files.close_names(pathlib.Path(name).stem, list(known))
        advice = f"did you mean {', '.join(near)}?" if near else "`bertlite recipes` lists them"
        raise UserError(f"recipes: the package has no recipe {name}; {advice}")
    return known[name].read_text(encoding="utf-8")


def copy(name: str, out: str, overwrite: bool = False) -> None:
    """Writes a recipe into a file of the user's, where the commands of its docstring then name that file.

    Args:
      name: of a recipe of the package.
      out: ends in .py.
      overwrite: replace the file.

    Raises:
      UserError: there is no such recipe, `out` exists, is no name of a Python file, or cannot be written.
    """
    text = text_of(name)
    if not out.endswith(".py"):
        raise UserError(f"recipes: {out} does not end in .py; name a file such as {pathlib.Path(out).name or 'my'}.py")
    if re.fullmatch(r"[\w./-]+", out, re.ASCII):  # Others would have to be quoted for the shell and for Python.
        text = re.sub(rf"(bertlite \w+) {name}\b", rf"\1 {out}", text)
    with whole_files.new_file(out, overwrite, job="recipes") as temporary:
        temporary.write_text(text, encoding="utf-8")
