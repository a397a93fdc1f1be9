"""The configs that a grid stands for: its base and variants, at every point of its axes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from bertlite_jax.config import checks
from bertlite_jax.config.ablation.grid import BASE, Grid, Member
from bertlite_jax.config.ablation.problems import check_different, check_grid
from bertlite_jax.config.bounds import shown
from bertlite_jax.config.distillation.checks import check_distill
from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.effects import replaced
from bertlite_jax.config.files import checked_kinds, flat
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError, fields_close_to


def members(grid: Grid, where: str) -> tuple[Member, ...]:
    """The members of a grid, the base first, each checked.

    Args:
      grid: as its file has it.
      where: the file, for messages.

    Raises:
      UserError: the grid is none, a field does not exist, or a config cannot work; names the member.
    """
    check_grid(grid, where)
    configs = {BASE: grid.base} | {name: _variant(grid, name, where) for name in grid.variants}
    fields = tuple(grid.axes)
    points = [dict(zip(fields, point, strict=True)) for point in itertools.product(*grid.axes.values())]
    found = []
    for point in points:
        for variant, config in configs.items():
            made = with_fields(config, point, f"{where}: axes")
            name, at_base = _name_at(variant, point), _name_at(BASE, point if variant != BASE else points[0])
            if grid.steps:
                made = replaced(made, "run.steps", grid.steps)
            found.append(Member(name, made, at_base if at_base != name else ""))
    check_different(found, where)
    for member in found:
        check_member(member, where)
    return tuple(found)


def with_fields(config: Pretrain, changes: Mapping[str, Any], where: str) -> Pretrain:
    """The config with other values of fields such as `optim.learning_rate`.

    Raises:
      UserError: there is no such field, or the value is of another kind.
    """
    known = list(flat(config))
    for field, value in changes.items():
        if field not in known:
            raise UserError(f"config: {where}: unknown field {shown(field)}; {fields_close_to(str(field), known)}")
        config = replaced(config, field, value)
    return checked_kinds(config, where)


def check_member(member: Member, where: str) -> None:
    """Raises UserError, which names the member, for a config that cannot work."""
    config = member.config
    try:
        checks.check_counts(config)
        devices = max(1, config.run.devices)
        if isinstance(config, Distill):
            check_distill(config, devices)
            if config.distill.store:
                raise UserError("config: distill.store has no place in a grid, since a store is of one seed")
        else:
            checks.check_pretrain(config, devices)
        if config.run.distributed:
            raise UserError("config: run.distributed has no place in a grid, whose runs are of one process each")
    except UserError as error:
        raise UserError(f"config: {where}: {member.name}: {str(error).removeprefix('config: ')}") from error


def _variant(grid: Grid, name: str, where: str) -> Pretrain:
    changes = grid.variants[name]
    place = f"{where}: variants: {name}"
    return checked_kinds(changes, place) if isinstance(changes, Pretrain) else with_fields(grid.base, changes, place)


def _name_at(variant: str, point: Mapping[str, Any]) -> str:
    """`depth,num_layers=12`: the variant and where it stands on the axes."""
    parts = [f"{field.rpartition('.')[2]}={_word(value)}" for field, value in point.items()]
    return ",".join([variant, *parts])


def _word(value: Any) -> str:
    """A value as a part of a file name; of a tuple its elements with `-` between them."""
    if isinstance(value, list | tuple):
        return "-".join(map(_word, value)) or "none"
    return re.sub(r"[^A-Za-z0-9._+-]", "-", str(value))
