"""Attention inside the windows of packed rows, and the choice of its implementation."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from bertlite_jax.config import UserError
from bertlite_jax.model.precision import Compute

Array = jax.Array
Attention = Literal["auto", "xla", "cudnn"]

FAR = -1e9
"""Added to the scores of positions outside the window."""


def segment_mask(segments: Array) -> Array:
    """Which positions see each other: those of the same window, and padding among itself.

    Padding may look at padding because every row of the softmax needs something finite; nothing reads the result.

    Args:
      segments: [B, L] int32, 1..P for windows, 0 for padding.

    Returns:
      [B, L, L] bool, symmetric.
    """
    return segments[:, :, None] == segments[:, None, :]


def resolve(impl: Attention, platform: str, compute: Compute) -> Literal["xla", "cudnn"]:
    """The implementation for a config value on a platform.

    Raises:
      UserError: cudnn without a GPU or in float32, which its kernels do not take.
    """
    if impl == "cudnn" and (platform not in ("gpu", "cuda") or compute != "bfloat16"):
        raise UserError("config: model.attention = cudnn needs a GPU and model.compute = bfloat16; use auto or xla")
    if impl == "auto":
        return "cudnn" if platform in ("gpu", "cuda") and compute == "bfloat16" else "xla"
    return impl


def attention(
    q_BLHK: Array,
    k_BLHK: Array,
    v_BLHK: Array,
    mask: Array,
    impl: Attention,
    compute: Compute,
    dropout_keys: Array | None = None,
    dropout_rate: float = 0.0,
) -> Array:
    """Scaled dot-product attention within each window.

    Args:
      q_BLHK, k_BLHK, v_BLHK: [B, L, H, K] with K the width of a head; K is divided out by its square root here.
      mask: what `segment_mask` made of the rows; rows of padding give something finite.
      impl: `Model.attention`.
      compute: mode of the products.
      dropout_keys: [B] typed keys, one a row, or None for no dropout.
      dropout_rate: probability of dropping an attention weight.

    Returns:
      [B, L, H, K]; bfloat16 in mode bfloat16, else float32.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.1.
    """
    impl = resolve(impl, jax.default_backend(), compute)
    dropping = dropout_keys is not None and dropout_rate > 0
    if impl == "cudnn" and not dropping:
        return jax.nn.dot_product_attention(q_BLHK, k_BLHK, v_BLHK, mask=mask[:, None], implementation="cudnn")
    scores = _product("BLHK,BMHK->BHLM", q_BLHK * q_BLHK.shape[-1] ** -0.5, k_BLHK, compute)
    scores = scores + jnp.where(mask, 0.0, FAR)[:, None]
    weights = jax.nn.softmax(scores, axis=-1)
    if dropping:
        weights = _drop(weights, dropout_keys, dropout_rate)
    mixed = _product("BHLM,BMHK->BLHK", weights, v_BLHK, compute)
    return mixed.astype(jnp.bfloat16) if compute == "bfloat16" else mixed


def _product(spec: str, left: Array, right: Array, compute: Compute) -> Array:
    """einsum with float32 result; bfloat16 operands where the mode has them."""
    kind = jnp.bfloat16 if compute == "bfloat16" else jnp.float32
    return jnp.einsum(spec, left.astype(kind), right.astype(kind), preferred_element_type=jnp.float32)


def _drop(weights: Array, keys: Array | None, rate: float) -> Array:
    """Dropout on weights [B, H, L, M] with one key a row, so that no split of the batch changes the draw."""
    keep = jax.vmap(lambda key, row: jax.random.bernoulli(key, 1 - rate, row.shape))(keys, weights)
    return jnp.where(keep, weights / (1 - rate), 0.0)
