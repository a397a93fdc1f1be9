"""What owns parameters: dense layers, norms and tables, and how their values start.

Letters: E embedding, D hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Float32, Int, Key

from bertlite_jax.model.ops import integer_products, products
from bertlite_jax.model.ops.arrays import AnyArray
from bertlite_jax.model.ops.elementwise import layer_norm
from bertlite_jax.model.ops.integer_grid import TABLE_BITS, bits_of
from bertlite_jax.model.ops.precision import Compute, weight_bits

Initializer = Callable[..., Array]
"""`initializer(key, shape, dtype=float32)` draws the values that a parameter starts from."""


def matrix_init(std: float) -> Initializer:
    """Normal truncated at two standard deviations, its variance left uncorrected (actual deviation 0.88 std).

    Source: `tf.truncated_normal_initializer` as used by google-research/albert:modeling.py.
    """
    return nn.initializers.truncated_normal(std)


def sinusoid_init(std: float) -> Initializer:
    """Sines and cosines of the position at wavelengths from 2 pi to 20,000 pi; [rows, width].

    Their root mean square is twice `std`, so that at first the place of a token counts for more than the token itself.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5; learnt from there on as in huggingface/transformers'
    DistilBERT (`create_sinusoidal_embeddings`).
    """

    def init(key: Key[Array, ""], shape: tuple[int, int], dtype: DTypeLike = jnp.float32) -> Float[Array, "rows width"]:
        del key
        rows, width = shape
        rates = jnp.exp(-jnp.log(10_000.0) * jnp.arange(0, width, 2, dtype=jnp.float32) / width)
        angles = jnp.arange(rows, dtype=jnp.float32)[:, None] * rates[None]
        waves = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(rows, -1)
        return (2.0 * math.sqrt(2.0) * std * waves[:, :width]).astype(dtype)

    return init


class Linear(nn.Module):
    """Dense layer with bias, [..., In] -> [..., features], in the precision that `compute` names."""

    features: int
    init_std: float
    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "*rows In"]) -> Float[Array, "*rows {self.features}"]:
        """Applies the layer; the result has `activation_dtype(compute)`."""
        kernel = self.param("kernel", matrix_init(self.init_std), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return products.dense(x, {"kernel": kernel, "bias": bias}, self.compute)


class WordProjection(nn.Module):
    """A kernel without a bias that is multiplied with in both directions: [..., E] -> [..., D] and back."""

    rows: int
    features: int
    init_std: float
    compute: Compute

    def setup(self) -> None:
        """Draws the kernel [E, D]."""
        self.kernel = self.param("kernel", matrix_init(self.init_std), (self.rows, self.features))

    def __call__(self, x: Float[Array, "*rows E"]) -> Float32[Array, "*rows {self.features}"]:
        """The product with the kernel."""
        return products.matmul(x, self.kernel, self.compute)


class Norm(nn.Module):
    """LayerNorm over the last axis, statistics in float32."""

    epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
        """Normalises, scales and shifts; the dtype stays."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return layer_norm(x, {"scale": scale, "bias": bias}, self.epsilon)


class Table(nn.Module):
    """Rows that ids pick. Ids out of range take the last row; configs are checked so that there are none.

    In a mode of integers the rows are rounded as a file's are, to 8 bits if the table is only looked up.
    """

    rows: int
    width: int
    initializer: Initializer
    padded_rows: int = 0
    compute: Compute = "float32"
    decodes: bool = False
    """Whether the table is multiplied with too, by the head of the masked language model."""

    def setup(self) -> None:
        """Draws `rows` rows; those from there to `padded_rows` are zero."""

        def init(key: Key[Array, ""], shape: tuple[int, int]) -> Float[Array, "padded width"]:
            table = self.initializer(key, shape)
            return jnp.pad(table, ((0, max(0, self.padded_rows - self.rows)), (0, 0)))

        self.embedding = self.param("embedding", init, (self.rows, self.width))

    def __call__(self, ids: Int[AnyArray, "*places"]) -> Float[Array, "*places {self.width}"]:
        """The rows of these ids, float32."""
        rows = jnp.take(self.embedding, ids, axis=0, mode="clip")
        if not (bits := weight_bits(self.compute)):
            return rows
        return integer_products.rounded_rows(bits_of("embeddings", bits) if self.decodes else TABLE_BITS, rows)
