"""Quant-Noise: in each step of training only a random share of the layers' weights is rounded.

The others keep their values, and a weight that is not rounded gets the exact gradient of the function that the step
computes; one that is rounded gets it as if rounding were the identity. A model that is rounded in all its weights from
the first step on learns by gradients of which none is exact, the less so the fewer the bits.

There is one draw a step, also where a layer is applied several times: each application of a shared block then has the
same weights, as in the file, so that its rounding errors add up over the layers as they will there, where draws of each
application would average them out. The draw is a hash of the step's key and of the weight's place: it is the same on
any devices, for every micro-batch, and in a run that was resumed.

A product of kernels that are partly rounded is no product of integers. It is one of floats (fake quantisation), with
activations rounded to the steps of the file: `integer_products.dense_of_rounded_rows`.

Source: Fan et al. 2020 (arXiv 2004.07320), section 4.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float32, Key, UInt32

from bertlite_jax.config.int8 import Bits, Quantise
from bertlite_jax.config.model import Model
from bertlite_jax.model.ops.dropout import hashed, seeds_of
from bertlite_jax.model.ops.integer_grid import bits_of, quantize_weights
from bertlite_jax.model.residual_scale import folded

NOISE_KEY = 1 << 22
"""Where the draws are made, apart from those of rows (masks, dropout) and of `train/few_labels`."""


def noised(params: dict[str, Any], model: Model, quantise: Quantise, key: Key[Array, ""]) -> dict[str, Any]:
    """The parameters with `quantise.noise` of the weights in the layers' kernels rounded; all others as they are.

    Args:
      params: of a model with layers of this shape.
      model: the shape, without low-rank pairs.
      quantise: bits of the file, and the share, above 0 and at most 1.
      key: of the step.
    """
    assert quantise.bits, "there is no grid without bits"
    bits, factor = bits_of("layers", quantise.bits), model.residual_factor
    factors = folded(jax.tree.map(lambda leaf: np.float32(1), params["layers"]), factor)
    seeds, number = seeds_of(jax.random.fold_in(key, NOISE_KEY)[None])[0], 0

    def of_leaf(path: Any, leaf: Array, factor: Any) -> Array:
        nonlocal number
        if path[-1].key != "kernel":
            return leaf
        number += 1
        own = hashed(seeds[None], jnp.asarray([2 * number, 2 * number + 1], jnp.uint32))
        return partly_rounded(bits, quantise.noise, float(factor), leaf, own)

    return {**params, "layers": jax.tree_util.tree_map_with_path(of_leaf, params["layers"], factors)}


def drawn(share: float, seeds: UInt32[Array, 2], shape: tuple[int, ...]) -> Bool[Array, "*shape"]:
    """Which weights are rounded: true with probability `share`, to 2^-32; all where it is 1."""
    places = jnp.arange(int(np.prod(shape)), dtype=jnp.uint32)
    return (hashed(seeds[None], places) <= np.uint32(max(round(share * 2**32) - 1, 0))).reshape(shape)


def _partly_rounded_plain(
    bits: Bits, share: float, factor: float, kernel: Float32[Array, "*stack In Out"], seeds: UInt32[Array, 2]
) -> Float32[Array, "*stack In Out"]:
    """A kernel of which a share of the weights is on the grid of a file.

    Args:
      bits: of the grid.
      share: above 0 and at most 1.
      factor: a file's kernel is this multiple of it; its grid is that of the multiple.
      kernel: float32.
      seeds: of the draw.
    """
    integers, scales = quantize_weights(kernel * np.float32(factor), -2, bits)
    on_grid = integers.astype(jnp.float32) * jnp.expand_dims(scales, -2) / np.float32(factor)
    return jnp.where(drawn(share, seeds, kernel.shape), on_grid, kernel)


partly_rounded = jax.custom_vjp(_partly_rounded_plain, nondiff_argnums=(0, 1, 2))
partly_rounded.defvjp(
    lambda bits, share, factor, kernel, seeds: (_partly_rounded_plain(bits, share, factor, kernel, seeds), None),
    lambda bits, share, factor, _, slope: (slope, None),
)
