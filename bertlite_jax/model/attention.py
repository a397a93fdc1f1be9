"""Attention inside the windows of packed rows, and the choice of its implementation.

Letters: B rows, L tokens in a row, D hidden, H heads, K width of a head.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from bertlite_jax import config as settings
from bertlite_jax.config import UserError
from bertlite_jax.model import attention_tpu, dense, dropout, precision
from bertlite_jax.model.precision import Compute

Array = jax.Array
Attention = Literal["auto", "xla", "cudnn", "pallas"]
Chosen = Literal["cudnn", "pallas", "chunked", "einsum"]

FAR = attention_tpu.FAR
"""Added to the scores of positions outside the window."""
CHUNK_SCORES = 2**18 * (os.cpu_count() or 1)
"""On a CPU so many scores are worked on at a time: 1 MB for each core, which stays in its cache."""


def segment_mask(segments: Array) -> Array:
    """Which positions see each other: those of the same window, and padding among itself.

    Padding may look at padding because every row of the softmax needs something finite; nothing reads the result.

    Args:
      segments: [B, L] int32, 1..P for windows, 0 for padding.

    Returns:
      [B, L, L] bool, symmetric.
    """
    return segments[:, :, None] == segments[:, None, :]


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
      q_BLHK, k_BLHK, v_BLHK: [B, L, H, K]; scores are divided by the square root of K here.
      mask: [B, L, L] bool, what `segment_mask` made of the rows; rows of padding give something finite.
      impl: `Model.attention`. Where heads are split by XLA's partitioner it is `xla` in any case: the partitioner
        knows how to split a product, and no loop and no kernel.
      compute: mode of the products; the softmax is float32 in all.
      dropout_keys: [B] typed keys, one a row, or None for no dropout.
      dropout_rate: probability of dropping an attention weight.

    Returns:
      [B, L, H, K] in `dense.activation_dtype(compute)`.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.1.
    """
    platform = precision.target_platform()
    dropping = dropout_keys is not None and dropout_rate > 0
    rate = dropout_rate if dropping else 0.0
    seeds = dropout.seeds_of(dropout_keys) if dropping and dropout_keys is not None else None
    chosen = "einsum" if precision.partitioned() else choose(impl, platform, compute, dropping)
    if chosen == "cudnn":
        q_BLHK, k_BLHK, v_BLHK = (x.astype(jnp.bfloat16) for x in (q_BLHK, k_BLHK, v_BLHK))
        return jax.nn.dot_product_attention(q_BLHK, k_BLHK, v_BLHK, mask=mask[:, None], implementation="cudnn")
    if chosen == "chunked":
        wide = (x.astype(jnp.float32) for x in (q_BLHK, k_BLHK, v_BLHK))
        return _chunked(compute, rate, *wide, jnp.where(mask, 0.0, FAR), seeds).astype(dense.activation_dtype(compute))
    scores = _product("BLHK,BMHK->BHLM", q_BLHK * q_BLHK.shape[-1] ** -0.5, k_BLHK, compute)
    weights = jax.nn.softmax(jnp.where(mask[:, None], scores.astype(jnp.float32), FAR), axis=-1)
    if seeds is not None:
        weights = _drop(weights, seeds, rate)
    return _product("BHLM,BMHK->BLHK", weights, v_BLHK, compute).astype(dense.activation_dtype(compute))


