"""The shape that a reader needs of JSON which another program, a person or a failing disk may have changed.

A shape is

* a type, or a tuple of types of which the value has one: `str`, `(str, NoneType)`; `NUMBER` is int or float; numbers
  must be finite, and a bool is none;
* `[shape]`: a list of any length; `[shape, shape]`: a list of just these;
* `{"key": shape, "other?": shape, ...: shape}`: an object that has `key`, may have `other`, and whose other values are
  of the last shape; without `...` they may be anything.
"""

from __future__ import annotations

import math
from types import EllipsisType, NoneType
from typing import Any

from bertlite_jax.errors import UserError

NUMBER = (int, float)
ANYTHING = (str, int, float, bool, list, dict, NoneType)
_DEEPEST = 64
_LARGEST = 10**300
"""Of whole numbers, so that each is a float too."""
_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}


def check(value: Any, shape: Any, where: str, job: str) -> None:
    """Raises UserError, which names the key, for the first part of the value that has not its shape.

    Args:
      value: as `json_files` returns it.
      shape: see above.
      where: its file, or file and line.
      job: first word of the message.
    """
    if problem := _problem(value, shape, "", 0):
        raise UserError(f"{job}: {where}: {problem}")


def _problem(value: Any, shape: Any, key: str, depth: int) -> str:
    """What is wrong, with the key; empty if nothing is."""
    if depth > _DEEPEST:
        return f"{key[:60]}... is nested too deeply"
    if isinstance(shape, dict):
        return _problem_of_object(value, shape, key, depth)
    if isinstance(shape, list):
        return _problem_of_list(value, shape, key, depth)
    kinds = shape if isinstance(shape, tuple) else (shape,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(_NAMES[kind] for kind in kinds if kind is not float or int not in kinds)
        return f"{key or 'it'} should be {wanted}"
    if isinstance(value, int | float) and not (math.isfinite(value) if isinstance(value, float) else _fits(value)):
        return f"{key or 'it'} should be a finite number"
    if isinstance(value, dict):
        return _problem_of_object(value, {}, key, depth)
    return _problem_of_list(value, [ANYTHING], key, depth) if isinstance(value, list) else ""


def _fits(value: int) -> bool:
    return abs(value) < _LARGEST


def _problem_of_object(value: Any, shape: dict[str | EllipsisType, Any], key: str, depth: int) -> str:
    if not isinstance(value, dict):
        return f"{key or 'it'} should be an object"
    named = {name.rstrip("?"): name for name in shape if isinstance(name, str)}
    for name, as_written in named.items():
        if name not in value and not as_written.endswith("?"):
            return f"{key + '.' if key else ''}{name} is missing"
    for name, inner in value.items():
        of_inner = shape[named[name]] if name in named else shape.get(..., ANYTHING)
        if problem := _problem(inner, of_inner, f"{key}.{name}" if key else name, depth + 1):
            return problem
    return ""


def _problem_of_list(value: Any, shape: list[Any], key: str, depth: int) -> str:
    if not isinstance(value, list):
        return f"{key or 'it'} should be a list"
    shapes = shape * len(value) if len(shape) == 1 else shape
    if len(shapes) != len(value):
        return f"{key or 'it'} should be a list of {len(shape)}"
    for number, (inner, of_inner) in enumerate(zip(value, shapes, strict=True)):
        if problem := _problem(inner, of_inner, f"{key}[{number}]", depth + 1):
            return problem
    return ""
