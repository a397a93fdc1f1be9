"""Attention inside the windows of packed rows, and the choice of its implementation.

Letters: B rows, L tokens in a row (queries; M: keys), D hidden, H heads, K width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, Key, UInt32

from bertlite_jax.config.model import Model
from bertlite_jax.errors import UserError
from bertlite_jax.model.ops import attention_cpu, attention_tpu, dropout, precision, products
from bertlite_jax.model.ops.arrays import AnyArray
from bertlite_jax.model.ops.precision import Compute
from bertlite_jax.model.ops.stored_bits import load_bits, store_bits

Attention = Literal["auto", "xla", "cudnn", "pallas"]
Chosen = Literal["cudnn", "pallas", "chunked", "einsum"]

FAR = attention_tpu.FAR
"""Added to the scores of positions outside the window."""


def segment_mask(segments: Int[AnyArray, "B L"], causal: bool = False) -> Bool[AnyArray, "B L L"]:
    """Which positions see which: those of the same window, and padding among itself.

    Padding may look at padding because every row of the softmax needs something finite; nothing reads the result.

    Args:
      segments: 1..P for windows, 0 for padding.
      causal: whether positions see only themselves and those before them.

    Returns:
      True at [b, i, j] where i sees j; symmetric unless it is causal.
    """
    same = segments[:, :, None] == segments[:, None, :]
    return same & np.tri(segments.shape[1], dtype=bool)[None] if causal else same


def attention(
    q_BLHK: Float[Array, "B L H K"],
    k_BLHK: Float[Array, "B L H K"],
    v_BLHK: Float[Array, "B L H K"],
    mask: Bool[AnyArray, "B L L"],
    impl: Attention,
    compute: Compute,
    dropout_keys: Key[Array, " B"] | None = None,
    dropout_rate: float = 0.0,
    causal: bool = False,
) -> Float[Array, "B L H K"]:
    """Scaled dot-product attention within each window.

    Args:
      q_BLHK: queries; scores are divided by the square root of K here.
      k_BLHK: keys.
      v_BLHK: values.
      mask: what `segment_mask` made of the rows; rows of padding give something finite.
      impl: `Model.attention`. Where XLA's partitioner splits heads it is `xla` in any case: the partitioner can split
        a product, but neither a loop nor a kernel.
      compute: mode of the products; the softmax is float32 in every mode.
      dropout_keys: one a row, or None for no dropout.
      dropout_rate: probability of dropping an attention weight.
      causal: whether the mask is; then it is not symmetric, which only einsum takes.

    Returns:
      One state for each head, in `precision.activation_dtype(compute)`.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.1.
    """
    platform = precision.target_platform()
    dropping = dropout_keys is not None and dropout_rate > 0
    rate = dropout_rate if dropping else 0.0
    seeds = dropout.seeds_of(dropout_keys) if dropping and dropout_keys is not None else None
    chosen = "einsum" if causal or precision.partitioned() else choose(impl, platform, compute, dropping)
    if chosen == "cudnn":
        q_BLHK, k_BLHK, v_BLHK = (x.astype(jnp.bfloat16) for x in (q_BLHK, k_BLHK, v_BLHK))
        return jax.nn.dot_product_attention(q_BLHK, k_BLHK, v_BLHK, mask=mask[:, None], implementation="cudnn")
    if chosen == "chunked":
        parts = (x.astype(precision.activation_dtype(compute)) for x in (q_BLHK, k_BLHK, v_BLHK))
        return attention_cpu.attention(rate, *parts, jnp.where(mask, 0.0, FAR), seeds)
    scores = _product("BLHK,BMHK->BHLM", q_BLHK * q_BLHK.shape[-1] ** -0.5, k_BLHK, compute)
    weights = jax.nn.softmax(jnp.where(mask[:, None], scores.astype(jnp.float32), FAR), axis=-1)
    if seeds is not None:
        weights = _drop(weights, seeds, rate)
    return _product("BHLM,BMHK->BLHK", weights, v_BLHK, compute).astype(precision.activation_dtype(compute))


def choose(
    impl: Attention, platform: str, compute: Compute, dropping: bool, joined: tuple[int, int, int] | None = None
) -> Chosen:
    """The implementation for a config value, a platform and a shape.

    Args:
      impl: `Model.attention`.
      platform: that the program will run on: cpu, gpu (or cuda) or tpu.
      compute: mode of the products.
      dropping: whether attention weights are dropped.
      joined: (L, H, K) where queries, keys and values lie side by side, as `joined_attention` has them; None elsewhere.

    Returns:
      `cudnn`: NVIDIA's fused kernels, which take bfloat16 and no keyed dropout; `auto` takes them where they fit.
      `pallas`: one kernel each way for TPUs, which takes bfloat16; `auto` takes it where it fits.
      `chunked`: scores in pieces that fit a CPU's cache, computed again in the backward pass.
      `einsum`: all scores at once, for XLA to arrange; any platform.

    Raises:
      UserError: cudnn or pallas was asked for where it does not work.
    """
    fits_cudnn = platform in ("gpu", "cuda") and compute == "bfloat16" and not dropping
    if impl == "cudnn" and not fits_cudnn:
        raise UserError(
            "config: model.attention = cudnn needs a GPU, model.compute = bfloat16 and model.attention_dropout = 0; "
            "use --model.attention auto"
        )
    fits_pallas = platform == "tpu" and compute == "bfloat16" and joined is not None and attention_tpu.fits(*joined)
    if impl == "pallas" and not fits_pallas:
        raise UserError(
            "config: model.attention = pallas needs a TPU, model.compute = bfloat16, rows of a multiple of "
            f"{attention_tpu.LANES} tokens and at most {attention_tpu.LONGEST}, and heads whose width divides "
            f"{attention_tpu.LANES} or is a multiple of it; use --model.attention auto"
        )
    if impl != "xla" and (fits_cudnn or fits_pallas):
        return "cudnn" if fits_cudnn else "pallas"
    return "chunked" if platform == "cpu" and compute != "bfloat16" else "einsum"


def choose_for(model: Model, length: int, platform: str, compute: Compute) -> Chosen:
    """What `joined_attention` uses in training a model on rows of `length` tokens; raises as `choose` does."""
    shape = (length, model.num_heads, model.head_size)
    return choose(model.attention, platform, compute, model.attention_dropout > 0, shape)


@jax.named_scope("attention")
def joined_attention(
    qkv: products.Joined,
    heads: int,
    segments: Int[AnyArray, "B L"],
    mask: Bool[AnyArray, "B L L"],
    impl: Attention,
    compute: Compute,
    dropout_keys: Key[Array, " B"] | None = None,
    dropout_rate: float = 0.0,
    causal: bool = False,
) -> Float[Array, "B L D"]:
    """`attention` of queries, keys and values that lie side by side, as one product gives them.

    XLA cannot split a Pallas kernel over devices: where it splits the program itself, as in evaluation on several
    devices, einsum takes the kernel's place. A config that forces the kernel is checked where a run starts
    (`choose_for`); the same model also meets other shapes and machines, for one in its initialisation.

    Args:
      qkv: [B, L, 3 D], or three arrays [B, L, D] where XLA splits heads over devices; those are multiplied by einsum.
      heads: H.
      segments: 1..P for windows, 0 for padding.
      mask: what `segment_mask` makes of them; not computed where it is not used.
      impl: `Model.attention`.
      compute: mode of the products.
      dropout_keys: one a row, or None for no dropout.
      dropout_rate: probability of dropping an attention weight.
      causal: whether the mask is; then it is einsum in any case.

    Returns:
      The heads' states side by side, in `precision.activation_dtype(compute)`.
    """
    if isinstance(qkv, tuple):
        return _apart(qkv, heads, mask, "xla", compute, dropout_keys, dropout_rate, causal)
    if causal:
        return _apart(_thirds(qkv), heads, mask, "xla", compute, dropout_keys, dropout_rate, causal)
    L, D = qkv.shape[1], qkv.shape[2] // 3
    dropping = dropout_keys is not None and dropout_rate > 0
    impl = "auto" if impl == "pallas" else impl
    if choose(impl, precision.target_platform(), compute, dropping, (L, heads, D // heads)) == "pallas":
        if not _split_by_compiler():
            seeds = dropout.seeds_of(dropout_keys) if dropping and dropout_keys is not None else None
            return attention_tpu.attention(qkv.astype(jnp.bfloat16), segments, heads, seeds, dropout_rate)
        impl = "xla"
    return _apart(_thirds(qkv), heads, mask, impl, compute, dropout_keys, dropout_rate)


def _apart(
    parts: Sequence[Float[Array, "B L D"]],
    heads: int,
    mask: Bool[AnyArray, "B L L"],
    impl: Attention,
    compute: Compute,
    *more: Any,
) -> Float[Array, "B L D"]:
    B, L, D = parts[0].shape
    q_BLHK, k_BLHK, v_BLHK = (part.reshape(B, L, heads, D // heads) for part in parts)
    return attention(q_BLHK, k_BLHK, v_BLHK, mask, impl, compute, *more).reshape(B, L, D)


@jax.custom_vjp
def _thirds(qkv: Float[Array, "B L qkv"]) -> list[Float[Array, "B L D"]]:
    """Three arrays of one; gradients are put side by side as bits, otherwise a CPU would widen them."""
    return jnp.split(qkv, 3, axis=-1)


def _joined(_: None, slopes: list[Float[Array, "B L D"]]) -> tuple[Float[Array, "B L qkv"]]:
    return (load_bits(jnp.concatenate([store_bits(x) for x in slopes], axis=-1)),)


_thirds.defvjp(lambda qkv: (_thirds(qkv), None), _joined)


def _split_by_compiler() -> bool:
    """Whether XLA may split what is being traced over devices; inside `jax.shard_map` over all axes it may not."""
    return jax.device_count() > 1 if jax.sharding.get_abstract_mesh().empty else precision.partitioned()


def _product(
    spec: str, left: Float[Array, "_ _ _ _"], right: Float[Array, "_ _ _ _"], compute: Compute
) -> Float[Array, "_ _ _ _"]:
    """Einsum in the precision of the mode; `cpu_bfloat16` computes in float32: XLA's library takes no such product."""
    kind = jnp.bfloat16 if compute == "bfloat16" else jnp.float32
    return jnp.einsum(spec, left.astype(kind), right.astype(kind))


def _drop(weights: Float[Array, "B H L L"], seeds: UInt32[Array, "B 2"], rate: float) -> Float[Array, "B H L L"]:
    """Dropout with seeds of the rows, so that no split of the batch changes the draw."""
    of_heads = dropout.seeds_of_heads(seeds, weights.shape[1])[:, :, None, None]
    keeps = dropout.keeps(of_heads, dropout.places(weights.shape[-1])[None, None], rate)
    return jnp.where(keeps, weights / (1 - rate), 0.0)