def choose(
    impl: Attention, platform: str, compute: Compute, dropping: bool, joined: tuple[int, int, int] | None = None
) -> Chosen:
    """The implementation for a config value, a platform and a shape.

    Args:
      joined: (L, H, K) where queries, keys and values lie side by side, as `joined_attention` has them; else None.

    Returns:
      cudnn: NVIDIA's fused kernels, which take bfloat16 and no keyed dropout; auto takes them where they fit.
      pallas: one kernel each way for TPUs, which takes bfloat16; auto takes it where it fits.
      chunked: scores in pieces that fit a CPU's cache, computed again in the backward pass.
      einsum: all scores at once, for XLA to arrange; any platform.

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


def choose_for(model: settings.Model, length: int, platform: str, compute: Compute) -> Chosen:
    """What `joined_attention` uses in training a model on rows of `length` tokens; raises as `choose` does."""
    shape = (length, model.num_heads, model.head_size)
    return choose(model.attention, platform, compute, model.attention_dropout > 0, shape)


def joined_attention(
    qkv: dense.Joined,
    heads: int,
    segments: Array,
    mask: Array,
    impl: Attention,
    compute: Compute,
    dropout_keys: Array | None = None,
    dropout_rate: float = 0.0,
) -> Array:
    """`attention` of queries, keys and values that lie side by side, as one product gives them.

    XLA cannot split a Pallas kernel over devices: where it splits the program itself, as in evaluation on several
    devices, einsum takes the kernel's place. A config that forces the kernel is checked where a run starts
    (`choose_for`); the same model also meets other shapes and machines, in its initialisation for one.

    Args:
      qkv: [B, L, 3 D], or three arrays [B, L, D] where XLA splits heads over devices; those are multiplied by einsum.
      heads: H.
      segments: [B, L] int32.
      mask: [B, L, L] bool, what `segment_mask` makes of them; not computed where it is not used.

    Returns:
      [B, L, D] in `dense.activation_dtype(compute)`.
    """
    if isinstance(qkv, tuple):
        return _apart(qkv, heads, mask, "xla", compute, dropout_keys, dropout_rate)
    L, D = qkv.shape[1], qkv.shape[2] // 3
    dropping = dropout_keys is not None and dropout_rate > 0
    impl = "auto" if impl == "pallas" else impl
    if choose(impl, precision.target_platform(), compute, dropping, (L, heads, D // heads)) == "pallas":
        if not _split_by_compiler():
            seeds = dropout.seeds_of(dropout_keys) if dropping and dropout_keys is not None else None
            return attention_tpu.attention(qkv.astype(jnp.bfloat16), segments, heads, seeds, dropout_rate)
        impl = "xla"
    return _apart(jnp.split(qkv, 3, axis=-1), heads, mask, impl, compute, dropout_keys, dropout_rate)


def _apart(parts: Sequence[Array], heads: int, mask: Array, impl: Attention, compute: Compute, *dropping: Any) -> Array:
    B, L, D = parts[0].shape
    q_BLHK, k_BLHK, v_BLHK = (part.reshape(B, L, heads, D // heads) for part in parts)
    return attention(q_BLHK, k_BLHK, v_BLHK, mask, impl, compute, *dropping).reshape(B, L, D)


def _split_by_compiler() -> bool:
    """Whether XLA may split what is being traced over devices; inside `jax.shard_map` over all axes it may not."""
    return jax.device_count() > 1 if jax.sharding.get_abstract_mesh().empty else precision.partitioned()


def _product(spec: str, left: Array, right: Array, compute: Compute) -> Array:
    """einsum in the precision of the mode; AMX's conditions are not met here, so that mode computes in float32."""
    kind = jnp.bfloat16 if compute == "bfloat16" else jnp.float32
    return jnp.einsum(spec, left.astype(kind), right.astype(kind))


def _drop(weights: Array, seeds: Array, rate: float) -> Array:
    """Dropout on weights [B, H, L, M] with seeds [B, 2], so that no split of the batch changes the draw."""
    of_heads = dropout.seeds_of_heads(seeds, weights.shape[1])[:, :, None, None]
    return jnp.where(dropout.keeps(of_heads, _places(weights.shape[-1]), rate), weights / (1 - rate), 0.0)


def _places(length: int) -> Array:
    """Numbers of the scores of a head, [L, L] uint32: a query's in a row."""
    return jnp.arange(length * length, dtype=jnp.uint32).reshape(length, length)


