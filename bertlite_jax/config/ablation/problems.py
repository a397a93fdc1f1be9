"""What can be wrong with a grid itself, in one line each; `members` checks the configs that it makes."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bertlite_jax.config.ablation.grid import BASE, Grid, Member
from bertlite_jax.config.bounds import shown
from bertlite_jax.config.files import checked_kinds
from bertlite_jax.config.finetune import Finetune, check_finetune
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError

_OUR_FILES = ("table.md", "table.json", "curves.png", "pace.json", "task.py")
"""What the grid's folder holds beside a folder for each member."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,-]{0,99}")
_LONGEST_NAME = 200


def check_grid(grid: Grid, where: str) -> None:
    """Raises UserError for the first of the grid's own fields that cannot be used."""
    if problem := next(_problems(grid), None):
        raise UserError(f"config: {where}: {problem}")
    if grid.task is not None:
        check_finetune(checked_kinds(grid.task, f"{where}: task"))


def _problems(grid: Grid) -> Iterator[str]:
    """What is wrong; each line may rely on what the lines before it have asked."""
    for field in ("variants", "axes"):
        value = getattr(grid, field)
        if not isinstance(value, Mapping):
            yield f"{field} = {shown(value)} should be a dict"
    if not grid.variants and not grid.axes:
        yield 'variants is empty; name at least one, such as {"wide": {"model.ffn_size": 1024}}, or give axes'
    yield from _problems_of_names(grid)
    for field, values in grid.axes.items():
        if not isinstance(values, list | tuple) or not values:
            yield f"axes: {field} = {shown(values)} should be a list of at least one value"
    if not grid.seeds:
        yield "seeds is empty; name at least one, such as seeds=(0, 1, 2)"
    if len(set(grid.seeds)) < len(grid.seeds):
        yield f"seeds = {shown(grid.seeds)} has the same one twice"
    for seed in grid.seeds:
        if not 0 <= seed < 2**32:
            yield f"seeds: {shown(seed)} must be at least 0 and less than 2**32"
    yield from _problems_of_the_budget(grid)
    if grid.task is not None and not isinstance(grid.task, Finetune):
        yield f"task = {shown(grid.task)} should be of the kind Finetune"
    if grid.task is not None and not (grid.task.data.task or grid.task.data.folder):
        yield "task has neither data.task nor data.folder; name what to fine-tune on"


def _problems_of_names(grid: Grid) -> Iterator[str]:
    for name, changes in grid.variants.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in _OUR_FILES:
            yield f"variants: {shown(name)} cannot be the name of a folder; use letters, digits, - and _"
        elif name.lower() == BASE:
            yield f"variants: {name} is the name of the base; use another"
        if not isinstance(changes, Mapping | Pretrain):
            yield f"variants: {name} = {shown(changes)} should be a dict of fields and values, or a Pretrain"


def _problems_of_the_budget(grid: Grid) -> Iterator[str]:
    if grid.steps < 0 or not 0 <= grid.seconds <= 1e9:
        yield f"steps = {grid.steps} and seconds = {grid.seconds} must be at least 0, seconds at most 1e9"
    if grid.steps and grid.seconds:
        yield f"steps = {grid.steps} and seconds = {grid.seconds} cannot be combined; leave one of them out"
    changed = {field: f"variants: {name}" for name, made in grid.variants.items() for field in _fields_of(made)}
    changed |= dict.fromkeys(grid.axes, "axes")
    if "run.seed" in changed:
        yield f"{changed['run.seed']}: run.seed is set by seeds; leave it out"
    if "run.steps" in changed and (grid.steps or grid.seconds):
        budget = "steps" if grid.steps else "seconds"
        yield f"{changed['run.steps']}: run.steps is set by {budget}; leave one of them out"


def _fields_of(changes: Mapping[str, Any] | Pretrain) -> Sequence[str]:
    return () if isinstance(changes, Pretrain) else tuple(changes)


def check_different(found: Sequence[Member], where: str) -> None:
    """Raises UserError where two members have one name, as some disks see it, or are one config."""
    names = [member.name.lower() for member in found]
    configs: dict[Pretrain, str] = {}
    for member in found:
        if len(member.name) > _LONGEST_NAME:
            raise UserError(f"config: {where}: {shown(member.name)} is too long for a folder; use shorter names")
        if names.count(member.name.lower()) > 1:
            raise UserError(f"config: {where}: two members are named {member.name}; give each its own name")
        if (other := configs.setdefault(member.config, member.name)) != member.name:
            raise UserError(f"config: {where}: {member.name} is the same config as {other}; change or remove it")


def refuse_names_twice(path: str) -> None:
    """Raises UserError for a key that stands twice in a dict of a Python file: Python would drop the first one.

    Args:
      path: a file that has been run without an error.
    """
    tree = ast.parse(pathlib.Path(path).read_bytes())
    for node in ast.walk(tree):
        keys = node.keys if isinstance(node, ast.Dict) else []
        names = [(key.value, key.lineno) for key in keys if isinstance(key, ast.Constant)]
        for number, (name, line) in enumerate(names):
            if name in [earlier for earlier, _ in names[:number]]:
                raise UserError(f"config: {path}:{line}: {name!r} stands twice in a dict; give each its own name")
