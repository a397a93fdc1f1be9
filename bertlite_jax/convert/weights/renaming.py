"""Tensors of other programs under our names, from a table of modules that is read in both directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from bertlite_jax.convert.weights.parameters import Flat, is_float, raise_problems
from bertlite_jax.errors import UserError

Module = tuple[str, str, str]
"""(our module, their module, kind). `{i}` in their module counts the entries of our leading axis."""

Leaves = Mapping[str, Sequence[tuple[str, str, bool]]]
"""By kind of module: (our leaf, what follows the name of their module, whether theirs is transposed)."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor of theirs: the slice `index` of our parameter `ours` (the whole of it where `index` is None)."""

    ours: str
    index: int | None
    theirs: str
    transposed: bool


def renamed(tensors: Flat, name_of: Callable[[str], str], where: str) -> Flat:
    """The tensors under other names.

    Args:
      tensors: by their names.
      name_of: the other name of each.
      where: named in errors.

    Raises:
      UserError: two tensors that are not equal get one name; the error has the names of both.
    """
    result: Flat = {}
    before: dict[str, str] = {}
    for name, value in tensors.items():
        new = name_of(name)
        if new in result and not np.array_equal(result[new], value):
            raise UserError(
                f"convert: {where}: {before[new]} and {name} are two spellings of {new}, and they differ; remove the "
                "one that is not the model's"
            )
        result[new], before[new] = value, name
    return result


def list_entries(modules: Iterable[Module], leaves: Leaves, shapes: Mapping[str, tuple[int, ...]]) -> list[Entry]:
    """Every tensor of theirs that a model has.

    Args:
      modules: the table of a family.
      leaves: of each kind in the table.
      shapes: of our parameters by flat name; leaves that are not among them are left out.
    """
    listed = []
    for ours, theirs, kind in modules:
        for our_leaf, suffix, transposed in leaves[kind]:
            path = f"{ours}/{our_leaf}"
            if path not in shapes:
                continue
            # Of layers that share everything, some programs have one module without a number.
            single = [0] if ours.startswith("layers/") else [None]
            indices = range(shapes[path][0]) if "{i}" in theirs else single
            listed += [Entry(path, i, theirs.format(i=i) + suffix, transposed) for i in indices]
    return listed


def to_ours(
    entries: Sequence[Entry],
    tensors: Flat,
    shapes: Mapping[str, tuple[int, ...]],
    where: str,
    optional: Collection[str] = (),
) -> Flat:
    """Their tensors under our names, slices stacked, f32.

    Args:
      entries: every tensor that the checkpoint can have.
      tensors: by their names.
      shapes: of our parameters, by flat name.
      where: named in errors.
      optional: parts, such as `pooler`, that may be missing as a whole.

    Raises:
      UserError: lists every tensor that is missing, unknown, wrongly shaped, or of whole numbers.
    """
    ours_of = {entry.theirs: entry.ours for entry in entries}
    absent = set(optional) - {_part(ours_of[name]) for name in tensors if name in ours_of}
    missing, wrong = [], []
    slices: dict[str, list[np.ndarray]] = {}
    for entry in entries:
        if _part(entry.ours) in absent:
            continue
        shape = shapes[entry.ours] if entry.index is None else shapes[entry.ours][1:]
        shape = shape[::-1] if entry.transposed else shape
        if entry.theirs not in tensors:
            missing.append(entry.theirs)
        elif tensors[entry.theirs].shape != shape:
            wrong.append((entry.theirs, tensors[entry.theirs].shape, shape))
        else:
            value = tensors[entry.theirs].astype(np.float32)
            slices.setdefault(entry.ours, []).append(value.T if entry.transposed else value)
    raise_problems(where, missing, sorted(name for name in tensors if name not in ours_of), wrong)
    integers = [
        f"{name} ({tensors[name].dtype})" for name in ours_of if name in tensors and not is_float(tensors[name])
    ]
    if integers:
        raise UserError(f"convert: {where}: weights must be floats, and these are not: {', '.join(integers[:8])}")
    stacked = {entry.ours for entry in entries if entry.index is not None}
    return {
        path: np.ascontiguousarray(np.stack(values) if path in stacked else values[0])
        for path, values in slices.items()
    }


def _part(path: str) -> str:
    return path.split("/")[0]
