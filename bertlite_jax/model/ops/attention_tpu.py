"""Attention for TPUs as one kernel each way, which reads the joined product of queries, keys and values as it lies.

XLA writes all scores [B, H, L, L] to main memory and reads them back several times. Here a program takes 128 columns of
one row of the batch: one head, or the heads that fit into that width. Their scores stay in fast memory, whole, so
nothing is kept for the backward pass but the input: it computes the softmax again. No array is transposed or split, and
no head is padded to 128 columns on its way to memory, as in kernels that want [B, H, L, K].

A head narrower than 128 is picked by zeroing the columns of the others: the matrix unit is 128 wide, so that costs it
nothing, and no column has to be moved.

Letters: B rows, L tokens in a row, D hidden, H heads, K width of a head, W columns of a program, C queries at a time.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import BFloat16, Bool, Float, Float32, Int, UInt32

from bertlite_jax.model.ops import dropout
from bertlite_jax.model.ops.arrays import AnyArray

LANES = 128
"""Columns that a TPU works on at once."""
LONGEST = 1024
"""Tokens of the longest row."""
CHUNK_SCORES = 512 * 512
"""Scores of a head that are worked on at a time: an array of them takes 1 MiB; v4 has 16 MiB of fast memory."""
FAR = -1e9
"""Score of positions outside the window."""


def fits(length: int, heads: int, head_size: int) -> bool:
    """Whether the kernel takes rows of this length and heads of this width."""
    whole = LANES % head_size == 0 or head_size % LANES == 0
    return whole and (heads * head_size) % LANES == 0 and length % LANES == 0 and length <= LONGEST


def attention(
    qkv: BFloat16[Array, "B L qkv"],
    segments: Int[AnyArray, "B L"],
    heads: int,
    seeds: UInt32[Array, "B 2"] | None,
    rate: float,
) -> BFloat16[Array, "B L D"]:
    """Scaled dot-product attention within windows.

    Args:
      qkv: queries, keys and values, 3 D columns, each head by head; `fits` must hold.
      segments: a token sees those with its number.
      heads: H.
      seeds: of the dropout masks, which are those of `attention.attention`; None for no dropout.
      rate: probability of dropping an attention weight.
    """
    if seeds is None:
        return _attention(heads, 0.0, qkv, segments[:, None], segments[:1, 0])
    of_heads = dropout.seeds_of_heads(seeds, heads).reshape(-1)
    return _attention(heads, rate, qkv, segments[:, None], jax.lax.bitcast_convert_type(of_heads, jnp.int32))


def _plain(
    heads: int,
    rate: float,
    qkv: BFloat16[Array, "B L qkv"],
    segments: Int[AnyArray, "B 1 L"],
    seeds: Int[AnyArray, " seeds"],
) -> BFloat16[Array, "B L D"]:
    """The seeds are 2 B H numbers, or anything where the rate is 0."""
    kernel = functools.partial(_forward_kernel, heads=heads, head_size=qkv.shape[2] // 3 // heads, rate=rate)
    return _call(kernel, heads, (qkv, qkv, qkv), (0, 1, 2), segments, seeds, results=1, products=2)


def _forward(
    heads: int,
    rate: float,
    qkv: BFloat16[Array, "B L qkv"],
    segments: Int[AnyArray, "B 1 L"],
    seeds: Int[AnyArray, " seeds"],
) -> tuple[BFloat16[Array, "B L D"], tuple[AnyArray, ...]]:
    return _plain(heads, rate, qkv, segments, seeds), (qkv, segments, seeds)


def _backward(
    heads: int, rate: float, saved: tuple[Any, ...], dmixed: BFloat16[Array, "B L D"]
) -> tuple[BFloat16[Array, "B L qkv"], None, None]:
    qkv, segments, seeds = saved
    kernel = functools.partial(_backward_kernel, heads=heads, head_size=qkv.shape[2] // 3 // heads, rate=rate)
    operands = (qkv, qkv, qkv, dmixed)
    return _call(kernel, heads, operands, (0, 1, 2, 0), segments, seeds, results=3, products=5), None, None


_attention = jax.custom_vjp(_plain, nondiff_argnums=(0, 1))
_attention.defvjp(_forward, _backward)


def _call(
    kernel: Any,
    heads: int,
    operands: tuple[BFloat16[Array, "B L _columns"], ...],
    parts: tuple[int, ...],
    segments: Int[AnyArray, "B 1 L"],
    seeds: Int[AnyArray, " seeds"],
    results: int,
    products: int,
) -> BFloat16[Array, "B L _columns"]:
    """Runs a kernel over rows and groups of columns; its results lie side by side.

    Args:
      kernel: gets the seeds, the segments of a row and its columns of the operands, and writes one result.
      heads: H.
      operands: [B, L, n D] each; of the array at i a program gets its columns of the part `parts[i]`.
      parts: one for each operand.
      segments: a token sees those with its number.
      seeds: of the dropout masks.
      results: arrays [B, L, D]; a program writes them one after the other, in as many steps.
      products: between [L, L] and [L, K], for the estimate of the cost.
    """
    from jax.experimental import pallas as pl  # Imported at first use: no other chip needs it.
    from jax.experimental.pallas import tpu as pltpu

    B, L, D = *operands[0].shape[:2], operands[0].shape[2] // 3
    width = max(LANES, D // heads)
    blocks = D // width
    columns = [
        pl.BlockSpec((1, L, width), lambda row, block, _, part=part: (row, 0, part * blocks + block)) for part in parts
    ]
    estimate = pl.CostEstimate(
        flops=products * 2 * B * L * L * D,
        transcendentals=B * heads * L * L,
        bytes_accessed=2 * B * L * D * (len(operands) + results),
    )
    return pl.pallas_call(
        kernel,
        grid=(B, blocks, results),
        in_specs=[
            pl.BlockSpec(memory_space=pltpu.SMEM),
            pl.BlockSpec((1, 1, L), lambda row, block, part: (row, 0, 0)),
            *columns,
        ],
        out_specs=pl.BlockSpec((1, L, width), lambda row, block, part: (row, 0, part * blocks + block)),
        out_shape=jax.eval_shape(lambda x: jnp.tile(x[..., :D], results), operands[0]),  # As it varies over devices.
        scratch_shapes=[pltpu.VMEM((2, L, width), jnp.float32)] if results > 1 else [],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
        cost_estimate=estimate,
    )(seeds, segments, *operands)


# --- Inside the kernels ----------------------------------------------------------------------------------------------


def _forward_kernel(
    seeds: Any, segments: Any, q_ref: Any, k_ref: Any, v_ref: Any, out: Any, *, heads: int, head_size: int, rate: float
) -> None:
    """The result [L, W] of one row's columns."""
    _, L, W = q_ref.shape
    k, v = k_ref[0], v_ref[0]
    segment_row, segment_column = segments[0], _column(segments[0])
    for chunk in query_chunks(L):
        q, same = q_ref[0, chunk, :], segment_column[chunk] == segment_row
        mixed = jnp.zeros(q.shape, jnp.float32)
        for head in range(W // head_size):
            scores = _product(q, _only(k, head, head_size, head_size**-0.5), (1, 1))
            scores = jnp.where(same, scores, FAR)
            weights = jnp.exp(scores - jnp.max(scores, axis=1, keepdims=True))
            total = jnp.sum(weights, axis=1, keepdims=True) * (1 - rate)
            if rate:
                weights = jnp.where(_keeps(seeds, heads, head, rate, same.shape, chunk, L, 0), weights, 0.0)
            mixed += _product(weights.astype(k.dtype), _only(v, head, head_size), (1, 0)) / total
        out[0, chunk, :] = mixed.astype(out.dtype)


def _backward_kernel(
    seeds: Any,
    segments: Any,
    q_ref: Any,
    k_ref: Any,
    v_ref: Any,
    dmixed_ref: Any,
    out: Any,
    later: Any,
    *,
    heads: int,
    head_size: int,
    rate: float,
) -> None:
    """Step 0 computes the gradients of all three parts and writes that of the queries; 1 and 2 write the others.

    Scores lie transposed, keys by queries, so that only one of the five products has to transpose them.
    """
    from jax.experimental import pallas as pl

    _, L, W = q_ref.shape
    part = pl.program_id(2)

    @pl.when(part == 0)
    def _() -> None:
        k, v = k_ref[0], v_ref[0]
        segment_row, segment_column = segments[0], _column(segments[0])
        later[...] = jnp.zeros(later.shape, later.dtype)
        for chunk in query_chunks(L):
            q, dmixed = q_ref[0, chunk, :], dmixed_ref[0, chunk, :]
            same = segment_column == segment_row[:, chunk]
            dq = jnp.zeros(q.shape, jnp.float32)
            for head in range(W // head_size):
                scaled_k = _only(k, head, head_size, head_size**-0.5)
                keeps = _keeps(seeds, heads, head, rate, same.shape, chunk, L, 1) if rate else None
                scores = jnp.where(same, _product(scaled_k, q, (1, 1)), FAR)
                dweights = _product(_only(v, head, head_size), dmixed, (1, 1))
                dscores, used = (x.astype(q.dtype) for x in _through_softmax(scores, dweights, keeps, rate))
                dq += _product(dscores, scaled_k, (0, 0))
                later[0] += _product(dscores, _only(q, head, head_size, head_size**-0.5), (1, 0))
                later[1] += _product(used, _only(dmixed, head, head_size), (1, 0))
            out[0, chunk, :] = dq.astype(out.dtype)

    @pl.when(part > 0)
    def _() -> None:
        out[0] = later[part - 1].astype(out.dtype)


def _through_softmax(
    scores: Float32[Array, "L C"], dweights: Float32[Array, "L C"], keeps: Bool[Array, "L C"] | None, rate: float
) -> tuple[Float32[Array, "L C"], Float32[Array, "L C"]]:
    """The gradient of the scores, and the weights after dropout; keys by queries."""
    weights = jnp.exp(scores - jnp.max(scores, axis=0, keepdims=True))
    weights = weights / jnp.sum(weights, axis=0, keepdims=True)
    used = weights
    if keeps is not None:
        dweights, used = (jnp.where(keeps, x / (1 - rate), 0.0) for x in (dweights, weights))
    return weights * (dweights - jnp.sum(weights * dweights, axis=0, keepdims=True)), used


def query_chunks(length: int) -> list[slice]:
    """The queries whose scores are worked on at a time: whole tiles, as many as divide the row and fit."""
    sizes = [size for size in range(LANES, length + 1, LANES) if length % size == 0 and size * length <= CHUNK_SCORES]
    size = max(sizes, default=LANES)
    return [slice(start, start + size) for start in range(0, length, size)]


def _product(left: Float[Array, "_ _"], right: Float[Array, "_ _"], axes: tuple[int, int]) -> Float32[Array, "_ _"]:
    """Contracts one axis of each."""
    return jax.lax.dot_general(left, right, (((axes[0],), (axes[1],)), ((), ())), preferred_element_type=jnp.float32)


def _only(x: Float[Array, "C W"], head: int, head_size: int, scale: float = 1.0) -> Float[Array, "C W"]:
    """X times `scale`, and 0 in the columns of other heads."""
    if head_size == x.shape[1]:
        return x if scale == 1.0 else (x.astype(jnp.float32) * scale).astype(x.dtype)
    own = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1) // head_size == head
    return jnp.where(own, x.astype(jnp.float32) * scale, 0.0).astype(x.dtype)


def _column(row: Int[Array, "1 L"]) -> Int[Array, "L 1"]:
    """A row as a column; whole tiles are transposed, as a TPU can."""
    return jnp.broadcast_to(row, (LANES, row.shape[1])).T[:, :1]


def _keeps(
    seeds: Any, heads: int, head: int, rate: float, shape: tuple[int, int], chunk: slice, length: int, query_axis: int
) -> Bool[Array, "_ _"]:
    """Which weights dropout keeps, for queries `chunk` of one head; the places are those of `attention.attention`."""
    from jax.experimental import pallas as pl

    block = pl.program_id(1)
    number = pl.program_id(0) * heads + block * (heads // pl.num_programs(1)) + head
    query = jax.lax.broadcasted_iota(jnp.uint32, shape, query_axis) + jnp.uint32(chunk.start)
    key = jax.lax.broadcasted_iota(jnp.uint32, shape, 1 - query_axis)
    first, second = (seeds[2 * number + i].astype(jnp.uint32) for i in (0, 1))
    return dropout.keeps_by_bits(dropout.mixed(first, second, query * jnp.uint32(length) + key), rate)
