"""XLA's optimised HLO text as computations of instructions; `hlo_cost` computes what they cost.

A line such as `%y = f32[8,128]{1,0:T(8,128)S(1)} fusion(%a, %b), kind=kLoop, calls=%f` gives the name, the arrays of
the result, the operation, the names of the operands, and the attributes behind them.

Source of the format: openxla/xla: xla/hlo/parser and docs "Shapes and layout", "Tiled layout".
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re

ITEM_BITS = {
    **dict.fromkeys(("s4", "u4"), 4),
    **dict.fromkeys(("pred", "s8", "u8", "f8e4m3fn", "f8e5m2"), 8),
    **dict.fromkeys(("bf16", "f16", "s16", "u16"), 16),
    **dict.fromkeys(("f32", "s32", "u32"), 32),
    **dict.fromkeys(("f64", "s64", "u64", "c64"), 64),
    "c128": 128,
}
"""Bits of the element types that occupy memory; tokens and opaque values take none."""

_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_TILE = re.compile(r"T\(([\d,]+)\)")
_SPACE = re.compile(r"S\((\d+)\)")


@dataclasses.dataclass(frozen=True)
class Shape:
    """One array."""

    kind: str
    """Element type, as HLO names it."""
    dims: tuple[int, ...]
    layout: str = ""
    """`1,0:T(8,128)(2,1)S(1)`: axes from minor to major, tiles, memory space."""

    @property
    def space(self) -> int:
        """0: the device's main memory (HBM); 1: TPU's fast memory (VMEM); others: scalars, semaphores, the host."""
        match = _SPACE.search(self.layout)
        return int(match[1]) if match else 0

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.dims)

    @property
    def logical_bytes(self) -> int:
        """Without padding."""
        return -(-self.size * ITEM_BITS.get(self.kind, 0) // 8)

    @functools.cached_property
    def bytes(self) -> int:
        """In memory, where the minor axes are rounded up to the tile."""
        tile = _TILE.search(self.layout)
        if not tile or not self.dims:
            return self.logical_bytes
        order = [int(axis) for axis in self.layout.split(":")[0].split(",")]
        padded = list(self.dims)
        for axis, step in zip(order, reversed([int(part) for part in tile[1].split(",")]), strict=False):
            padded[axis] = -(-padded[axis] // step) * step
        return math.prod(padded) * ITEM_BITS.get(self.kind, 0) // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line."""

    name: str
    shapes: tuple[Shape, ...]
    """The arrays of the result: one, or those of a tuple, flattened."""
    operation: str
    operands: tuple[str, ...]
    argument: str
    """The text between the parentheses: a constant's value, a parameter's number."""
    attributes: str
    root: bool

    def attribute(self, name: str) -> str:
        """The value of `name=value`, without braces; "" if there is none."""
        match = re.search(rf"[ ,]{name}=(\{{[^{{}}]*\}}|[^ ,]+)", self.attributes)
        return match[1].strip("{}") if match else ""

    @property
    def called(self) -> tuple[str, ...]:
        """Computations that this instruction runs, in the order of the attributes."""
        names = ("calls", "condition", "body", "to_apply", "true_computation", "false_computation")
        groups = [_NAME.findall(self.attribute(name) or "") for name in (*names, "branch_computations")]
        return tuple(name for group in groups for name in group)

    @property
    def source(self) -> str:
        """The part of the program that it comes from, e.g. "jit(step)/.../dot_general"."""
        match = re.search(r'op_name="([^"]*)"', self.attributes)
        return match[1] if match else ""


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name, in their order."""

    name: str
    instructions: dict[str, Instruction]

    @functools.cached_property
    def root(self) -> Instruction:
        """The instruction whose value is the result."""
        marked = [line for line in self.instructions.values() if line.root]
        return marked[0] if marked else list(self.instructions.values())[-1]

    @functools.cached_property
    def parameters(self) -> dict[int, Instruction]:
        """By number."""
        return {int(line.argument): line for line in self.instructions.values() if line.operation == "parameter"}

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """For each instruction, those that read it."""
        readers: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for line in self.instructions.values():
            for operand in dict.fromkeys(line.operands):
                if operand in readers:
                    readers[operand].append(line)
        return readers


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program."""

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """Reads what `jax.stages.Compiled.as_text` returns.

    Raises:
      ValueError: the text has no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            current = Computation(header[2], {})
            computations[header[2]] = current
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None:
            instruction = _instruction(line)
            if instruction:
                current.instructions[instruction.name] = instruction
    if not entry:
        raise ValueError("not the text of an HLO module: no ENTRY computation")
    return Module(computations, entry)


def shapes(text: str) -> tuple[Shape, ...]:
    """`(f32[2,3]{1,0}, s32[])` as two shapes."""
    return tuple(
        Shape(kind, tuple(int(part) for part in dims.split(",") if part), layout)
        for kind, dims, layout in _ARRAY.findall(text)
    )


def _instruction(line: str) -> Instruction | None:
    left, equals, right = line.strip().partition(" = ")
    if not equals:
        return None
    end = _closing(right, 0) if right.startswith("(") else right.index(" ")
    rest = right[end:].lstrip()
    opened = rest.index("(")
    closed = _closing(rest, opened)
    argument = rest[opened + 1 : closed - 1]
    return Instruction(
        name=left.removeprefix("ROOT ").lstrip("%"),
        shapes=shapes(right[:end]),
        operation=rest[:opened],
        operands=() if rest[:opened] == "constant" else tuple(_NAME.findall(argument)),
        argument=argument,
        attributes=rest[closed:],
        root=left.startswith("ROOT "),
    )


def _closing(text: str, opened: int) -> int:
    """The index behind the parenthesis that closes the one at `opened`."""
    depth = 0
    for place in range(opened, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    raise ValueError(f"a parenthesis is not closed: {text[:80]}")
