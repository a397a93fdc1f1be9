"""Attention sees its window and nothing else, whichever way it is computed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertlite_jax.config import UserError
from bertlite_jax.model import attention, precision

B, L, H, K = 3, 40, 2, 64
Q, KEYS, V = (jax.random.normal(key, (B, L, H, K)) for key in jax.random.split(jax.random.key(0), 3))
SEGMENTS = np.array([[1] * 25 + [2] * 15, [1] * 40, [1] * 10 + [2] * 8 + [3] * 12 + [0] * 10])
AMX = pytest.param(
    "amx", 0.03, marks=pytest.mark.skipif("amx_bf16" not in precision.cpu_flags(), reason="a CPU without AMX")
)


def by_definition(q, k, v, segments=SEGMENTS):
    """softmax(q k / sqrt K) v over the positions of the same segment, in one piece."""
    scores = jnp.einsum("blhk,bmhk->bhlm", q, k) / np.sqrt(K)
    scores = jnp.where((segments[:, :, None] == segments[:, None, :])[:, None], scores, -jnp.inf)
    return jnp.einsum("bhlm,bmhk->blhk", jax.nn.softmax(scores, -1), v)


def ours(q, k, v, compute="float32", **keywords):
    mask = attention.segment_mask(jnp.asarray(SEGMENTS))
    return attention.attention(q, k, v, mask, "auto", compute, **keywords)


def gradients(function):
    weight = jax.random.normal(jax.random.key(5), (B, L, H, K))
    return jax.jit(jax.grad(lambda *a: jnp.sum(function(*a).astype(jnp.float32) * weight), (0, 1, 2)))(Q, KEYS, V)


@pytest.mark.parametrize(("compute", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.03), AMX])
def test_it_is_softmax_attention_within_segments(compute: str, tolerance: float):
    found = ours(Q, KEYS, V, compute).astype(jnp.float32)
    np.testing.assert_allclose(found, by_definition(Q, KEYS, V), atol=tolerance)


@pytest.mark.parametrize(("compute", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.06), AMX])
def test_its_gradient_is_that_of_the_definition(compute: str, tolerance: float):
    found = gradients(functools.partial(ours, compute=compute))
    for a, b in zip(found, gradients(by_definition)):
        np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, float(jnp.abs(b).max())))


def test_pieces_do_not_change_the_result(monkeypatch):
    """One (row, head) pair at a time, and all at once."""
    whole = ours(Q, KEYS, V)
    monkeypatch.setattr(attention, "CHUNK_SCORES", L * L)
    np.testing.assert_allclose(ours(Q, KEYS, V), whole, atol=1e-6)


def test_dropout_depends_on_the_rows_key_alone():
    keys = jax.random.split(jax.random.key(3), B)
    together = ours(Q, KEYS, V, dropout_keys=keys, dropout_rate=0.3)
    mask = attention.segment_mask(jnp.asarray(SEGMENTS))[1:2]
    alone = attention.attention(
        Q[1:2], KEYS[1:2], V[1:2], mask, "auto", "float32", dropout_keys=keys[1:2], dropout_rate=0.3
    )
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)
    assert np.abs(together - ours(Q, KEYS, V)).max() > 0.1


def test_padding_is_finite():
    assert np.isfinite(ours(Q, KEYS, V)).all()


@pytest.mark.parametrize(
    ("impl", "platform", "compute", "dropping", "chosen"),
    [
        ("auto", "gpu", "bfloat16", False, "cudnn"),
        ("auto", "gpu", "bfloat16", True, "einsum"),
        ("xla", "gpu", "bfloat16", False, "einsum"),
        ("auto", "gpu", "float32", False, "einsum"),
        ("auto", "tpu", "bfloat16", False, "einsum"),
        ("auto", "cpu", "amx", False, "chunked"),
        ("auto", "cpu", "float32", True, "einsum"),
    ],
)
def test_the_platform_chooses(impl, platform, compute, dropping, chosen):
    assert attention.choose(impl, platform, compute, dropping) == chosen


def test_cudnn_where_it_cannot_work_is_refused():
    with pytest.raises(UserError, match="needs a GPU"):
        attention.choose("cudnn", "cpu", "bfloat16", False)
