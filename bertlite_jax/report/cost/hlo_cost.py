"""What a compiled program costs a device: FLOPs, bytes moved in main memory, collectives. Loops count by their trips.

XLA's own `cost_analysis` counts the body of a loop once. Here a loop counts by its trip count, read from the compiler's
note or from the loop's condition. Bytes are what each fused operation reads and writes in main memory: values that the
compiler keeps in a TPU's fast memory cost nothing, and reading a slice of an array costs only the slice.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

from bertlite_jax.report.cost import hlo, hlo_loops
from bertlite_jax.report.cost.hlo import Computation, Instruction, Module, Shape

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-broadcast",
    "collective-permute",
)
BETWEEN_SLICES = "send between slices"
"""What a device hands to its host for the data-centre network; the sum comes back."""
_FREE = frozenset(
    [
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "after-all",
        "opt-barrier",
        "partition-id",
        "replica-id",
        "domain",
        "add-dependency",
    ]
)
_STARTS = ("call-start", "async-start")
_CALLS = ("call", *_STARTS)
"""`call-start`: a TPU's SparseCore runs it in parallel: offloaded collectives, gathers and copies."""
CONTROL = ("while", "conditional", *_CALLS)
"""Operations that run other computations, take as long as they do, and move nothing themselves."""
_SLICES = ("dynamic-slice", "slice", "gather")
_NO_TRAFFIC = ("ConcatBitcast", "AllocateBuffer", "PrepareAsyncCallStart", "PrepareAsyncCallDone")
"""Calls that only name memory: pieces that lie side by side, or room that is written later."""
_VIEWS = ("bitcast", "reshape", "get-tuple-element", "copy")
"""Inside a fusion. A copy there changes the tiles of an array, as TPU7x's programs do with whole stacks of which they
read or write a slice; it moves nothing by itself."""


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind over groups of one size, in one run of the program."""

    kind: str
    group: int
    """Devices that take part in one; 0: all."""
    count: int
    bytes: int
    """Of the arrays that a device contributes, or receives where that is more (all-gather)."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one run of the program on one device."""

    flops: int
    """Of matrix products and convolutions; a multiply-add is 2."""
    hbm_bytes: int
    """Read and written in main memory."""
    collectives: tuple[Collective, ...]
    unknown_loops: int
    """Loops whose trip count depends on data; their bodies count once."""
    unknown_kernels: int
    """Calls of kernels that do not state their FLOPs; they count as 0."""
    heaviest: tuple[tuple[str, int], ...]
    """The operations that move most bytes: their part of the program, and bytes over all runs."""
    operations: tuple[tuple[int, int, int], ...]
    """(FLOPs, bytes, how often it runs) of the operations that run one after the other, without copies and collectives
    that run in parallel."""


