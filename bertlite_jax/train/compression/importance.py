"""What heads and neurons are worth: how much the loss of single rows depends on them.

With a factor g on what a part gives, |dL/dg| is, to first order, by how much the loss of a row changes when the part is
taken away (g from 1 to 0). Its mean over rows ranks the parts of one layer. Layers, and heads and neurons, are compared
by the mean of its square: of many parts that are taken together the changes have either sign, and then it is squares
that add up. A sum of absolute values would make 3,072 neurons sixteen times as dear beside 12 heads.

Letters: B rows, H heads, F neurons, N layers.
Sources: Michel et al. 2019 (arXiv 1905.10650), section 4.1, for the first; Kwon et al. 2022 (arXiv 2204.09656),
section 4.1, for the second, the diagonal of the empirical Fisher matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

Gates = TypeVar("Gates")
"""Arrays [B, parts] in a tree, in which row b changes only the loss of row b."""


class Importance(NamedTuple):
    """Of each layer; where layers share parameters, of each application.

    Attributes:
      heads: [H] of each of N layers: the mean of |dL/dg|, in units of the loss.
      neurons: [F] of each of N layers, likewise.
      squared_heads: the mean of (dL/dg)^2.
      squared_neurons: likewise.
    """

    heads: list[np.ndarray]
    neurons: list[np.ndarray]
    squared_heads: list[np.ndarray]
    squared_neurons: list[np.ndarray]


Slopes = tuple[list[Float[Array, "2 parts"]], list[Float[Array, "2 parts"]]]
"""Of the heads and of the neurons of each layer: the sums over rows of |dL/dg| and of (dL/dg)^2."""


def slopes(loss: Callable[[Gates], Float[Array, ""]], gates: Gates) -> Gates:
    """The sums over rows of |dL/dg| and (dL/dg)^2 of each part: [2, parts] in place of [B, parts].

    Args:
      loss: of gates; the sum of the losses of the rows. As a row's gates change its own loss only, one backward pass
        gives the derivatives of all rows.
      gates: where the derivatives are taken.
    """

    def summed(slope: Float[Array, "B parts"]) -> Float[Array, "2 parts"]:
        return jnp.stack([jnp.sum(jnp.abs(slope), axis=0), jnp.sum(jnp.square(slope), axis=0)])

    return jax.tree.map(summed, jax.grad(loss)(gates))


def measure(
    slopes_of: Callable[[Any, Mapping[str, Any]], Slopes], params: Any, batches: Iterable[tuple[Mapping[str, Any], int]]
) -> Importance:
    """The means over the examples of all batches.

    Args:
      slopes_of: (parameters, rows) -> as `slopes` gives them for `Gates` of a model.
      params: of the model.
      batches: rows, each with one example or none, and how many examples they hold.
    """
    total: Any = None
    examples = 0
    for rows, count in batches:
        summed = jax.tree.map(lambda value: np.asarray(value, np.float64), tuple(slopes_of(params, rows)))
        total = summed if total is None else jax.tree.map(np.add, total, summed)
        examples += count
    if total is None or not examples:
        raise ValueError("importance of no examples")
    heads, neurons = jax.tree.map(lambda value: value / examples, total)
    absolute, squared = ([[layer[i] for layer in part] for part in (heads, neurons)] for i in (0, 1))
    return Importance(*absolute, *squared)
