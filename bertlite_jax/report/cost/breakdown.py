"""Where the time of a training step goes on a CPU: products, attention, norms and activations, optimiser, host.

The part that an operation belongs to is read from the compiled program: the model and the step name their parts
(`jax.named_scope`), and every operation carries the names that it was made under. A fused operation counts where its
result belongs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from bertlite_jax.report.cost import hlo_cost
from bertlite_jax.report.cost.hlo import Computation, Instruction, Module

PRODUCTS, AROUND, HOST, REST = "products of layers and heads", "biases, rounding, transpositions", "host", "the rest"
SCOPES = {
    "dense": AROUND,
    "attention": "attention",
    "norm": "norms and activations",
    "activation": "norms and activations",
    "optimizer": "optimiser",
}
"""Name in the program -> part of the table; the innermost name counts."""
PARTS = (PRODUCTS, AROUND, *dict.fromkeys(list(SCOPES.values())[1:]), REST, HOST)
"""In the order of the table. `the rest`: embeddings, masks, losses, dropout, copies between loops. `host`: no operation
runs."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A line of the table, of one step."""

    name: str
    seconds: float
    flops: int
    """Of its matrix products."""
    bytes: int
    """Read and written by its operations, in caches or in memory."""


def breakdown(module: Module, seconds: Mapping[str, float], step_seconds: float) -> list[Part]:
    """Adds up operations by part.

    Args:
      module: the optimised program; `hlo.parse` of what `jax.stages.Compiled.as_text` gives.
      seconds: by operation, in one step; `trace.operation_seconds` of `operations(module)`.
      step_seconds: of the whole step; time outside all operations counts as the host's.
    """
    sums: dict[str, list[float]] = {part: [0.0, 0, 0] for part in PARTS}
    for computation, line, times in hlo_cost.executed(module, set()):
        if line.operation in hlo_cost.CONTROL:
            continue
        entry = sums[part_of(module, computation, line)]
        entry[0] += seconds.get(line.name, 0.0)
        entry[1] += times * hlo_cost.flops_of(module, computation, line)
        entry[2] += times * hlo_cost.bytes_of(module, computation, line)
    sums[HOST][0] = max(0.0, step_seconds - sum(seconds.values()))
    return [Part(name, spent, int(flops), int(moved)) for name, (spent, flops, moved) in sums.items()]


def operations(module: Module) -> set[str]:
    """Names of the operations that run, without loops and calls."""
    return {line.name for _, line, _ in hlo_cost.executed(module, set()) if line.operation not in hlo_cost.CONTROL}


def part_of(module: Module, computation: Computation, line: Instruction) -> str:
    """The part that an operation belongs to."""
    scopes = [scope for scope in line.source.split("/") if scope in SCOPES]
    part = SCOPES[scopes[-1]] if scopes else REST
    if part not in (SCOPES["attention"], SCOPES["optimizer"]) and hlo_cost.flops_of(module, computation, line):
        return PRODUCTS
    return part