def cost(text: str, heaviest: int = 0) -> Cost:
    """Reads the optimised HLO of a program.

    Args:
      text: what `jax.stages.Compiled.as_text` returns; with several devices, the program of one.
      heaviest: how many of the heaviest operations to list.
    """
    module = hlo.parse(text)
    flops = moved = unknown_kernels = 0
    loops: set[str] = set()
    collectives: dict[tuple[str, int], list[int]] = {}
    movers: dict[str, int] = {}
    operations: dict[tuple[int, int], int] = {}
    beside = _beside(module)
    for computation, line, times in executed(module, loops):
        of_line = flops_of(module, computation, line)
        flops += times * of_line
        unknown_kernels += times * (line.operation == "custom-call" and _kernel_flops(line) == 0)
        for kind, group, size in _collectives_in(module, line):
            entry = collectives.setdefault((kind, group), [0, 0])
            entry[0] += times
            entry[1] += times * size
        size = times * bytes_of(module, computation, line)
        moved += size
        pair = (of_line, size // times)
        if any(pair) and not line.operation.endswith("-start") and computation.name not in beside:
            operations[pair] = operations.get(pair, 0) + times
        if size:
            where = line.source or line.operation
            movers[where] = movers.get(where, 0) + size
    return Cost(
        flops=flops,
        hbm_bytes=moved,
        collectives=tuple(Collective(*key, *values) for key, values in sorted(collectives.items())),
        unknown_loops=len(loops),
        unknown_kernels=unknown_kernels,
        heaviest=tuple(sorted(movers.items(), key=lambda item: -item[1])[:heaviest]),
        operations=tuple((*pair, times) for pair, times in operations.items()),
    )


def executed(module: Module, unknown: set[str]) -> Iterator[tuple[Computation, Instruction, int]]:
    """Every instruction that runs as one operation, with how often it runs; fusions are not entered.

    Args:
      module: the program.
      unknown: gets the names of loops without a trip count.
    """
    pending = [(module.entry, 1)]
    while pending:
        name, times = pending.pop()
        computation = module.computations[name]
        for line in computation.instructions.values():
            yield computation, line, times
            if line.operation == "while":
                trips = hlo_loops.trip_count(module, computation, line)
                if trips is None:
                    unknown.add(line.name)
                body = line.attribute("body").lstrip("%")
                pending.append((body, times * (1 if trips is None else trips)))
            elif line.operation == "conditional":
                branches = line.called
                pending.append((max(branches, key=lambda branch: _branch_bytes(module, branch)), times))
            elif line.operation in _CALLS:
                pending += [(called, times) for called in line.called]


def _beside(module: Module) -> set[str]:
    """Computations that run in parallel to others."""
    lines = (line for computation in module.computations.values() for line in computation.instructions.values())
    return {called for line in lines if line.operation in _STARTS for called in line.called}


def _branch_bytes(module: Module, name: str) -> int:
    """Bytes of a branch; the branch that moves most is counted."""
    computation = module.computations[name]
    return sum(bytes_of(module, computation, line) for line in computation.instructions.values())


# --- FLOPs -----------------------------------------------------------------------------------------------------------


def flops_of(module: Module, computation: Computation, line: Instruction) -> int:
    """FLOPs of one instruction, those inside a fusion included."""
    if line.operation == "dot":
        left = computation.instructions[line.operands[0]].shapes[0]
        axes = [int(axis) for axis in line.attribute("lhs_contracting_dims").split(",") if axis]
        return 2 * line.shapes[0].size * math.prod(left.dims[axis] for axis in axes)
    if line.operation == "convolution":
        left, right = (computation.instructions[name].shapes[0] for name in line.operands)
        return convolution_flops(line, left, right)
    if line.operation == "fusion":
        inner = module.computations[line.called[0]]
        return sum(flops_of(module, inner, part) for part in inner.instructions.values())
    return _kernel_flops(line) or 0 if line.operation == "custom-call" else 0


def convolution_flops(line: Instruction, left: Shape, right: Shape) -> int:
    """A TPU's matrix products are convolutions, with batch axes as spatial ones full of holes.

    Only products with an entry of the input count, neither with padding nor with the holes of a dilation.

    Source: openxla/xla: xla/service/hlo_cost_analysis.cc (`GetConvolutionFlops`).
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", line.attributes)
    assert labels, line.name
    of_left, of_right, of_result = labels.groups()
    spatial = sorted(label for label in of_right if label.isdigit())
    window = _window(line.attribute("window"), len(spatial))
    pairs = 1
    for axis, label in enumerate(spatial):
        pairs *= _pairs(
            left.dims[of_left.index(label)],
            right.dims[of_right.index(label)],
            line.shapes[0].dims[of_result.index(label)],
            *(window[name][axis] for name in ("stride", "pad", "lhs_dilate", "rhs_dilate")),
        )
    features_in, features_out = right.dims[of_right.index("i")], line.shapes[0].dims[of_result.index("f")]
    groups = int(line.attribute("batch_group_count") or 1)
    return 2 * pairs * features_in * features_out * left.dims[of_left.index("b")] // groups


@functools.cache
def _pairs(size: int, kernel: int, result: int, stride: int, pad: int, dilate: int, spread: int) -> int:
    """Along one axis: how many (result, kernel) places meet an entry of the input."""
    count = 0
    for tap in range(kernel):
        for place in range(result):
            at, hole = divmod(place * stride - pad + tap * spread, dilate)
            count += hole == 0 and 0 <= at < size
    return count


def _window(text: str, axes: int) -> dict[str, list[int]]:
    """`size=32x12 stride=31x11 pad=0_0x11_11` as numbers an axis; of the padding only the lower."""
    values = {"stride": [1] * axes, "pad": [0] * axes, "lhs_dilate": [1] * axes, "rhs_dilate": [1] * axes}
    for part in text.split():
        name, _, numbers = part.partition("=")
        if name in values:
            values[name] = [int(number.split("_")[0]) for number in numbers.split("x")]
    return values


def _kernel_flops(line: Instruction) -> int | None:
    """The FLOPs that a Pallas kernel states; 0: it states none; None: the call is not a kernel."""
    if 'custom_call_target="tpu_custom_call"' not in line.attributes:
        return None
    noted = re.search(r'"cost_estimate":\{[^{}]*"flops":"?(\d+)', line.attributes)
    return int(noted[1]) if noted else 0


# --- Collectives -----------------------------------------------------------------------------------------------------


def _collectives_in(module: Module, line: Instruction) -> Iterator[tuple[str, int, int]]:
    """(kind, devices in a group, bytes) of the collectives in an instruction or in its fusion."""
    kind = line.operation.removesuffix("-start")
    if kind in COLLECTIVES:
        arrays = line.shapes
        if line.operation.endswith("-start") and kind in ("all-gather", "collective-permute"):
            arrays = arrays[1:2]  # The tuple holds operand, result and perhaps semaphores.
        yield kind, _group_size(line), sum(shape.logical_bytes for shape in arrays)
    elif line.operation == "send" and "_xla_megascale_transfer_type" in line.attributes:
        yield BETWEEN_SLICES, 0, line.shapes[0].logical_bytes
    elif line.operation == "fusion":
        for part in module.computations[line.called[0]].instructions.values():
            yield from _collectives_in(module, part)


def _group_size(line: Instruction) -> int:
    spread = re.search(r"replica_groups=\[(\d+),(\d+)\]", line.attributes)
    if spread:
        return int(spread[2])
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", line.attributes)
    return len(listed[1].split(",")) if listed and listed[1] else 0


# --- Bytes -----------------------------------------------------------------------------------------------------------


def bytes_of(module: Module, computation: Computation, line: Instruction) -> int:
    """Bytes that one run of an instruction reads and writes in main memory; the body of a loop is not counted here."""
    kind = line.operation
    if kind in _FREE or kind.endswith("-done") or kind in CONTROL:
        return 0
    sources = [computation.instructions[name] for name in line.operands]
    if kind == "custom-call" and any(f'custom_call_target="{name}"' in line.attributes for name in _NO_TRAFFIC):
        return 0
    if kind == "fusion":
        return _fusion_bytes(module, line, sources)
    if kind in ("copy-start", "slice-start"):  # Operand and result stand beside each other in the result's tuple.
        moved = line.shapes[0] if kind == "copy-start" else line.shapes[-2]
        return sum(moved.bytes for shape in (moved, sources[0].shapes[0]) if shape.space == 0)
    if kind in ("all-gather-start", "collective-permute-start"):  # So do they here.
        return _in_hbm(sources) + line.shapes[1].bytes * (line.shapes[1].space == 0)
    if kind in ("send", "recv"):
        return line.shapes[0].bytes * (line.shapes[0].space == 0)
    if kind in _SLICES:
        moved = line.shapes[0].bytes
        return moved * ((line.shapes[0].space == 0) + (sources[0].shapes[0].space == 0)) + _in_hbm(sources[1:])
    if kind == "dynamic-update-slice":
        return sources[1].shapes[0].bytes * (line.shapes[0].space == 0) + _in_hbm(sources[1:])
    if kind == "scatter":
        return 2 * sources[-1].shapes[0].bytes * (line.shapes[0].space == 0) + _in_hbm(sources[1:])
    if kind == "custom-call":  # A kernel that takes parts of one array gets it once for each part.
        sources = list({_buffer(computation, source): source for source in sources}.values())
    return _in_hbm(sources) + sum(shape.bytes for shape in line.shapes if shape.space == 0)


def _buffer(computation: Computation, line: Instruction) -> str:
    """The name of the array that a value is, under whatever shape."""
    while line.operation == "bitcast":
        line = computation.instructions[line.operands[0]]
    return line.name


def _in_hbm(lines: list[Instruction]) -> int:
    """Bytes of these values, each read once."""
    once = {line.name: line.shapes for line in lines}.values()
    return sum(shape.bytes for arrays in once for shape in arrays if shape.space == 0)


def _fusion_bytes(module: Module, line: Instruction, sources: list[Instruction]) -> int:
    inner = module.computations[line.called[0]]
    total = 0
    for number, source in enumerate(sources):
        if number in inner.parameters and all(shape.space == 0 for shape in source.shapes):
            parameter = inner.parameters[number]
            whole = _viewed(module, inner, inner.root) is parameter
            total += sum(shape.bytes for shape in parameter.shapes) if whole else _read(module, inner, parameter)
    results = [inner.instructions[name] for name in inner.root.operands] if inner.root.operation == "tuple" else []
    # A root that is no tuple may have several results, as a reduction of a pair has; the first stands for them.
    for result, shape in zip(results or [inner.root], line.shapes, strict=False):
        if shape.space == 0:
            total += _written(module, inner, result, shape)
    return total


def _read(module: Module, inner: Computation, line: Instruction) -> int:
    """Bytes of a fusion's operand that are read: all, or only its slices if only slices are used."""
    total = 0
    for user in inner.users[line.name]:
        if user.operation in _SLICES and user.operands[0] == line.name:
            total += user.shapes[0].bytes
        elif user.operation == "dynamic-update-slice" and user.operands[0] == line.name:
            continue  # Written in place.
        elif user.operation in _VIEWS:
            total += _read(module, inner, user)
        elif user.operation == "fusion":
            nested = module.computations[user.called[0]]
            parameter = nested.parameters[user.operands.index(line.name)]
            total += _read(module, nested, parameter)
            if _viewed(module, nested, nested.root) is parameter:
                total += _read(module, inner, user)  # It only gives the operand another shape.
        elif user.operation != "tuple":
            return sum(shape.bytes for shape in line.shapes)
    return min(total, sum(shape.bytes for shape in line.shapes))


def _written(module: Module, inner: Computation, line: Instruction, shape: Shape) -> int:
    """Bytes of a fusion's result that are written: all, or only the update if it updates an operand in place."""
    line = _viewed(module, inner, line)
    if line.operation == "dynamic-update-slice":
        return inner.instructions[line.operands[1]].shapes[0].bytes
    if line.operation == "fusion" and len(line.shapes) == 1:
        nested = module.computations[line.called[0]]
        return _written(module, nested, nested.root, shape)
    return shape.bytes


def _viewed(module: Module, inner: Computation, line: Instruction) -> Instruction:
    """The value that this is another view of, through fusions that do nothing else; itself if it is computed."""
    while True:
        if line.operation in _VIEWS:
            line = inner.instructions[line.operands[0]]
            continue
        if line.operation != "fusion" or len(line.shapes) != 1:
            return line
        nested = module.computations[line.called[0]]
        source = _viewed(module, nested, nested.root)
        if source.operation != "parameter":
            return line
        line = inner.instructions[line.operands[int(source.argument)]]
