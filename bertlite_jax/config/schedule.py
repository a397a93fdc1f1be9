"""What a pretraining run changes at which step, as one question: `at_step`. Steps count from 1.

A field that a run changes keeps its last value in the config and has a list of earlier ones, each with the last step
that it holds for: `model.num_layers` has `run.depths`.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError


def at_step(config: Pretrain, step: int) -> Pretrain:
    """The config as it holds at a step, from 1 on. Steps with equal answers run the same program."""
    layers = next((layers for layers, last in config.run.depths if step <= last), config.model.num_layers)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, num_layers=layers))


# --- What can be scheduled -------------------------------------------------------------------------------------------


def check_schedule(config: Pretrain) -> None:
    """Raises UserError if `run.depths` or `run.profile_steps` cannot work, or not with this model."""
    _check_profile(config.run.profile_steps, config.run.steps)
    depths = config.run.depths
    if not depths:
        return
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in depths):
        raise UserError(
            f"config: run.depths = {depths} must be pairs of layers and last step: ((3, 20_000), (6, 50_000))"
        )
    shown = f"run.depths = {' '.join(f'{layers} {last}' for layers, last in depths)}"
    if config.model.share != "all" or config.model.share_groups != 1:
        raise UserError("config: run.depths needs layers that share everything: model.share = all, one group")
    if any(b <= a for column in zip((0, 0), *depths, strict=True) for a, b in itertools.pairwise(column)):
        raise UserError(f"config: {shown} must rise in layers and in steps, from 1 on")
    layers, last = depths[-1]
    if layers >= config.model.num_layers:
        raise UserError(f"config: {shown} must stay below model.num_layers = {config.model.num_layers}")
    if last >= config.run.steps:
        raise UserError(f"config: {shown} must end before run.steps = {config.run.steps}")


def _check_profile(steps: tuple[int, ...], last: int) -> None:
    if len(steps) != 2 or (steps != (0, 0) and not 0 < steps[0] < steps[1]):
        raise UserError(
            f"config: run.profile_steps = {' '.join(map(str, steps))} must be two rising steps from 1 on, such as "
            "10 15, or 0 0 for no profile"
        )
    if steps[0] > last:
        raise UserError(
            f"config: run.profile_steps = {' '.join(map(str, steps))} lie behind run.steps = {last}, so nothing would "
            "be traced"
        )


# --- Strings, as older versions had them -----------------------------------------------------------------------------

_FORMERLY_STRINGS: dict[str, tuple[Any, ...]] = {"depths": ((3, 20000), (6, 50000)), "profile_steps": (10, 15)}
"""Fields of `run` that were strings, with an example of what is right now."""


def read_strings(values: dict[str, Any]) -> dict[str, Any]:
    """Values of a stored config; schedules that are strings, as older versions stored them, become numbers.

    `3:20000,6:50000` is ((3, 20000), (6, 50000)), `10:15` is (10, 15); the empty strings are () and (0, 0).
    Everything else stays as it is.
    """
    run = values.get("run")
    if not isinstance(run, dict):
        return values
    read = dict(run)
    for name in _FORMERLY_STRINGS:
        numbers = _numbers_of(name, run[name]) if isinstance(run.get(name), str) else None
        if numbers is not None:
            read[name] = numbers
    return values | {"run": read}


def _numbers_of(name: str, text: str) -> tuple[Any, ...] | None:
    """The value of a field that was a string in older versions; None if the text is no such value."""
    if name == "depths" and re.fullmatch(r"(\d+:\d+(,|$))*", text):
        return tuple(tuple(map(int, pair.split(":"))) for pair in text.split(",") if pair)
    if name == "profile_steps" and re.fullmatch(r"(\d+:\d+)?", text):
        return tuple(map(int, text.split(":"))) if text else (0, 0)
    return None


def refuse_strings(config: Pretrain, where: str = "") -> None:
    """Raises UserError if `run.depths` or `run.profile_steps` of a recipe is a string, as in older versions.

    Args:
      config: as the recipe has it.
      where: the recipe's file, for the message.
    """
    for name, example in _FORMERLY_STRINGS.items():
        value: object = getattr(config.run, name)
        if isinstance(value, str):
            numbers = _numbers_of(name, value)
            numbers = example if numbers is None else numbers
            flat = [number for item in numbers for number in (item if isinstance(item, tuple) else (item,))]
            option = " ".join([f"--run.{name.replace('_', '-')}", *map(str, flat)])
            place = f"{where}: " if where else ""
            raise UserError(
                f"config: {place}run.{name} = {value!r} should be numbers: {name}={numbers} in a recipe, "
                f"{option} on the command line"
            )
