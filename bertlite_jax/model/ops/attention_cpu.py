"""Attention on CPUs, in pieces that fit a cache.

Scores of a whole batch would travel to main memory and back several times, which takes longer than the products. So a
loop takes as many (row, head) pairs as fit a cache, keeps nothing but the logarithm of the softmax's denominator, and
the backward pass computes the scores again, transposed: then the contracted axis of every first operand is minor in
memory, which is what XLA's fast products need (see `products.py`).

Letters as in `attention.py`, and R rows and C pairs of row and head in a piece.

Source: the algorithm of FlashAttention (Dao et al. 2022, arXiv 2205.14135), without its split of a single row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Float, Float32, Shaped, UInt32

from bertlite_jax.host import cpu
from bertlite_jax.model.ops import dropout
from bertlite_jax.model.ops.stored_bits import load_bits, round_bits, store_bits

CHUNK_SCORES = 2**18 * cpu.cores()
"""Scores that are worked on at a time: 1 MB for each core, which stays in its cache."""
CHUNK_PAIRS = 2 * cpu.cores()
"""At least these pairs of row and head are worked on at a time, which keeps all cores busy."""


def _plain(
    rate: float,
    q_BLHK: Float[Array, "B L H K"],
    k_BLHK: Float[Array, "B L H K"],
    v_BLHK: Float[Array, "B L H K"],
    bias: Float32[Array, "B L L"],
    seeds: UInt32[Array, "B 2"] | None,
) -> Float[Array, "B L H K"]:
    """Attention with a symmetric `bias`, added to the scores of all heads.

    The dtype of queries, keys and values is that of the products and of the result. With seeds each weight is dropped
    with probability `rate`; the backward pass computes the masks again too.
    """
    return _forward(rate, q_BLHK, k_BLHK, v_BLHK, bias, seeds)[0]


def _forward(
    rate: float,
    q_BLHK: Float[Array, "B L H K"],
    k_BLHK: Float[Array, "B L H K"],
    v_BLHK: Float[Array, "B L H K"],
    bias: Float32[Array, "B L L"],
    seeds: UInt32[Array, "B 2"] | None,
) -> tuple[Float[Array, "B L H K"], tuple[Any, ...]]:
    kind, length = q_BLHK.dtype, q_BLHK.shape[1]
    scaled = (q_BLHK.astype(jnp.float32) * q_BLHK.shape[-1] ** -0.5).astype(kind)
    operands = [_pack(x) for x in (scaled, k_BLHK, v_BLHK)]

    def chunk(
        bias: Float32[Array, "R L L"],
        q: Shaped[Array, "C L K"],
        k: Shaped[Array, "C L K"],
        v: Shaped[Array, "C L K"],
        *seeds: UInt32[Array, "C 2"],
    ) -> tuple[Shaped[Array, "C L K"], Float32[Array, "C L"]]:
        q, k, v = (load_bits(x) for x in (q, k, v))
        scores = _add_bias(_batched(q, k, 2), bias)
        top = _largest(scores)
        weights = jnp.exp(scores - top)
        if seeds:
            total = jnp.sum(weights, axis=-1, keepdims=True)
            keeps = dropout.keeps(seeds[0][:, None, None], dropout.places(length)[None], rate)
            weights = jnp.where(keeps, weights, 0.0)
            mixed = _batched(round_bits(weights, kind), v, 1) / (1 - rate)
        else:
            # A column of ones sums the weights in the same product: they need not be read once more.
            with_ones = jnp.concatenate([v, jnp.ones((*v.shape[:2], 1), kind)], axis=-1)
            mixed, total = jnp.split(_batched(round_bits(weights, kind), with_ones, 1), [v.shape[-1]], axis=-1)
        return store_bits(round_bits(mixed / total, kind)), (top + jnp.log(total))[..., 0]

    mixed, log_total = _over_chunks(chunk, q_BLHK.shape, bias, *operands, *_seeds_of_pairs(seeds, q_BLHK.shape))
    mixed = _from_heads(mixed, q_BLHK.shape)
    return load_bits(mixed), (*operands, mixed, log_total, bias, seeds)


def _backward(rate: float, saved: tuple[Any, ...], dmixed: Float[Array, "B L H K"]) -> tuple[Any, ...]:
    *operands, mixed, log_total, bias, seeds = saved
    B, L, H, K = dmixed.shape
    kind = dmixed.dtype
    of_each = dmixed.astype(jnp.float32) * load_bits(mixed).astype(jnp.float32)
    dots = jnp.swapaxes(jnp.sum(of_each, axis=-1), 1, 2).reshape(B * H, L)

    def chunk(
        bias: Float32[Array, "R L L"],
        q: Shaped[Array, "C L K"],
        k: Shaped[Array, "C L K"],
        v: Shaped[Array, "C L K"],
        dmixed: Shaped[Array, "C L K"],
        log_total: Float32[Array, "C L"],
        dots: Float32[Array, "C L"],
        *seeds: UInt32[Array, "C 2"],
    ) -> tuple[Array, ...]:
        q, k, v, dmixed = (load_bits(x) for x in (q, k, v, dmixed))
        scores_t = _add_bias(_batched(k, q, 2) - log_total[:, None], bias)
        weights_t = jnp.exp(scores_t)
        dweights_t, dropped_t = _batched(v, dmixed, 2), weights_t
        for each in seeds:
            kept_t = dropout.keeps(each[:, None, None], dropout.places(L).T[None], rate)
            dweights_t, dropped_t = (jnp.where(kept_t, x / (1 - rate), 0.0) for x in (dweights_t, weights_t))
        dscores_t = round_bits(weights_t * (dweights_t - dots[:, None]), kind)
        dv = _batched(round_bits(dropped_t, kind), dmixed, 1)
        dk = _batched(dscores_t, q, 1)
        k_t = with_layout_constraint(jnp.swapaxes(k, 1, 2), Layout((0, 1, 2)))
        # The barrier keeps the transposition that follows out of the product.
        dq_t = jax.lax.optimization_barrier(_batched(k_t, dscores_t, 1)) * K**-0.5
        return tuple(store_bits(round_bits(x, kind)) for x in (dq_t, dk, dv))

    of_pairs = (*operands, _pack(dmixed), log_total, dots, *_seeds_of_pairs(seeds, dmixed.shape))
    dq_t, dk, dv = _over_chunks(chunk, dmixed.shape, bias, *of_pairs)
    dq = jnp.transpose(dq_t.reshape(B, H, K, L), (0, 3, 1, 2))
    slopes = (dq, _from_heads(dk, dmixed.shape), _from_heads(dv, dmixed.shape))
    return *(load_bits(x) for x in slopes), None, None


attention = jax.custom_vjp(_plain, nondiff_argnums=(0,))
attention.defvjp(_forward, _backward)


def _largest(scores: Float32[Array, "C L L"]) -> Float32[Array, "C L 1"]:
    """The maximum of each row, taken over as many neighbours at a time as a register holds.

    With `jnp.max` the sum of scores and bias would be written to memory and read again: XLA hands known reductions of
    rows to a library.
    """
    lanes = math.gcd(scores.shape[-1], 16)
    columns = scores.reshape(*scores.shape[:-1], -1, lanes)
    larger = lambda a, b: jax.lax.select(a > b, a, b)  # noqa: E731
    return jnp.max(jax.lax.reduce(columns, -jnp.inf, larger, (columns.ndim - 2,)), axis=-1, keepdims=True)


def _seeds_of_pairs(seeds: UInt32[Array, "B 2"] | None, shape: tuple[int, ...]) -> tuple[UInt32[Array, "BH 2"], ...]:
    """Seeds of the pairs of row and head, if there is dropout."""
    return () if seeds is None else (dropout.seeds_of_heads(seeds, shape[2]).reshape(-1, 2),)


def _batched(left: Float[Array, "C _ _"], right: Float[Array, "C _ _"], axis: int) -> Float32[Array, "C _ _"]:
    """Product over a batch: contracts the last axis of `left` with `axis` of `right`."""
    return jax.lax.dot_general(left, right, (((2,), (axis,)), ((0,), (0,))), preferred_element_type=jnp.float32)


def _pack(x_BLHK: Float[Array, "B L H K"]) -> Shaped[Array, "B*H L K"]:
    """One matrix for each pair of row and head, stored as a loop can take it."""
    B, L, H, K = x_BLHK.shape
    return jnp.swapaxes(store_bits(x_BLHK), 1, 2).reshape(B * H, L, K)


def _from_heads(x: Shaped[Array, "BH L K"], shape: tuple[int, ...]) -> Shaped[Array, "B L H K"]:
    """The inverse of `_pack`, of stored bits."""
    B, L, H, K = shape
    return jnp.swapaxes(x.reshape(B, H, L, K), 1, 2)


def _add_bias(scores: Float32[Array, "C L L"], bias: Float32[Array, "R L L"]) -> Float32[Array, "C L L"]:
    """Adds the bias of a row to the scores of its heads."""
    rows, length, _ = bias.shape
    return (scores.reshape(rows, -1, length, length) + bias[:, None]).reshape(scores.shape)


def chunk_shape(B: int, H: int, L: int) -> tuple[int, int]:
    """How many rows, and how many of their heads, make a chunk: at most CHUNK_SCORES scores, or CHUNK_PAIRS pairs.

    Both divide their totals. Only a chunk of all heads has several rows.
    """
    pairs = max(1, CHUNK_PAIRS, CHUNK_SCORES // (L * L))
    heads = max(h for h in range(1, H + 1) if H % h == 0 and h <= pairs)
    if heads < H:
        return 1, heads
    return max(r for r in range(1, B + 1) if B % r == 0 and (r == 1 or r * H <= pairs)), H


def _over_chunks(
    chunk: Callable[..., Any], shape: tuple[int, ...], bias: Float32[Array, "B L L"], *operands: Shaped[Array, "BH ..."]
) -> Any:
    """Applies `chunk(bias of its rows, *operands)` to pieces of arrays [B * H, ...] and joins the results."""
    B, L, H, _ = shape
    rows, heads = chunk_shape(B, H, L)
    count = B * H // (rows * heads)
    if count == 1:
        return chunk(bias, *operands)
    chunks_a_row = max(1, H // heads) if rows == 1 else 1

    def step(piece: tuple[Array, tuple[Array, ...]]) -> Any:
        # The barrier ties the number to the operands. Without it a scan over layers would take the slices of `bias`,
        # which do not depend on the layer, out of this loop and store them all.
        number, arrays = jax.lax.optimization_barrier(piece)
        first = (number // chunks_a_row) * rows
        return chunk(jax.lax.dynamic_slice_in_dim(bias, first, rows, 0), *arrays)

    pieces = tuple(x.reshape(count, rows * heads, *x.shape[1:]) for x in operands)
    results = jax.lax.map(step, (jnp.arange(count), pieces))
    return jax.tree.map(lambda x: x.reshape(B * H, *x.shape[2:]), results)
