"""A student without an encoder: the mean of a text's word vectors, and a linear layer on it.

It is the floor of a family: what a student with layers answers no better is not worth its time.

Letters: B texts, L tokens, V vocabulary, E width of a word vector, C outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class WordMean(NamedTuple):
    """Its parameters."""

    words: Float[Array | np.ndarray, "V E"]
    kernel: Float[Array | np.ndarray, "E C"]
    bias: Float[Array | np.ndarray, " C"]


def drawn(words: Float[np.ndarray, "V E"], outputs: int, key: jax.Array) -> WordMean:
    """Word vectors that a teacher has, and a random linear layer."""
    kernel = jax.random.normal(key, (words.shape[1], outputs)) / np.sqrt(words.shape[1])
    return WordMean(jnp.asarray(words), kernel, jnp.zeros(outputs))


def logits(
    params: WordMean, tokens: Int[Array | np.ndarray, "B L"], mask: Int[Array | np.ndarray, "B L"]
) -> Float[Array, "B C"]:
    """The outputs for texts of which `mask` is 1 at the tokens and 0 at padding."""
    real = jnp.asarray(mask, jnp.float32)
    summed = jnp.einsum("BL,BLE->BE", real, jnp.asarray(params.words)[tokens])
    return summed / jnp.maximum(jnp.sum(real, axis=1, keepdims=True), 1.0) @ params.kernel + params.bias[None]


def folded(params: WordMean) -> Float[np.ndarray, "V C"]:
    """What each word adds, [V, C]: the mean of these, plus the bias, are the logits.

    The layer is linear, so it can be applied to each word of the vocabulary beforehand.
    """
    return np.asarray(params.words) @ np.asarray(params.kernel)
