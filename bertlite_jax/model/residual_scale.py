"""The residual factor inside the kernels: x + s (h W + b) is x + (h (s W) + s b).

The factor is multiplied into the kernels once before the layers run, and not onto the activations of each: what is
trained is then, to the bit in float32, the function of the file that an export writes with these products. Numpy and
JAX arrays alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Parts = Mapping[str, Any]
"""The parts of `Model.stack_sizes`, as `Layers` holds them; leaves of any stack size."""


def folded(parts: Parts, factor: float) -> Parts:
    """The parts of published layers that compute what `parts` compute with this factor.

    Args:
      parts: float32; the same ones come back where the factor is 1.
      factor: `Model.residual_factor`.

    Examples:
      >>> import numpy as np
      >>> from bertlite_jax.model.residual_scale import folded
      >>> down = {"kernel": np.array([[4.0], [8.0]], np.float32), "bias": np.array([2.0], np.float32)}
      >>> folded({"ffn": {"up": {}, "down": down}}, 0.25)["ffn"]["down"]
      {'kernel': array([[1.],
             [2.]], dtype=float32), 'bias': array([0.5], dtype=float32)}
    """
    number = np.float32(factor)
    return parts if factor == 1 else _on_branches(parts, lambda value: value * number)


def unfolded(parts: Parts, factor: float) -> Parts:
    """The inverse of `folded`: parts that compute with this factor what published layers compute.

    A division and a multiplication in float32 give the same bits back where the factor is a power of two, and else a
    neighbour at most one unit in the last place away: each of the two is off by half a unit at most, and the unit of
    the quotient, multiplied by the factor, is less than twice that of the product.
    """
    number = np.float32(factor)
    return parts if factor == 1 else _on_branches(parts, lambda value: value / number)


def _on_branches(parts: Parts, change: Callable[[Any], Any]) -> Parts:
    """The parts with the last kernel and bias of each branch changed, and what single layers add to that kernel."""
    changed = dict(parts)
    for part, last in (("attention", "output"), ("ffn", "down"), ("low_rank", "down_out")):
        if part in parts:
            linear = {leaf: change(value) for leaf, value in parts[part][last].items()}
            changed[part] = {**parts[part], last: linear}
    return changed
