"""Starting from given weights: what fits is taken, what is new is drawn and named."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.errors import UserError

_POSITIONS = "embeddings/position/embedding"


def _by_name(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(str(getattr(key, "key", key)) for key in path): leaf for path, leaf in leaves}


def _fits(name: str, old: Any, new: Any) -> bool:
    longer_or_shorter = name == _POSITIONS and old.shape[1:] == new.shape[1:]
    return old.shape == new.shape or longer_or_shorter


def check_shapes(fresh: Any, given: Any, where: str) -> None:
    """Raises UserError where `merge` would. Shapes are enough for `fresh`, so that nothing need be drawn before."""
    new, old = _by_name(fresh), _by_name(given)
    wrong = [
        f"{name} is {tuple(old[name].shape)}, the config wants {tuple(leaf.shape)}"
        for name, leaf in new.items()
        if name in old and not _fits(name, old[name], leaf)
    ]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"init: {where} does not fit the config: {'; '.join(wrong[:3])}{more}")


def merge(fresh: Any, given: Any, where: str) -> tuple[Any, list[str]]:
    """Puts given weights into freshly drawn ones.

    A longer table of positions keeps the given rows and draws only the new ones, so that a model trained on windows
    of 128 goes on with 512.

    Args:
      fresh: parameters of the new model, as drawn.
      given: nested dict of arrays, of a run or another program's model.
      where: names the source in messages.

    Returns:
      (parameters like `fresh`, lines that say what was initialised randomly or left out).

    Raises:
      UserError: names weights whose shape differs otherwise.
    """
    check_shapes(fresh, given, where)
    new, old = _by_name(fresh), _by_name(given)
    merged, notes = {}, []
    for name, leaf in new.items():
        if name not in old:
            notes.append(f"init: {name} is not in {where}: initialised randomly")
            merged[name] = leaf
        elif old[name].shape == leaf.shape:
            merged[name] = np.asarray(old[name], leaf.dtype)
        else:
            rows = min(old[name].shape[0], leaf.shape[0])
            merged[name] = jnp.asarray(leaf).at[:rows].set(np.asarray(old[name][:rows], leaf.dtype))
            more = "the rest left out"
            if rows < leaf.shape[0]:
                more = f"rows {rows} to {leaf.shape[0] - 1} initialised randomly"
            notes.append(f"init: {name}: rows 0 to {rows - 1} from {where}, {more}")
    notes += [f"init: {name} of {where} is not used by this config" for name in old if name not in new]
    structure = jax.tree.structure(fresh)
    return jax.tree.unflatten(structure, [merged[name] for name in new]), notes
