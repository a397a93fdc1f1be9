"""Names of TPU slices: the compiler's ("v4:4x8x8", in chips) and the users' ("v4-512", in cores).

The number in a user's name counts TensorCores on v4, v5p and tpu7x, two of them a chip, and chips on v5e and v6e. So
v4-512 is 256 chips, and the compiler calls it v4:4x8x8.

Source: docs.cloud.google.com/tpu/docs: v4, v5e, v5p, v6e, tpu7x ("Configurations").
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

from bertlite_jax.errors import UserError, fields_close_to
from bertlite_jax.report.cost.chips import CHIPS, Chip

ALIASES = {"v5litepod": "v5e", "v5lite": "v5e", "v7x": "tpu7x"}
"""Other names of a generation."""


@dataclasses.dataclass(frozen=True)
class Topology:
    """One slice, or several equal ones that the data-centre network connects."""

    generation: str
    shape: tuple[int, ...]
    """Chips along each axis of one slice."""
    slices: int = 1

    @property
    def chip(self) -> Chip:
        """Memory and speed of one of its chips."""
        return CHIPS[self.generation]

    @property
    def chips(self) -> int:
        """Number of chips in all slices."""
        return math.prod(self.shape) * self.slices

    @property
    def devices(self) -> int:
        """Number of devices that JAX sees, in all slices."""
        return self.chips * self.chip.devices

    @property
    def compiler_name(self) -> str:
        """`v4:4x8x8`."""
        return f"{self.generation}:{'x'.join(map(str, self.shape))}"

    @property
    def user_name(self) -> str:
        """`v4-512`."""
        return f"{self.generation}-{math.prod(self.shape) * self.chip.cores}"

    @property
    def compiler_options(self) -> dict[str, Any]:
        """Further options of the compiler. Without megacore, a v4 chip is two devices with half the memory each."""
        return {"chip_config_name": "megacore"} if self.generation == "v4" else {}


def parse(text: str, slices: int = 1, where: str = "compile: --topology") -> Topology:
    """Reads `v4-512`, `v5e:16x16`, `v5litepod-256` or `tpu7x:2x2x1`.

    Args:
      text: either kind of name.
      slices: number of slices.
      where: what the text was given as; it begins the message.

    Raises:
      UserError: there is no such generation, shape or size; the message has the nearest that exists.
    """
    said, name = f"{where} {text}", text.strip().lower()
    generation = re.split("[:-]", name, maxsplit=1)[0]
    separator, size = name[len(generation) :][:1], name[len(generation) + 1 :]
    generation = ALIASES.get(generation, generation)
    if generation not in CHIPS:
        raise UserError(f"{said}: unknown chip; {fields_close_to(generation, list(CHIPS))}")
    chip = CHIPS[generation]
    if slices < 1:
        raise UserError(f"compile: --num-slices {slices} must be at least 1")
    if separator == ":" and re.fullmatch(r"\d+(x\d+)*", size):
        shape = tuple(map(int, size.split("x")))
    elif separator == "-" and size.isdecimal():
        return Topology(generation, _shape_of(chip, int(size), said), slices)
    else:
        sides = "x".join("2" * chip.axes)
        raise UserError(f"{said}: not a slice; write {generation}:{sides} or {generation}-16")
    _check_shape(chip, shape, said)
    return Topology(generation, shape, slices)


def describe(topology: Topology) -> str:
    """`v4-512 = 256 chips (512 cores) = v4:4x8x8; 256 devices with 30.8 GiB to use`."""
    chip, chips = topology.chip, math.prod(topology.shape)
    cores = f" ({chips * chip.cores} cores)" if chip.cores > 1 else ""
    times = f", {topology.slices} slices of it" if topology.slices > 1 else ""
    memory = chip.usable_bytes / chip.devices / 2**30
    return (
        f"{topology.user_name} = {chips} chips{cores} = {topology.compiler_name}{times}; "
        f"{topology.devices} devices with {memory:.1f} GiB to use"
    )


def usual_shape(axes: int, chips: int) -> tuple[int, ...]:
    """The shape of a Cloud TPU slice of `chips` chips, a power of two: sides as equal as possible, longer ones last.

    The smallest slice with three axes is 2x2x1, one host.
    """
    if axes == 3 and chips == 4:
        return (2, 2, 1)
    power = chips.bit_length() - 1
    return tuple(2 ** ((power + axis) // axes) for axis in range(axes))


def _shape_of(chip: Chip, number: int, said: str) -> tuple[int, ...]:
    sizes = _user_sizes(chip)
    if number not in sizes:
        near = min(sizes, key=lambda size: (abs(size - number), size))
        counted = f"{chip.generation}-N counts {'cores, two a chip' if chip.cores > 1 else 'chips'}"
        raise UserError(
            f"{said}: no such slice; {counted}; nearest: {chip.generation}-{near}. "
            f"Other shapes: {chip.generation}:{'x'.join('4' * chip.axes)} and so on, in chips"
        )
    return usual_shape(chip.axes, number // chip.cores)


def _user_sizes(chip: Chip) -> list[int]:
    """The numbers in the users' names of slices."""
    powers = [2**power for power in range(2, chip.most_chips.bit_length())]
    return [chips * chip.cores for chips in powers]


def _check_shape(chip: Chip, shape: tuple[int, ...], said: str) -> None:
    if len(shape) != chip.axes:
        example = "x".join(map(str, usual_shape(chip.axes, 16)))
        raise UserError(f"{said}: {chip.generation} has {chip.axes} axes, as {example}")
    if math.prod(shape) > chip.most_chips:
        raise UserError(f"{said}: one slice of {chip.generation} has at most {chip.most_chips} chips")
    if any(side < 1 for side in shape) or any(side % 2 for side in shape[:2]):
        fitting = "x".join(str(max(2, side + side % 2)) for side in shape[:2]) + "".join(f"x{s}" for s in shape[2:])
        raise UserError(
            f"{said}: hosts hold 2x2 chips, so the first two sides must be even; write {chip.generation}:{fitting}"
        )
