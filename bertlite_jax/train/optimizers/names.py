"""What the name of a parameter says about it."""

from __future__ import annotations

from typing import Any

import jax

STACKED = "layers"
"""Parameters under this key have the layers on axis 0."""

DECAYED = ("kernel", "embedding")
EXEMPT = ("scale", "bias", "addition")


def names(path: tuple[Any, ...]) -> list[str]:
    """`["layers", "ffn", "up", "kernel"]` of a path in a tree of parameters."""
    return [str(getattr(key, "key", getattr(key, "name", key))) for key in path]


def is_stacked(path: tuple[Any, ...]) -> bool:
    """Whether axis 0 counts layers. Those of a pruned model lie apart, as `layers/3/ffn/up/kernel`."""
    parts = names(path)
    return STACKED in parts and not any(part.isdigit() for part in parts)


def decay_mask(params: Any) -> Any:
    """A tree of bools in the shape of `params`: True for kernels and embeddings, False for biases and LayerNorm.

    The release matches `LayerNorm`, `layer_norm` and `bias` in variable names; here the last name decides, and the bias
    over the vocabulary is a bias too.

    Raises:
      ValueError: for a last name that is neither.
    """

    def decays(path: tuple[Any, ...], _: Any) -> bool:
        name = names(path)[-1]
        if name not in DECAYED + EXEMPT:
            raise ValueError(
                f"no decay rule for parameter {'/'.join(names(path))}: its name should be one of {DECAYED + EXEMPT}"
            )
        return name in DECAYED

    return jax.tree_util.tree_map_with_path(decays, params)
