"""What a pretraining run changes at which step. Steps count from 1.

A field that a run changes keeps its last value in the config, and `run` has a list of earlier ones, each with the last
step that it holds for: `SCHEDULED`. The steps between two such changes are a stage, and run one program. The mask rate
changes inside a program (`mask_rates`). Causal steps (`objective.causal_every`) stand between the others of a stage and
have a program of their own. All of it follows from the step's number alone, so a run resumes exactly.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any, NamedTuple, TypeVar

from bertlite_jax.config import bounds
from bertlite_jax.config.pretrain import Pretrain, Run
from bertlite_jax.errors import UserError

Recipe = TypeVar("Recipe", bound=Pretrain)


class Scheduled(NamedTuple):
    """A field that a run may change, and where its earlier values stand."""

    schedule: str
    """Field of `run`: pairs of a value and the last step that it holds for."""
    group: str
    name: str
    unit: str
    example: str
    rises: bool
    """Whether later values have to be larger."""

    @property
    def field(self) -> str:
        """`model.num_layers`."""
        return f"{self.group}.{self.name}"


SCHEDULED = (
    Scheduled("depths", "model", "num_layers", "layers", "((3, 20_000), (6, 50_000))", True),
    Scheduled("lengths", "data", "length", "tokens in a row", "((128, 90_000),)", False),
    Scheduled("batches", "data", "batch_rows", "rows", "((64, 5_000), (128, 10_000))", False),
)
STAIRS = 100
"""Most changes of the mask rate. From 0.3 to 0.15, one of them is less than a token of a window of 512."""


class Stage(NamedTuple):
    """Steps that have nothing scheduled between them but the mask rate."""

    first: int
    last: int
    config: Pretrain
    """As it holds at these steps, but for which of them are causal (`at_step`)."""


def at_step(config: Pretrain, step: int) -> Pretrain:
    """The config as it holds at a step, from 1 on. Steps with equal answers run the same program.

    Rows of a shorter length have those of the `data.buckets` that are below it. `objective.causal_every` is 1 if the
    step is causal, else 0: a step beside causal ones is that of a run without them.
    """
    return of_kind(_of_stage(config, step), is_causal(config, step))


def is_causal(config: Pretrain, step: int) -> bool:
    """Whether a step of a run is causal."""
    every = config.objective.causal_every
    return every > 0 and step % every == 0


def of_kind(config: Pretrain, causal: bool) -> Pretrain:
    """The config of a single step, one that is causal or one that is not."""
    if config.objective.causal_every == int(causal):
        return config
    return dataclasses.replace(config, objective=dataclasses.replace(config.objective, causal_every=int(causal)))


def _of_stage(config: Pretrain, step: int) -> Pretrain:
    for each in SCHEDULED:
        value = next((value for value, last in getattr(config.run, each.schedule) if step <= last), None)
        if value is not None:
            group = dataclasses.replace(getattr(config, each.group), **{each.name: value})
            config = dataclasses.replace(config, **{each.group: group})
    if not config.run.lengths:
        return config
    buckets = tuple(length for length in config.data.buckets if length < config.data.length)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, buckets=buckets))


def stages(config: Pretrain) -> tuple[Stage, ...]:
    """The stages of a run in their order; one where nothing is scheduled."""
    steps = config.run.steps
    firsts = [1, *changes(config)]
    ends = [*(first - 1 for first in firsts[1:]), steps]
    return tuple(Stage(first, last, _of_stage(config, first)) for first, last in zip(firsts, ends, strict=True))


def changes(config: Pretrain) -> list[int]:
    """The first step of each stage but the first."""
    lasts = {last for each in SCHEDULED for _, last in getattr(config.run, each.schedule)}
    return [last + 1 for last in sorted(lasts) if last < config.run.steps]


def coming(config: Pretrain, step: int) -> list[int]:
    """Later steps whose programs may be new: the next causal one, and the next stage's first that is not causal."""
    every = config.objective.causal_every
    causal = [(step // every + 1) * every] if every else []
    of_stage = [first + is_causal(config, first) for first in changes(config) if first > step][:1]
    return [later for later in causal + of_stage if later <= config.run.steps]


class Kind(NamedTuple):
    """Steps of a stage that run the same program, wherever in the stage they stand."""

    steps: int
    """How many there are."""
    config: Pretrain
    """As of `at_step`."""


def kinds(stage: Stage) -> tuple[Kind, ...]:
    """The steps of a stage that are not causal, then those that are, if any."""
    every = stage.config.objective.causal_every
    multiples = stage.last // every - (stage.first - 1) // every if every else 0
    both = ((stage.last - stage.first + 1 - multiples, False), (multiples, True))
    return tuple(Kind(steps, of_kind(stage.config, causal)) for steps, causal in both if steps)


def unscheduled(config: Recipe) -> Recipe:
    """The config without stages: a stage's own becomes that of a run which has nothing else."""
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **{each.schedule: () for each in SCHEDULED}))


def values_of(config: Pretrain, field: str) -> list[tuple[str, int]]:
    """The values of a scheduled field, each with the setting that holds it: ("run.lengths", 128), ("data.length", 512).

    Args:
      config: of a run.
      field: such as `data.length`.
    """
    (each,) = (each for each in SCHEDULED if each.field == field)
    earlier = [(f"run.{each.schedule}", value) for value, _ in getattr(config.run, each.schedule)]
    return [*earlier, (field, getattr(getattr(config, each.group), each.name))]


