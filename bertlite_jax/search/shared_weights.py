"""Weights of many shapes in one: each shape has the first rows, columns and layers of the arrays of the largest.

Source: Cai et al. 2020 (arXiv 1908.09791); Yu et al. 2020 (arXiv 2003.11142), whose sandwich of the largest, the
smallest and some random shapes in each step is what trains them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax

from bertlite_jax.config.search.settings import Shape
from bertlite_jax.search.space import AXES


def around(shapes: Iterable[Shape]) -> Shape:
    """The shape with the largest value of every size; its heads are those of one of the widest."""
    shapes = list(shapes)
    widest = max(shapes, key=lambda shape: (shape.hidden_size, shape.num_heads))
    sizes = {axis: max(getattr(shape, axis) for shape in shapes) for axis in AXES if axis not in ("num_heads", "share")}
    return Shape(**sizes, num_heads=widest.num_heads, share=widest.share)


def cut(params: Any, shapes: Any) -> Any:
    """The first entries of every array on every axis.

    Args:
      params: nested arrays.
      shapes: the same nesting, of anything with a `shape`, nowhere larger.
    """
    return jax.tree.map(lambda array, small: array[tuple(slice(0, size) for size in small.shape)], params, shapes)
