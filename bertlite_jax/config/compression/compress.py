"""Settings of compression: the points of a family of smaller models, and how they are trained and timed."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from bertlite_jax.config.checks import check_numbers
from bertlite_jax.config.compression.prune import LEAST_LENGTH
from bertlite_jax.config.model import Model
from bertlite_jax.errors import UserError

FLOAT = "float32"
_NAME = re.compile(r"(\d{1,4})(?:-(\d{1,4}(?:\.\d{1,3})?)x)?-(?:(float32)|([478])bit)")
_SHAPES = ((1.0, "7bit"), (1.5, "7bit"), (2.0, "7bit"), (2.0, "4bit"), (3.0, "7bit"), (4.0, "7bit"))
"""Speed-up by pruning and arithmetic of the usual points with half of the layers."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One model of the family."""

    layers: int
    """Of the teacher's, that the student keeps; pruning may take more of them."""
    speed_up: float = 1.0
    """By which heads, neurons and layers are pruned from that student. 1: nothing is pruned."""
    bits: Literal[0, 4, 7, 8] = 0
    """Of the weights that are trained and served; 0: float32."""

    @property
    def name(self) -> str:
        """As the user names it, and its folder: `6-2x-7bit`."""
        return f"{self.student}-{f'{self.bits}bit' if self.bits else FLOAT}"

    @property
    def student(self) -> str:
        """What it is before its weights are rounded: `6-2x`."""
        return f"{self.layers}-{self.speed_up:g}x" if self.speed_up > 1 else f"{self.layers}"

    @property
    def products(self) -> Literal["float32", "int8"]:
        """The arithmetic that it is served in, by which it is decided what pruning takes."""
        return "int8" if self.bits else "float32"


@dataclasses.dataclass(frozen=True)
class Compress:
    """Which smaller models are made of a teacher, and on what they are measured."""

    points: tuple[str, ...] = ()
    """Models to make, each named LAYERS-ARITHMETIC or LAYERS-SPEEDx-ARITHMETIC: 6-float32 has six of the teacher's
    layers; of 6-2x-7bit heads, neurons and layers are pruned until it is twice as fast as 6-7bit, and it is trained for
    weights of 7 bits (or 8, or 4). Without it, eight models: all N layers in 7 bits, and half of them in float32, in 7
    bits, pruned to 1.5, 2, 3 and 4 times that speed, and with 4 bits; those that cannot become so fast are left out."""
    keep: Literal["alternate", "first", "last"] = "alternate"
    """Which of the teacher's layers a student with fewer starts from. alternate: at equal distances, the first and the
    last among them. first, last: as many of the first or last ones."""
    rounding_rate: float = 0.5
    """Learning rate of the training with rounded weights, as a multiple of optim.learning_rate. That training comes
    last, and starts from a student that has learnt the task already."""
    examples: int = 512
    """Training examples on which importance is measured for pruning, drawn at random."""
    length: int = 0
    """Tokens of the text whose latency counts. 0: data.length."""
    threads: int = 1
    """Threads that answer it."""
    rounds: int = 5
    """Turns of each model when latencies are measured at the end."""
    over: str = ""
    """Published shape, such as bert_base, that speed-ups are relative to, timed in PyTorch float32 with random weights;
    at least as large as the teacher. Empty: the teacher."""


def is_name(name: str) -> bool:
    """Whether a point can be called so."""
    return _NAME.fullmatch(name) is not None


def parsed(name: str) -> Point:
    """The point of a name. Raises UserError for a name that is none."""
    found = _NAME.fullmatch(name)
    if not found:
        raise UserError(
            f"compress: --points {name} should be LAYERS-ARITHMETIC or LAYERS-SPEEDx-ARITHMETIC, such as 6-float32, "
            "6-7bit or 6-2x-7bit; bits are 4, 7 or 8"
        )
    layers, speed, _, bits = found.groups()
    point = Point(int(layers), float(speed or 1), int(bits or 0))  # pyright: ignore[reportArgumentType]
    if speed and point.speed_up <= 1:
        raise UserError(f"compress: --points {name}: {speed}x must be greater than 1x; leave it out to prune nothing")
    return point


def usual_points(model: Model) -> tuple[Point, ...]:
    """All layers in integers, half of them in floats and in integers, and that half pruned further and further."""
    groups = model.share_groups
    half = max(groups, model.num_layers // 2 // groups * groups)
    points = [Point(half), Point(model.num_layers, 1.0, 7)]
    points += [parsed(f"{half}{f'-{speed:g}x' * (speed > 1)}-{arithmetic}") for speed, arithmetic in _SHAPES]
    return tuple(dict.fromkeys(point for point in points if not is_teacher(point, model)))


def is_teacher(point: Point, model: Model) -> bool:
    """Whether nothing is changed."""
    return (point.layers, point.speed_up, point.bits) == (model.num_layers, 1.0, 0)


def check_compress(settings: Compress, model: Model, cores: int) -> None:
    """Raises UserError for the first setting that cannot work.

    Args:
      settings: of the job.
      model: the teacher's shape.
      cores: of this machine.
    """
    check_numbers(settings, "compress")
    points = [parsed(name) for name in settings.points]
    if len(set(points)) < len(points):
        raise UserError("compress: --points has the same model twice; leave one of them out")
    for point in points:
        _check_point(point, model)
    if not 0 < settings.rounding_rate <= 1:
        raise UserError(f"compress: --rounding-rate {settings.rounding_rate:g} must be greater than 0 and at most 1")
    for name in ("examples", "rounds"):
        if getattr(settings, name) < 1:
            raise UserError(f"compress: --{name} {getattr(settings, name)} must be at least 1")
    if not 1 <= settings.threads <= cores:
        raise UserError(
            f"compress: --threads {settings.threads} must be at least 1 and at most {cores}, the cores here"
        )
    least = LEAST_LENGTH + 1  # A text has a piece between the special ones.
    if settings.length and not least <= settings.length <= model.max_positions:
        raise UserError(
            f"compress: --length {settings.length} must be 0, or at least {least} and at most the teacher's "
            f"{model.max_positions:,} positions"
        )


def _check_point(point: Point, model: Model) -> None:
    most, groups = model.num_layers, model.share_groups
    if not 1 <= point.layers <= most:
        raise UserError(f"compress: --points {point.name}: the teacher has {most} layers, so a student has 1 to {most}")
    if point.layers % groups:
        raise UserError(
            f"compress: --points {point.name}: the teacher's layers share in {groups} groups, so the number of layers "
            f"must be a multiple of {groups}"
        )
    if is_teacher(point, model):
        raise UserError(f"compress: --points {point.name} is the teacher itself; it is measured in any case")