def mask_rates(config: Pretrain) -> tuple[tuple[int, float], ...]:
    """The mask rates of a run, each with the first step that it holds for.

    From `mask.first_rate` to `mask.rate` there are `STAIRS` equal stairs, or one a step where there are fewer steps.
    Source: Ankner et al. 2023 (arXiv 2305.15096), whose rate falls in a straight line.
    """
    mask = config.mask
    if not mask.first_rate:
        return ((1, mask.rate),)
    falls = (mask.rate_steps or config.run.steps) - 1  # Steps from the first rate to the last one.
    stairs = min(STAIRS, falls)
    height = mask.rate - mask.first_rate
    begun = [(-(-stair * falls // stairs) + 1, mask.first_rate + height * stair / stairs) for stair in range(stairs)]
    return (*begun, (falls + 1, mask.rate))


def mask_rate_at(config: Pretrain, step: int) -> float:
    """The mask rate of a step."""
    return next(rate for first, rate in reversed(mask_rates(config)) if first <= step)


def table(config: Pretrain) -> list[tuple[str, ...]]:
    """What changes at which step: names of columns, then a line for each stage; nothing if a run changes nothing."""
    changing = [each for each in SCHEDULED if getattr(config.run, each.schedule)]
    masks = ("mask rate",) if config.mask.first_rate else ()
    if not changing and not masks:
        return []
    lines = [("steps", *(each.unit for each in changing), *masks)]
    for first, last, stage in stages(config):
        values = [f"{getattr(getattr(stage, each.group), each.name):,}" for each in changing]
        rates = dict.fromkeys(f"{mask_rate_at(config, step):.4g}" for step in (first, last))
        lines.append((f"{first:,} to {last:,}", *values, *((" to ".join(rates),) if masks else ())))
    return lines


# --- Checks ----------------------------------------------------------------------------------------------------------


def check_lists(run: Run) -> None:
    """Raises UserError for a schedule that is no list of pairs, whose steps do not rise, or whose values are below 1.

    Called before anything that reads a schedule.
    """
    for each in SCHEDULED:
        pairs = getattr(run, each.schedule)
        if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
            raise UserError(
                f"config: run.{each.schedule} = {bounds.shown(pairs)} must be pairs of {each.unit} and last step: "
                f"{each.example}"
            )
        values, lasts = [value for value, _ in pairs], [last for _, last in pairs]
        if not _rise(lasts) or (each.rises and not _rise(values)):
            of_values = f"in {each.unit} and " if each.rises else ""
            raise UserError(f"config: {_shown(run, each)} must rise {of_values}in steps, from 1 on")
        if any(value < 1 for value in values):
            raise UserError(f"config: {_shown(run, each)} must have at least 1 as its {each.unit}")


def _rise(numbers: list[int]) -> bool:
    return all(b > a for a, b in itertools.pairwise((0, *numbers)))


def _shown(run: Run, each: Scheduled) -> str:
    pairs = getattr(run, each.schedule)
    return f"run.{each.schedule} = {' '.join(f'{value} {last}' for value, last in pairs)}"


def check_schedule(config: Pretrain) -> None:
    """Raises UserError if what is scheduled cannot work, or not in this run."""
    _check_profile(config.run.profile_steps, config.run.steps)
    _check_mask_rate(config)
    check_lists(config.run)
    if config.run.depths and (config.model.share != "all" or config.model.share_groups != 1):
        raise UserError("config: run.depths needs layers that share everything: model.share = all, one group")
    if config.run.depths and config.model.freed:
        raise UserError(
            f"config: run.depths needs layers that share everything; leave it or model.{config.model.freed[0]} out"
        )
    for each in SCHEDULED:
        pairs = getattr(config.run, each.schedule)
        if not pairs:
            continue
        shown, final = _shown(config.run, each), getattr(getattr(config, each.group), each.name)
        if each.rises and pairs[-1][0] >= final:
            raise UserError(f"config: {shown} must stay below {each.field} = {final}")
        if any(a == b for a, b in itertools.pairwise([*(value for value, _ in pairs), final])):
            raise UserError(
                f"config: {shown} must change the {each.unit} every time; {each.field} = {final} comes last"
            )
        most = bounds.most_of(each.group, each.name, final)
        if max(value for value, _ in pairs) > most:
            raise UserError(f"config: {shown} has too large a number of {each.unit}; at most {most:,}")
        if pairs[-1][1] >= config.run.steps:
            raise UserError(f"config: {shown} must end before run.steps = {config.run.steps}")


def _check_mask_rate(config: Pretrain) -> None:
    mask, steps = config.mask, config.run.steps
    if not mask.first_rate:
        return
    if mask.first_rate == mask.rate:
        raise UserError(f"config: mask.first_rate = {mask.first_rate} is mask.rate already; leave it out")
    if mask.rate_steps == 1 or steps == 1:
        raise UserError("config: mask.first_rate needs at least two steps; raise mask.rate_steps and run.steps")
    if mask.rate_steps > steps:
        raise UserError(f"config: mask.rate_steps = {mask.rate_steps} must be at most run.steps = {steps}")


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
