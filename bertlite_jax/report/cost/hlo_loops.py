"""How often the loops of a compiled program run.

On some platforms XLA notes the number; on others it follows from the loop's condition `counter < bound`, where the
counter starts at a constant and grows by one.
"""

from __future__ import annotations

import re

from bertlite_jax.report.cost.hlo import Computation, Instruction, Module


def trip_count(module: Module, outside: Computation, loop: Instruction) -> int | None:
    """How often a `while` runs its body, or None if the text does not tell."""
    noted = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if noted:
        return int(noted[1])
    condition = module.computations[loop.attribute("condition").lstrip("%")]
    body = module.computations[loop.attribute("body").lstrip("%")]
    initial = _tuple_parts(outside, loop.operands[0])
    compare = condition.root
    inside = condition
    if compare.operation == "fusion":
        inside = module.computations[compare.called[0]]
        arguments, compare = compare.operands, inside.root
    else:
        arguments = ()
    if compare.operation != "compare" or compare.attribute("direction") != "LT" or not initial:
        return None

    def value(name: str) -> tuple[int | None, int | None]:
        """(constant, place in the loop's tuple) of one side of the comparison."""
        line = inside.instructions[name]
        if arguments and line.operation == "parameter":
            line = condition.instructions[arguments[int(line.argument)]]
        if line.operation == "get-tuple-element":
            return None, int(line.attribute("index"))
        return _constant(condition, line), None

    (_, counter), (bound, bound_place) = value(compare.operands[0]), value(compare.operands[1])
    if bound is None and bound_place is not None:
        bound = _constant(outside, outside.instructions.get(initial[bound_place]))
    if counter is None or bound is None:
        return None
    first = _constant(outside, outside.instructions.get(initial[counter]))
    step = _step(body, counter)
    return max(0, -(-(bound - first) // step)) if first is not None and step else None


def _tuple_parts(computation: Computation, name: str) -> tuple[str, ...]:
    line = computation.instructions[name]
    return line.operands if line.operation == "tuple" else ()


def _constant(computation: Computation, line: Instruction | None) -> int | None:
    """The integer that an instruction always gives."""
    while line is not None and line.operation in ("copy", "bitcast", "convert", "copy-start", "copy-done"):
        line = computation.instructions.get(line.operands[0])
    if line is None or line.operation != "constant" or not re.fullmatch(r"-?\d+", line.argument):
        return None
    return int(line.argument)


def _step(body: Computation, counter: int) -> int | None:
    """By how much the body raises an element of its tuple."""
    parts = body.root.operands
    line = body.instructions.get(parts[counter]) if counter < len(parts) else None
    while line is not None and line.operation in ("copy", "bitcast"):
        line = body.instructions.get(line.operands[0])
    if line is None or line.operation != "add":
        return None
    constants = [_constant(body, body.instructions.get(name)) for name in line.operands]
    return next((number for number in constants if number), None)