# --- Attention for CPUs --------------------------------------------------------------------------------------------
#
# Scores of a whole batch would travel to main memory and back several times, which takes longer than the products.
# So a loop takes as many (row, head) pairs as fit a cache, keeps nothing but the logarithm of the softmax's
# denominator, and the backward pass computes the scores again, transposed: then the contracted axis of every first
# operand is minor in memory, which is what XLA's fast products need (see `dense.py`).
# Same algorithm as FlashAttention (Dao et al. 2022, arXiv 2205.14135), without its split of a single row.


def _chunked_plain(
    compute: Compute, rate: float, q_BLHK: Array, k_BLHK: Array, v_BLHK: Array, bias: Array, seeds: Array | None
) -> Array:
    """Attention [B, L, H, K] float32 with `bias` [B, L, L], symmetric, added to the scores of all heads.

    With seeds [B, 2] each weight is dropped with probability `rate`; the backward pass computes the masks again, too.
    """
    return _chunked_forward(compute, rate, q_BLHK, k_BLHK, v_BLHK, bias, seeds)[0]


def _chunked_forward(
    compute: Compute, rate: float, q_BLHK: Array, k_BLHK: Array, v_BLHK: Array, bias: Array, seeds: Array | None
):
    scale, length = q_BLHK.shape[-1] ** -0.5, q_BLHK.shape[1]
    operands = [_pack(compute, x) for x in (q_BLHK * scale, k_BLHK, v_BLHK)]

    def chunk(bias: Array, q: Array, k: Array, v: Array, *seeds: Array) -> tuple[Array, Array]:
        q, k, v = (dense.kept(x) for x in (q, k, v))
        scores = _add_bias(_batched(q, k, 2), bias)
        top = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - top)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        for each in seeds:
            weights = jnp.where(dropout.keeps(each[:, None, None], _places(length), rate), weights, 0.0)
        mixed = _batched(weights.astype(q.dtype), v, 1) / (total * (1 - rate))
        return mixed, (top + jnp.log(total))[..., 0]

    mixed, log_total = _over_chunks(chunk, q_BLHK.shape, bias, *operands, *_seeds_of_pairs(seeds, q_BLHK.shape))
    mixed = _from_heads(mixed, q_BLHK.shape)
    return mixed, (*operands, mixed, log_total, bias, seeds)


def _chunked_backward(compute: Compute, rate: float, saved: tuple, dmixed: Array):
    *operands, mixed, log_total, bias, seeds = saved
    B, L, H, K = dmixed.shape
    dots = jnp.swapaxes(jnp.sum(dmixed * mixed, axis=-1), 1, 2).reshape(B * H, L)

    def chunk(bias: Array, q: Array, k: Array, v: Array, dmixed: Array, log_total: Array, dots: Array, *seeds: Array):
        q, k, v, dmixed = (dense.kept(x) for x in (q, k, v, dmixed))
        scores_t = _add_bias(_batched(k, q, 2) - log_total[:, None], bias)
        weights_t = jnp.exp(scores_t)
        dweights_t, dropped_t = _batched(v, dmixed, 2), weights_t
        for each in seeds:
            kept_t = dropout.keeps(each[:, None, None], _places(L).T, rate)
            dweights_t, dropped_t = (jnp.where(kept_t, x / (1 - rate), 0.0) for x in (dweights_t, weights_t))
        dscores_t = (weights_t * (dweights_t - dots[:, None])).astype(q.dtype)
        dv = _batched(dropped_t.astype(q.dtype), dmixed, 1)
        dk = _batched(dscores_t, q, 1)
        k_t = with_layout_constraint(jnp.swapaxes(k, 1, 2), Layout((0, 1, 2)))
        # The barrier keeps the transposition that follows out of the product.
        dq_t = jax.lax.optimization_barrier(_batched(k_t, dscores_t, 1))
        return dq_t, dk, dv

    of_pairs = (*operands, _pack(compute, dmixed), log_total, dots, *_seeds_of_pairs(seeds, dmixed.shape))
    dq_t, dk, dv = _over_chunks(chunk, dmixed.shape, bias, *of_pairs)
    dq = jnp.transpose(dq_t.reshape(B, H, K, L), (0, 3, 1, 2)) * K**-0.5
    return dq, _from_heads(dk, dmixed.shape), _from_heads(dv, dmixed.shape), None, None


