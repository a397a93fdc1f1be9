"""Starting from given weights: what fits is taken, what is new is drawn and named."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.config import UserError

_POSITIONS = "embeddings/position/embedding"


def _by_name(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(str(getattr(key, "key", key)) for key in path): leaf for path, leaf in leaves}


def merge(fresh: Any, given: Any, where: str) -> tuple[Any, list[str]]:
    """Puts given weights into freshly drawn ones.

    A longer table of positions keeps the given rows and draws only the new ones, so that a model trained on windows
    of 128 goes on with 512.

    Args:
      fresh: parameters of the new model, as drawn.
      given: nested dict of arrays, of a run or another program's model.
      where: names the source in messages.

    Returns:
      (parameters like `fresh`, lines that say what was drawn anew or left out).

    Raises:
      UserError: lists every weight whose shape differs otherwise.
    """
    new, old = _by_name(fresh), _by_name(given)
    merged, notes, wrong = {}, [], []
    for name, leaf in new.items():
        if name not in old:
            notes.append(f"init: {name} is not in {where}: drawn anew")
            merged[name] = leaf
        elif old[name].shape == leaf.shape:
            merged[name] = np.asarray(old[name], leaf.dtype)
        elif name == _POSITIONS and old[name].shape[1] == leaf.shape[1]:
            rows = min(old[name].shape[0], leaf.shape[0])
            merged[name] = jnp.asarray(leaf).at[:rows].set(np.asarray(old[name][:rows], leaf.dtype))
            more = f"rows {rows} to {leaf.shape[0] - 1} drawn anew" if rows < leaf.shape[0] else "the rest left out"
            notes.append(f"init: {name}: rows 0 to {rows - 1} from {where}, {more}")
        else:
            wrong.append(f"{name} is {tuple(np.shape(old[name]))}, the config wants {tuple(leaf.shape)}")
    if wrong:
        raise UserError(f"init: {where} does not fit the config: {'; '.join(wrong)}")
    notes += [f"init: {name} of {where} is not used by this config" for name in old if name not in new]
    structure = jax.tree.structure(fresh)
    return jax.tree.unflatten(structure, [merged[name] for name in new]), notes
