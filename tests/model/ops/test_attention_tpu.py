"""The TPU's attention kernel, interpreted on a CPU, beside autodiff through plain attention in float32."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
from jax.experimental.pallas import tpu as pltpu

from bertlite_jax.config.model import Model
from bertlite_jax.model.encoder import Encoder
from bertlite_jax.model.ops import attention, attention_tpu, dropout, precision

ROWS, LENGTH = 2, 256
SEGMENTS = np.stack([np.repeat([1, 2, 3, 0], [100, 60, 90, 6]), np.repeat([1, 0], [200, 56])]).astype(np.int32)


def drawn(width: int, seed: int = 0) -> jax.Array:
    """[B, L, width] with values that bfloat16 holds exactly."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=(ROWS, LENGTH, width)), jnp.bfloat16)


def value_and_gradient(attend, qkv: jax.Array, weight: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """The result, and the gradient of its weighted sum."""

    def weighted(qkv):
        mixed = attend(qkv).astype(jnp.float32)
        return jnp.sum(weight.astype(jnp.float32) * mixed), mixed

    gradient, mixed = jax.jit(jax.grad(weighted, has_aux=True))(qkv)
    return np.asarray(mixed, np.float32), np.asarray(gradient, np.float32)


def plain(qkv: jax.Array, heads: int, keys, rate: float) -> jax.Array:
    q, k, v = (part.reshape(ROWS, LENGTH, heads, -1) for part in jnp.split(qkv.astype(jnp.float32), 3, axis=-1))
    mask = attention.segment_mask(jnp.asarray(SEGMENTS))
    mixed = attention.attention(q, k, v, mask, "xla", "float32", keys, rate)
    return mixed.reshape(ROWS, LENGTH, -1)


@pytest.mark.parametrize(
    ("heads", "head_size", "rate", "chunk"),
    thorough.but([(2, 64, 0.1, 128)], [(2, 64, 0.0, 512), (1, 128, 0.0, 512), (8, 32, 0.0, 128), (2, 64, 0.1, 128)]),
)
def test_the_kernel_gives_the_values_and_gradients_of_plain_attention(monkeypatch, heads, head_size, rate, chunk):
    """Two heads in a program, one, four in two chunks of queries, and dropout; with padding and several windows."""
    monkeypatch.setattr(attention_tpu, "CHUNK_SCORES", chunk * LENGTH)
    width = heads * head_size
    qkv, weight = drawn(3 * width), drawn(width, 1)
    keys = jax.random.split(jax.random.key(0), ROWS) if rate else None
    seeds = None if keys is None else dropout.seeds_of(keys)
    with pltpu.force_tpu_interpret_mode():
        kernel = functools.partial(
            attention_tpu.attention, segments=jnp.asarray(SEGMENTS), heads=heads, seeds=seeds, rate=rate
        )
        got = value_and_gradient(kernel, qkv, weight)
    wanted = value_and_gradient(functools.partial(plain, heads=heads, keys=keys, rate=rate), qkv, weight)
    for ours, theirs in zip(got, wanted, strict=True):
        for part in range(ours.shape[2] // width):  # Queries, keys and values apart: none hides behind another.
            a, b = (x[..., part * width : (part + 1) * width] for x in (ours, theirs))
            assert np.linalg.norm(a - b) < 0.006 * np.linalg.norm(b)


@pytest.mark.parametrize(("length", "queries"), [(128, 128), (512, 512), (640, 128), (768, 256), (1024, 256)])
def test_a_chunk_of_queries_divides_the_row_and_has_at_most_2_to_the_18_scores(length, queries):
    """640 = 5 x 128: 640^2 scores are too many, and of whole tiles only 128 divides it."""
    chunks = attention_tpu.query_chunks(length)
    assert [place for chunk in chunks for place in range(length)[chunk]] == list(range(length))
    assert {chunk.stop - chunk.start for chunk in chunks} == {queries}


def test_nothing_is_kept_for_the_backward_pass_but_the_input():
    """2 x 256 tokens: joined product, windows and a seed; no scores, no sums of them."""
    qkv = drawn(3 * 128)
    with pltpu.force_tpu_interpret_mode():
        _, pull = jax.vjp(lambda x: attention_tpu.attention(x, jnp.asarray(SEGMENTS), 2, None, 0.0), qkv)
    assert sum(leaf.size for leaf in jax.tree.leaves(pull)) <= qkv.size + 2 * SEGMENTS.size


@pytest.mark.thorough
def test_a_model_gives_the_same_states_with_the_kernel_and_without(monkeypatch):
    """As traced for a TPU, with attention dropout, in bfloat16: two roundings apart, and both drop the same weights."""
    monkeypatch.setattr(precision, "target_platform", lambda: "tpu")
    monkeypatch.setattr(attention, "_split_by_compiler", lambda: False)
    tokens = np.random.default_rng(0).integers(5, 100, (ROWS, LENGTH)).astype(np.int32)
    row = (tokens, SEGMENTS, np.zeros_like(tokens), np.zeros_like(tokens))
    model = Model(
        vocab_size=100, embed_size=32, hidden_size=128, num_layers=1, num_heads=2, ffn_size=64, attention_dropout=0.3
    )
    keys = jax.random.split(jax.random.key(1), ROWS)

    def states(way) -> np.ndarray:
        encoder = Encoder(dataclasses.replace(model, attention=way), "bfloat16")
        params = encoder.init(jax.random.key(0), *(ids[:, :8] for ids in row))["params"]
        params = jax.tree.map(lambda leaf: 4 * leaf if leaf.ndim == 3 else leaf, params)  # So that attention matters.
        apply = jax.jit(lambda params: encoder.apply({"params": params}, *row, keys))
        assert ("pallas_call" in str(jax.make_jaxpr(apply)(params))) == (way != "xla")
        return np.asarray(apply(params), np.float32)

    with pltpu.force_tpu_interpret_mode():
        kernel, plain = states("pallas"), states("xla")
    assert np.linalg.norm((kernel - plain)[SEGMENTS > 0]) < 0.01 * np.linalg.norm(plain[SEGMENTS > 0])
    other = np.linalg.norm((kernel - np.roll(plain, 1, axis=1))[SEGMENTS > 0])
    assert other > 0.5 * np.linalg.norm(plain[SEGMENTS > 0])