_chunked = jax.custom_vjp(_chunked_plain, nondiff_argnums=(0, 1))
_chunked.defvjp(_chunked_forward, _chunked_backward)


def _seeds_of_pairs(seeds: Array | None, shape: tuple[int, ...]) -> tuple[Array, ...]:
    """Seeds [B * H, 2] of the pairs of row and head, if there is dropout."""
    return () if seeds is None else (dropout.seeds_of_heads(seeds, shape[2]).reshape(-1, 2),)


def _batched(left: Array, right: Array, axis: int) -> Array:
    """Product over a batch, float32: contracts the last axis of `left` [C, M, N] with `axis` of `right`."""
    return jax.lax.dot_general(left, right, (((2,), (axis,)), ((0,), (0,))), preferred_element_type=jnp.float32)


def _pack(compute: Compute, x_BLHK: Array) -> Array:
    """[B, L, H, K] -> [B * H, L, K] in the precision of the products, as a loop can take it."""
    x_BLHK = dense.keep(x_BLHK.astype(jnp.bfloat16 if compute == "amx" else jnp.float32))
    B, L, H, K = x_BLHK.shape
    return jnp.swapaxes(x_BLHK, 1, 2).reshape(B * H, L, K)


def _from_heads(x: Array, shape: tuple[int, ...]) -> Array:
    """[B * H, L, K] -> [B, L, H, K]."""
    B, L, H, K = shape
    return jnp.swapaxes(x.reshape(B, H, L, K), 1, 2)


def _add_bias(scores: Array, bias: Array) -> Array:
    """Adds bias [R, L, L] of R rows to scores [R * heads, L, L]."""
    rows, length, _ = bias.shape
    return (scores.reshape(rows, -1, length, length) + bias[:, None]).reshape(scores.shape)


def chunk_shape(B: int, H: int, L: int) -> tuple[int, int]:
    """How many rows, and how many of their heads, make a chunk of at most CHUNK_SCORES scores (at least one head).

    Both divide their totals; only a chunk of all heads has several rows.
    """
    heads = max(h for h in range(1, H + 1) if H % h == 0 and (h == 1 or h * L * L <= CHUNK_SCORES))
    if heads < H:
        return 1, heads
    return max(r for r in range(1, B + 1) if B % r == 0 and (r == 1 or r * H * L * L <= CHUNK_SCORES)), H


def _over_chunks(chunk: Callable[..., Any], shape: tuple[int, ...], bias: Array, *operands: Array) -> Any:
    """Applies `chunk(bias of its rows, *operands)` to pieces of arrays [B * H, ...] and joins the results."""
    B, L, H, _ = shape
    rows, heads = chunk_shape(B, H, L)
    count = B * H // (rows * heads)
    if count == 1:
        return chunk(bias, *operands)
    chunks_a_row = max(1, H // heads) if rows == 1 else 1

    def step(piece: tuple[Array, tuple[Array, ...]]) -> Any:
        # The barrier ties the number to the operands: else a scan over layers would take the slices of `bias`, which
        # do not depend on the layer, out of this loop and keep them all.
        number, arrays = jax.lax.optimization_barrier(piece)
        first = (number // chunks_a_row) * rows
        return chunk(jax.lax.dynamic_slice_in_dim(bias, first, rows, 0), *arrays)

    pieces = tuple(x.reshape(count, rows * heads, *x.shape[1:]) for x in operands)
    results = jax.lax.map(step, (jnp.arange(count), pieces))
    return jax.tree.map(lambda x: x.reshape(B * H, *x.shape[2:]), results)
