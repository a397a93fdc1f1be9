"""What a shape costs: parameters, FLOPs and the time of an answer, all by formula.

The formulas of parameters and FLOPs are those of `report/cost/flops.py`, which a search shares with every report. They
are passed in, because `search/` and `report/` do not know each other.

Letters: B texts at a time, L tokens, D hidden, F feed-forward, H heads, N layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.config.search.settings import CostModel, Counted, Search, Shape, model_of
from bertlite_jax.search.candidates import Candidate, Cost, by_size
from bertlite_jax.search.space import resolved


class Formulas(NamedTuple):
    """`parameters`, `forward_flops_per_row` and `train_flops_per_step` of `report/cost/flops.py`."""

    parameters: Callable[[Model], Mapping[str, int]]
    flops: Callable[[Model, int, int, int], int]
    """(model, L, predictions, windows) -> FLOPs of a forward pass over one text."""
    step_flops: Callable[[Pretrain], int]
    """Of one update; with the vocabulary product, which is most of it for small shapes."""


Seconds = Callable[[Model], float]
"""Time of an answer, by formula or as it was measured."""


class Machine(NamedTuple):
    """What a formula knows of a machine; the texts of an answer are divided among its devices."""

    flops_per_second: float
    """Peak of a device in dense products."""
    bytes_per_second: float = float("inf")
    """Bandwidth of a device's memory."""
    seconds_per_layer: float = 0.0
    """What each layer takes beside its arithmetic, such as the start of kernels."""
    bytes_per_number: int = 4
    """Of weights and states: 4 for float32, 2 for bfloat16, 1 for 8 bits."""
    devices: int = 1


def candidates(shapes: Iterable[Shape], config: Search, formulas: Formulas, seconds_of: Seconds) -> list[Candidate]:
    """The shapes with their costs, in the order of their size.

    Args:
      shapes: that can be built.
      config: what all of them have in common, how trials are trained, and which costs count.
      formulas: of parameters and FLOPs.
      seconds_of: time of an answer.
    """
    return by_size(candidate(shape, config, formulas, seconds_of) for shape in shapes)


def candidate(shape: Shape, config: Search, formulas: Formulas, seconds_of: Seconds) -> Candidate:
    """One shape with its costs, such as the maximum point; the arguments are those of `candidates`."""
    model = model_of(config.model, shape)
    step_flops = formulas.step_flops(dataclasses.replace(config, model=model))
    parameters = count(model, config.cost.parameters, formulas)
    return Candidate(resolved(shape), Cost(parameters, seconds_of(model), step_flops))


def by_formula(cost: CostModel, formulas: Formulas, machine: Machine) -> Seconds:
    """Times of answers by `answer_seconds`."""
    return lambda model: answer_seconds(model, cost, formulas, machine)


def answer_seconds(model: Model, cost: CostModel, formulas: Formulas, machine: Machine) -> float:
    """Time of one answer by formula: that of the device with the most texts. Each device reads all kernels.

    Examples:
      BERT base and Bort, a text of 128 tokens, on a machine of 10^12 FLOP/s: 22 ms and 6 ms.

      >>> from bertlite_jax.config import CostModel, presets
      >>> from bertlite_jax.report.cost import flops
      >>> from bertlite_jax.search.costs import Formulas, Machine, answer_seconds
      >>> formulas = Formulas(flops.parameters, flops.forward_flops_per_row, flops.train_flops_per_step)
      >>> cost, machine = CostModel(latency="analytic", length=128), Machine(flops_per_second=1e12)
      >>> for model in (presets.BERT_BASE, presets.BORT):
      ...     print(round(1000 * answer_seconds(model, cost, formulas, machine), 1))
      22.3
      6.2
    """
    rows = -(-cost.rows // machine.devices)
    seconds = rows * encoder_flops(model, cost.length, formulas) / machine.flops_per_second
    if cost.latency == "roofline":
        moved = encoder_bytes(model, cost.length, rows, machine.bytes_per_number)
        seconds = max(seconds, moved / machine.bytes_per_second) + model.num_layers * machine.seconds_per_layer
    return seconds


def count(model: Model, counted: Counted, formulas: Formulas) -> int:
    """Parameters of the whole model with its heads, of the encoder, or of its layers without embeddings."""
    parts = formulas.parameters(model)
    if counted == "layers":
        return parts["encoder"] - parts["embeddings"] - parts["projection"]
    return parts["total" if counted == "all" else counted]


def encoder_flops(model: Model, length: int, formulas: Formulas) -> int:
    """FLOPs of one text of `length` tokens through the encoder, without heads: N (2 L (4 D^2 + 2 D F) + 4 L^2 D).

    The projection of narrower embeddings comes on top.
    """
    return formulas.flops(model, length, 0, 0)


def encoder_bytes(model: Model, length: int, rows: int, bytes_per_number: int) -> int:
    """Bytes that an answer moves through memory: an estimate of what a roofline needs.

    Each application of a layer reads its kernels, also where layers share them, because most caches do not hold a
    layer; of the states it writes and reads queries, keys, values, the attended ones and its output (5 D), the
    feed-forward layer (F), and the attention scores (H L).
    """
    D, F, N = model.hidden_size, model.ffn_size, model.num_layers
    kernels = 4 * D * D + 2 * D * F
    states = 2 * rows * length * (5 * D + F + model.num_heads * length)
    embeddings = rows * length * model.embed_size + (model.embed_size * D if model.projected else 0)
    return bytes_per_number * (N * (kernels + states) + embeddings)
