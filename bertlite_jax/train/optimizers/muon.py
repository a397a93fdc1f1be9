"""Muon and NorMuon: the kernels of layers and projection move along nearly orthogonal matrices.

With gradient G, momentum M and a kernel of I inputs and O outputs:

    M = b M + G        U = G + b M        X = newton_schulz(U)
    Muon       step = 0.2 sqrt(max(I, O)) X
    NorMuon    v = c v + (1 - c) mean(X^2, inputs)        Y = X / sqrt(v)        step = 0.2 Y / rms(Y)

X has the singular vectors of U and singular values near 1, so all directions of a kernel are learnt at one speed. Its
root mean square is about 1 / sqrt(max(I, O)), which the factor turns into 0.2, that of an AdamW update: one learning
rate and one weight decay serve both. NorMuon also gives the neurons, each of which has a column of the kernel, steps of
one length.

Newton-Schulz is optax's. `optax.contrib.muon` itself takes every parameter of two axes for a matrix: here those are
stacks of biases and of norms [layers, width], and embedding tables, while kernels have three axes and would fall to
AdamW.

Sources: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); Liu et al. 2025 (arXiv 2502.16982), section 2.2, for
0.2 sqrt(max(I, O)) and the weight decay; Li et al. 2025 (arXiv 2510.05491), algorithm 1, for NorMuon.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jaxtyping import Array, Float

from bertlite_jax.train.optimizers.adam import promoting
from bertlite_jax.train.optimizers.names import STACKED, names

RMS = 0.2
"""Of a step at learning rate 1, as the updates of AdamW have it (Liu et al. 2025)."""
_SMALLEST = 1e-10
"""Added to what is divided by, as in the authors' code of NorMuon: a kernel without a gradient does not move."""


class NeuronState(NamedTuple):
    """What NorMuon remembers of past directions."""

    nu: optax.Updates
    """[..., O] for a kernel [..., I, O]: running mean of the squares of each neuron."""


def is_muon(path: tuple[Any, ...]) -> bool:
    """Whether Muon moves this parameter: a kernel of the layers [layers, I, O], or that of the projection [I, O]."""
    first, *_, last = names(path)
    return first in (STACKED, "projection") and last == "kernel"


def directions(
    decay: float, neuron_decay: float | None, whole: Callable[[Array], Array] = lambda matrix: matrix
) -> list[optax.GradientTransformation]:
    """From the gradients of kernels to what the learning rate multiplies, before weight decay.

    Args:
      decay: of the momentum, b.
      neuron_decay: of the squares of NorMuon, c; None: Muon.
      whole: puts a matrix that is split over devices together, or keeps it so. Otherwise XLA splits the fifteen
        products of a kernel as its update is split, and moves matrices for each of them.
    """
    together = optax.stateless(lambda updates, _: jax.tree.map(whole, updates))
    orthogonal = optax.stateless(lambda updates, _: orthogonalize(updates))
    last = scale_by_size() if neuron_decay is None else normalize_neurons(neuron_decay)
    return [optax.trace(decay, nesterov=True), together, orthogonal, last, together]


def orthogonalize(updates: optax.Updates) -> optax.Updates:
    """Each matrix [..., I, O] by five steps of Newton-Schulz: the same singular vectors, singular values near 1.

    Examples:
      The largest singular value was a hundred times the smallest.

      >>> import numpy as np
      >>> from bertlite_jax.train.optimizers.muon import orthogonalize
      >>> update = orthogonalize({"kernel": np.diag(np.array([10.0, 1.0, 0.1], np.float32))})["kernel"]
      >>> values = np.linalg.svd(update, compute_uv=False)
      >>> bool(values.max() / values.min() < 2)
      True
    """
    axes = optax.contrib.MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)
    # Without momentum of its own, what it remembers is its input, so that nothing needs to be kept.
    newton_schulz = promoting(
        optax.contrib.scale_by_muon(
            beta=0.0, nesterov=False, weight_dimension_numbers=lambda tree: jax.tree.map(lambda _: axes, tree)
        )
    )
    return newton_schulz.update(updates, newton_schulz.init(updates))[0]


def scale_by_size() -> optax.GradientTransformation:
    """Multiplies orthogonal matrices [..., I, O] by 0.2 sqrt(max(I, O)), optax's `consistent_rms` for its own Muon."""
    return optax.stateless(lambda updates, _: jax.tree.map(lambda x: x * (RMS * max(x.shape[-2:]) ** 0.5), updates))


def normalize_neurons(decay: float) -> optax.GradientTransformation:
    """Divides each neuron by the root of its mean square, and each matrix by its own, so that that is 0.2.

    Args:
      decay: of the running mean of squares, which starts at 0. What it lacks then is the same for all neurons, and the
        second division removes it.
    """

    def init(params: optax.Params) -> NeuronState:
        return NeuronState(jax.tree.map(lambda p: jnp.zeros((*p.shape[:-2], p.shape[-1]), p.dtype), params))

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None) -> tuple[optax.Updates, Any]:
        del params

        def remember(v: Float[Array, "*N O"], x: Float[Array, "*N I O"]) -> Float[Array, "*N O"]:
            return decay * v + (1 - decay) * jnp.mean(jnp.square(x), axis=-2)

        def balance(x: Float[Array, "*N I O"], v: Float[Array, "*N O"]) -> Float[Array, "*N I O"]:
            y = x / (jnp.sqrt(v)[..., None, :] + _SMALLEST)
            return y * (RMS / (jnp.sqrt(jnp.mean(jnp.square(y), axis=(-2, -1), keepdims=True)) + _SMALLEST))

        nu = jax.tree.map(remember, state.nu, updates)
        return jax.tree.map(balance, updates, nu), NeuronState(nu)

    return optax.GradientTransformation(init, update)
