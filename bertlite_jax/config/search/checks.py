"""Checks that the settings of a search agree, before anything has a cost."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from bertlite_jax.config import checks
from bertlite_jax.config.bounds import shown
from bertlite_jax.config.model import Model
from bertlite_jax.config.search.settings import MEASURED, Method, Search, Shape, Space, Surrogate, model_of
from bertlite_jax.errors import UserError

MOST_SHAPES = 100_000
"""In the grid of a space; a search that orders more of them has forgotten a bound."""
MOST_EXPONENT = 10.0
"""With four times as much, which the table tries too, the score of the least error is still a finite number."""


def check_search(config: Search, devices: int = 1) -> None:
    """Raises UserError, one line, for the first setting that cannot work, whatever the shapes cost.

    Args:
      config: the whole config; its `OPEN_SIZES` may still be 0.
      devices: devices that share the batch, over all processes.
    """
    checks.check_pretrain(config, devices)
    check_space(config.space)
    for group in ("space", "maximum", "surrogate", "cost", "method"):
        checks.check_numbers(getattr(config, group), group)
    # An embedding that is as wide as the hidden states would be named in their place.
    checks.check_positive(config.maximum, "maximum", ("num_layers", "num_heads", "hidden_size", "ffn_size"))
    check_shape(config.model, config.maximum, "maximum")
    _check_surrogate(config.surrogate)
    _check_cost(config)
    if config.run.depths:
        raise UserError("config: run.depths cannot be combined with a search, which chooses the number of layers")
    _check_method(config.method, config.surrogate)
    if "supernet" in (config.method.name, *config.method.others):
        _check_supernet(config.space, config.method)


def _check_cost(config: Search) -> None:
    cost = config.cost
    checks.check_positive(cost, "cost", ("length", "rows"))
    checks.check_not_negative(cost, "cost", ("layer_seconds", "published_divisor"))
    if 0 < config.model.max_positions < config.cost.length:
        raise UserError(
            f"config: cost.length = {config.cost.length} exceeds model.max_positions = {config.model.max_positions}"
        )
    if cost.latency in MEASURED and cost.host != "this":
        raise UserError(
            f"config: cost.latency = {cost.latency} is timed on this machine, and cost.host = {cost.host}; use "
            "analytic or roofline, or cost.host = this"
        )
    if cost.fitted_shapes < 12:
        raise UserError(f"config: cost.fitted_shapes = {cost.fitted_shapes} must be at least 12, for six coefficients")


def check_shape(base: Model, shape: Shape, where: str) -> None:
    """Raises UserError for a shape that cannot be built.

    Args:
      base: model whose other fields it has.
      shape: to be checked.
      where: `maximum`, whose fields the message then names, or a shape of the space, which it begins with.
    """
    try:
        checks.check_model(model_of(base, shape), may_be_open=True)
    except UserError as error:
        said = str(error).removeprefix("config: ")
        if where != "maximum":
            raise UserError(f"config: {where}: {said}") from error
        for field in dataclasses.fields(Shape):
            said = said.replace(f"model.{field.name}", f"maximum.{field.name}")
        raise UserError(f"config: {said}") from error


def check_space(space: Space) -> None:
    """Raises UserError for a list that is empty, or has a value that no shape can have."""
    lists = {field.name: getattr(space, field.name) for field in dataclasses.fields(space)}
    for name, values in lists.items():
        _check_list(f"space.{name}", values)
        least = 0 if name == "embed_size" else 1
        if name != "share" and min(values) < least:
            raise UserError(f"config: space.{name} = {shown(values)} must be at least {least}")
    for heads in space.num_heads:
        if all(width % heads for width in space.hidden_size):
            raise UserError(
                f"config: space.num_heads = {heads} divides none of space.hidden_size = {shown(space.hidden_size)}; "
                "leave it out, or add a width that it divides"
            )
    for width in space.hidden_size:
        if all(width % heads for heads in space.num_heads):
            raise UserError(
                f"config: space.hidden_size = {width} is divided by none of space.num_heads = "
                f"{shown(space.num_heads)}; leave it out, or add a number of heads that divides it"
            )
    shapes = math.prod(map(len, lists.values()))
    if shapes > MOST_SHAPES:
        raise UserError(f"config: space has {shapes:,} shapes; shorten its lists to at most {MOST_SHAPES:,}")


def _check_list(name: str, values: tuple[Any, ...]) -> None:
    if not values:
        raise UserError(f"config: {name} is empty; name at least one value")
    if len(set(values)) < len(values):
        raise UserError(f"config: {name} = {shown(values)} has the same value twice")


def _check_supernet(space: Space, method: Method) -> None:
    """Raises UserError for shapes that cannot have their weights in common, or an evolution without shapes."""
    checks.check_positive(method, "method", ("sampled", "population", "generations"))
    if method.population < 4:
        raise UserError(f"config: method.population = {method.population} must be at least 4: two parents, two others")
    advice = "or leave supernet out of method.name and method.others"
    if len(space.share) > 1:
        raise UserError(
            f"config: space.share = {shown(space.share)}: a supernet cannot have both in one set of weights; keep one, "
            f"{advice}"
        )
    if len({0 < narrow < wide for narrow in space.embed_size for wide in space.hidden_size}) > 1:
        raise UserError(
            f"config: space.embed_size = {shown(space.embed_size)} is below some of space.hidden_size and not below "
            f"others, and only the former have a projection; a supernet needs one kind, {advice}"
        )


def _check_surrogate(surrogate: Surrogate) -> None:
    checks.check_positive(surrogate, "surrogate", ("steps",))
    not_negative = (
        "extrapolate_to",
        "clip_weights",
        "teacher_steps",
        "teacher_pieces",
        "longer_steps",
        "longer_shapes",
    )
    checks.check_not_negative(surrogate, "surrogate", not_negative)
    if 0 < surrogate.longer_steps <= surrogate.steps:
        raise UserError(
            f"config: surrogate.longer_steps = {surrogate.longer_steps} must exceed surrogate.steps = "
            f"{surrogate.steps}, or be 0"
        )
    for name in ("learning_rates", "seeds"):
        _check_list(f"surrogate.{name}", getattr(surrogate, name))
    if min(surrogate.learning_rates) <= 0:
        raise UserError(f"config: surrogate.learning_rates = {surrogate.learning_rates} must be positive")
    if not all(0 <= seed < 2**32 for seed in surrogate.seeds):
        raise UserError(f"config: surrogate.seeds = {shown(surrogate.seeds)} must be at least 0 and less than 2**32")
    if surrogate.kind == "extrapolated" and surrogate.steps % 4:
        raise UserError(
            f"config: surrogate.steps = {surrogate.steps} must be a multiple of 4 for surrogate.kind = extrapolated, "
            "which reads the loss after a quarter, a half and all of them"
        )
    if surrogate.kind == "extrapolated" and surrogate.extrapolate_to <= surrogate.steps:
        raise UserError(
            f"config: surrogate.extrapolate_to = {surrogate.extrapolate_to} must exceed surrogate.steps = "
            f"{surrogate.steps}"
        )


def _check_method(method: Method, surrogate: Surrogate) -> None:
    checks.check_positive(method, "method", ("stride", "rounds"))
    checks.check_not_negative(method, "method", ("trials", "most_seconds", "head_size"))
    if len({method.name, *method.others}) <= len(method.others):
        raise UserError(f"config: method.others = {shown(method.others)} names a method twice, or method.name again")
    halves = "halving" in (method.name, *method.others)
    if not 0 <= method.offset < method.stride:
        raise UserError(
            f"config: method.offset = {method.offset} must be at least 0 and less than method.stride = {method.stride}"
        )
    if min(method.exponents) < 0 or method.exponents[2] == 0:
        raise UserError(
            f"config: method.exponents = {method.exponents} cannot be negative, and the last one, of the error, must "
            "be positive"
        )
    if max(method.exponents) > MOST_EXPONENT:
        raise UserError(f"config: method.exponents = {method.exponents} cannot exceed {MOST_EXPONENT:g}")
    if method.factor < 2:
        raise UserError(f"config: method.factor = {method.factor} must be at least 2")
    first = surrogate.steps // method.factor ** min(method.rounds - 1, 64)
    if halves and not first:
        raise UserError(
            f"config: method.rounds = {method.rounds} with method.factor = {method.factor} leaves no step for the "
            f"first round: surrogate.steps = {surrogate.steps} must be at least method.factor ** (method.rounds - 1)"
        )
    whole = 4 * method.factor ** min(method.rounds - 1, 64)
    if halves and surrogate.kind == "extrapolated" and surrogate.steps % whole:
        raise UserError(
            f"config: surrogate.steps = {surrogate.steps} must be a multiple of {whole} for surrogate.kind = "
            f"extrapolated in the first of method.rounds = {method.rounds}"
        )
    if not 0 <= method.seed < 2**32:
        raise UserError(f"config: method.seed = {method.seed} must be at least 0 and less than 2**32")
