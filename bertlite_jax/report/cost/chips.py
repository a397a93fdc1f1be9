"""Peak, memory and bandwidth of each generation of TPU chips, as published.

Sources: docs.cloud.google.com/tpu/docs: v4, v5e, v5p, v6e and tpu7x ("System architecture"), read in November 2026. The
memory that a program may use is what the compiler (libtpu 0.0.42) names when it refuses one. The bandwidth of a chip's
links is the published sum of both directions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from bertlite_jax.report.cost import flops


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip. If JAX shows it as two devices, each has half of everything."""

    generation: str
    """In names of topologies: v4, v5e, v5p, v6e, tpu7x."""
    device_kind: str
    """JAX's name for its devices."""
    devices: int
    """JAX devices a chip."""
    cores: int
    """TensorCores a chip: what the number in the names of v4, v5p and tpu7x slices counts."""
    axes: int
    """Of the torus that the chips form."""
    most_chips: int
    """In one slice."""
    usable_bytes: int
    """The part of its memory that the compiler gives to a program."""
    hbm_bandwidth: float
    """Bytes a second."""
    link_bandwidth: float
    """Bytes a second over all links to other chips, both directions together."""

    @property
    def device_peak(self) -> float:
        """FLOP/s of one device in bfloat16 products."""
        peak = flops.peak_flops(self.device_kind, "bfloat16")
        assert peak is not None, self.device_kind
        return peak


_GIB = 2**30

CHIPS = {
    chip.generation: chip
    for chip in (
        Chip("v4", "TPU v4", 1, 2, 3, 4096, int(30.75 * _GIB), 1.2e12, 600e9),
        Chip("v5e", "TPU v5 lite", 1, 1, 2, 256, int(15.75 * _GIB), 819e9, 400e9),
        Chip("v5p", "TPU v5", 1, 2, 3, 6144, int(95.74 * _GIB), 2765e9, 1200e9),
        Chip("v6e", "TPU v6 lite", 1, 1, 2, 256, int(31.25 * _GIB), 1638e9, 800e9),
        Chip("tpu7x", "TPU7x", 2, 2, 3, 9216, int(189.5 * _GIB), 7380e9, 1200e9),
    )
}
"""By generation."""


def step_seconds(model_flops: float, hbm_bytes: float, chip: Chip) -> tuple[float, str]:
    """The least time of a step on one device by the roofline, and what bounds it.

    Args:
      model_flops: of one device, counted by formula (`flops.train_flops_per_step`); recomputation is not in it.
      hbm_bytes: of one device, from the compiled program.
      chip: whose peak and bandwidth.

    Returns:
      Seconds, and "products" or "memory". A bound, not a forecast: nothing overlaps perfectly, small products do not
      fill the matrix units, and communication is not in it.

    Source: Williams et al. 2009 (doi 10.1145/1498765.1498785).
    """
    computing = model_flops / chip.device_peak
    moving = hbm_bytes / (chip.hbm_bandwidth / chip.devices)
    return max(computing, moving), "products" if computing >= moving else "memory"


def serial_seconds(operations: Iterable[Sequence[int]], hbm_bytes: float, chip: Chip) -> float:
    """The least time of a step whose operations follow one another, as a TPU's do: the sum of their rooflines.

    A higher bound than `step_seconds`: what one operation reads does not overlap with another's products. Copies that
    run in parallel count in the bytes of the whole.

    Args:
      operations: (FLOPs, bytes, how often) each, as `hlo_cost.Cost` has them; recomputation counts.
      hbm_bytes: of the whole step on one device.
      chip: whose peak and bandwidth.
    """
    bandwidth = chip.hbm_bandwidth / chip.devices
    alone = sum(times * max(flops / chip.device_peak, size / bandwidth) for flops, size, times in operations)
    return max(alone, hbm_bytes / bandwidth)


def link_seconds(size: float, devices: int, passes: int, chip: Chip) -> float:
    """The least time of a collective of `size` bytes over the links between chips, if nothing else uses them.

    Each device sends (n - 1) / n of the bytes in a pass, by half of the links' bandwidth, as they run both ways.

    Args:
      size: of the whole array.
      devices: n that take part.
      passes: 2 for an all-reduce, which scatters sums and gathers them; 1 for one half of it.
      chip: whose links.

    Source: Patarasuk and Yuan 2009 (doi 10.1016/j.jpdc.2008.09.002).
    """
    return passes * size * (devices - 1) / devices / (chip.link_bandwidth / 2 / chip.devices)
