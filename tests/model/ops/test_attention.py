"""Attention stays inside a window, is the same however it is computed, and drops by row."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
from jax import Array

from bertlite_jax.errors import UserError
from bertlite_jax.model.ops import attention, attention_cpu, precision

MODES = ["float32", "cpu_bfloat16"]
TOLERANCE = {"float32": 2e-5, "cpu_bfloat16": 2e-2}
SEGMENTS = np.asarray([[1] * 5 + [2] * 7 + [0] * 4, [1] * 16, [1] * 2 + [2] * 3 + [3] * 11, [0] * 16])
REAL = (SEGMENTS > 0)[..., None, None].astype(np.float32)


def drawn(seed: int = 0, shape: tuple[int, ...] = (4, 16, 6, 8)) -> tuple[Array, Array, Array]:
    generator = np.random.default_rng(seed)
    q, k, v = (jnp.asarray(generator.normal(size=shape), jnp.float32) for _ in range(3))
    return q, k, v


def slow(q, k, v, segments: np.ndarray) -> np.ndarray:
    """Token by token in float64; rows of padding are left 0."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros_like(q)
    for b, i in np.argwhere(segments > 0):
        same = np.flatnonzero(segments[b] == segments[b, i])
        for h in range(q.shape[2]):
            scores = k[b, same, h] @ q[b, i, h] / np.sqrt(q.shape[3])
            weights = np.exp(scores - scores.max())
            out[b, i, h] = weights @ v[b, same, h] / weights.sum()
    return out


def attend(q: Array, k: Array, v: Array, segments: Any, compute: Any = "float32", **keywords: Any) -> Array:
    return attention.attention(q, k, v, attention.segment_mask(jnp.asarray(segments)), "xla", compute, **keywords)


def chunks_of(monkeypatch, scores: int, pairs: int = 1) -> None:
    monkeypatch.setattr(attention_cpu, "CHUNK_SCORES", scores)
    monkeypatch.setattr(attention_cpu, "CHUNK_PAIRS", pairs)


@pytest.fixture(params=["chunked", "einsum"])
def way(request, monkeypatch) -> str:
    monkeypatch.setattr(attention, "choose", lambda *_: request.param)
    return request.param


@pytest.mark.parametrize("compute", MODES)
def test_attention_is_softmax_within_the_window(way, compute):
    q, k, v = drawn()
    real = SEGMENTS > 0
    got = np.asarray(attend(q, k, v, SEGMENTS, compute), np.float32)
    np.testing.assert_allclose(got[real], slow(q, k, v, SEGMENTS)[real], atol=TOLERANCE[compute])
    assert np.isfinite(got).all()


def test_another_window_changes_nothing_not_even_the_last_bit(way):
    q, k, v = drawn()
    q2, k2, v2 = (jnp.where((SEGMENTS == 1)[..., None, None], x, 100 * x) for x in (q, k, v))
    first = SEGMENTS == 1
    np.testing.assert_array_equal(attend(q, k, v, SEGMENTS)[first], attend(q2, k2, v2, SEGMENTS)[first])


def test_large_scores_stay_finite(way):
    """Scores of thousands in a foreign window must not push the own window's weights to 0 / 0."""
    q, k, v = (jnp.where((SEGMENTS == 2)[..., None, None], 300 * x, x) for x in drawn())
    value, slopes = jax.value_and_grad(lambda q: jnp.sum(attend(q, k, v, SEGMENTS)))(q)
    assert np.isfinite(value)
    assert np.isfinite(slopes).all()


@pytest.mark.parametrize("compute", MODES)
@pytest.mark.parametrize("heads_in_a_chunk", thorough.but([3, 12], [1, 3, 6, 12, 24]))
def test_chunks_give_the_gradients_of_the_whole(monkeypatch, compute, heads_in_a_chunk):
    """One head, half a row, a row, two rows and everything at a time, against autodiff through einsum."""
    chunks_of(monkeypatch, heads_in_a_chunk * 16 * 16)
    assert np.prod(attention_cpu.chunk_shape(4, 6, 16)) == heads_in_a_chunk
    weight = drawn(1)[0] * REAL

    def slopes(compute, way):
        monkeypatch.setattr(attention, "choose", lambda *_: way)
        value = lambda q, k, v: jnp.sum(weight * attend(q, k, v, SEGMENTS, compute).astype(jnp.float32))  # noqa: E731
        return jax.jit(jax.grad(value, (0, 1, 2)))(*drawn())

    for got, wanted in zip(slopes(compute, "chunked"), slopes("float32", "einsum"), strict=True):
        np.testing.assert_allclose(got, wanted, atol=5 * TOLERANCE[compute])


@pytest.mark.parametrize(
    ("rows", "heads", "length", "wanted"),
    [(4, 12, 1024, (1, 1)), (4, 12, 512, (1, 1)), (4, 12, 256, (1, 4)), (16, 12, 128, (1, 12)), (16, 12, 64, (4, 12))],
)
def test_a_chunk_is_some_heads_of_a_row_or_several_rows(monkeypatch, rows, heads, length, wanted):
    """At most 2^18 scores unless one head has more: 2^18 / 256^2 = 4 heads, 2^18 / 64^2 = 64 = 5.3 rows of 12."""
    chunks_of(monkeypatch, 2**18)
    assert attention_cpu.chunk_shape(rows, heads, length) == wanted


def test_a_chunk_has_pairs_for_all_cores(monkeypatch):
    """Four heads of 1024 tokens hold 2^22 scores, but two cores are busy with them; 6 heads leave 3 as a divisor."""
    chunks_of(monkeypatch, 2**18, pairs=4)
    assert attention_cpu.chunk_shape(4, 12, 1024) == (1, 4)
    assert attention_cpu.chunk_shape(4, 6, 1024) == (1, 3)


def test_chunks_work_in_a_scan_and_in_recomputed_layers():
    q, k, v = drawn()

    def value(q, wrap):
        layer = wrap(lambda x: attend(x, k, v, SEGMENTS))
        return jnp.sum(jax.lax.scan(lambda x, _: (layer(x), None), q, None, length=2)[0])

    plain = jax.grad(functools.partial(value, wrap=lambda layer: layer))(q)
    np.testing.assert_allclose(jax.grad(functools.partial(value, wrap=jax.checkpoint))(q), plain, atol=1e-6)


def test_dropout_follows_the_row_key_and_keeps_the_mean():
    """A row's mask is the same wherever the row stands; with v = 1 the mean over many draws is 1."""
    q, k, v = drawn(shape=(4, 16, 6, 8))
    keys = jax.random.split(jax.random.key(0), 4)
    drop = functools.partial(attend, dropout_rate=0.3)
    whole = drop(q, k, v, SEGMENTS, dropout_keys=keys)
    last = drop(q[2:3], k[2:3], v[2:3], SEGMENTS[2:3], dropout_keys=keys[2:3])
    np.testing.assert_allclose(whole[2:3], last, atol=1e-6)
    ones = drop(q, k, jnp.ones_like(v), np.ones_like(SEGMENTS), dropout_keys=keys)
    assert float(jnp.std(ones)) > 0.05
    assert float(jnp.mean(ones)) == pytest.approx(1, abs=0.05)
    np.testing.assert_array_equal(
        drop(q, k, v, SEGMENTS, dropout_keys=None), attend(q, k, v, SEGMENTS, dropout_keys=None)
    )


@pytest.mark.parametrize("compute", MODES)
@pytest.mark.parametrize("heads_in_a_chunk", thorough.but([3], [1, 3, 6, 24]))
def test_chunks_drop_what_the_whole_drops(monkeypatch, compute, heads_in_a_chunk):
    """Values and gradients, against autodiff through einsum, which holds every mask at once."""
    chunks_of(monkeypatch, heads_in_a_chunk * 16 * 16)
    weight, keys = drawn(1)[0] * REAL, jax.random.split(jax.random.key(0), 4)

    def both(compute, way):
        monkeypatch.setattr(attention, "choose", lambda *_: way)
        drop = functools.partial(attend, segments=SEGMENTS, compute=compute, dropout_keys=keys, dropout_rate=0.3)
        value = lambda *qkv: jnp.sum(weight * drop(*qkv).astype(jnp.float32))  # noqa: E731
        value, slopes = jax.jit(jax.value_and_grad(value, (0, 1, 2)))(*drawn())
        return value / 10, *slopes

    for got, wanted in zip(both(compute, "chunked"), both("float32", "einsum"), strict=True):
        np.testing.assert_allclose(got, wanted, atol=8 * TOLERANCE[compute])


def test_the_result_has_the_dtype_of_activations(way):
    for compute in ("float32", "bfloat16"):
        if way == "einsum" or compute == "float32":
            assert attend(*drawn(), SEGMENTS, compute).dtype == precision.activation_dtype(compute)


@pytest.mark.parametrize(
    ("impl", "platform", "compute", "dropping", "wanted"),
    [
        ("auto", "cpu", "float32", False, "chunked"),
        ("auto", "cpu", "cpu_bfloat16", False, "chunked"),
        ("auto", "cpu", "float32", True, "chunked"),
        ("auto", "gpu", "bfloat16", False, "cudnn"),
        ("auto", "gpu", "float32", False, "einsum"),
        ("auto", "gpu", "bfloat16", True, "einsum"),
        ("xla", "gpu", "bfloat16", False, "einsum"),
        ("auto", "tpu", "bfloat16", False, "einsum"),
    ],
)
def test_the_implementation_follows_platform_and_precision(impl, platform, compute, dropping, wanted):
    assert attention.choose(impl, platform, compute, dropping) == wanted


def test_cudnn_without_a_gpu_is_a_mistake_of_the_user():
    with pytest.raises(UserError, match=r"model.attention = cudnn needs a GPU"):
        attention.choose("cudnn", "cpu", "float32", False)


@pytest.mark.parametrize(
    ("impl", "platform", "compute", "joined", "wanted"),
    [
        ("auto", "tpu", "bfloat16", (512, 12, 64), "pallas"),
        ("pallas", "tpu", "bfloat16", (128, 16, 128), "pallas"),
        ("xla", "tpu", "bfloat16", (512, 12, 64), "einsum"),
        ("auto", "tpu", "float32", (512, 12, 64), "einsum"),
        ("auto", "tpu", "bfloat16", (500, 12, 64), "einsum"),  # rows that do not fill tiles
        ("auto", "tpu", "bfloat16", (512, 12, 48), "einsum"),  # heads that do not
        ("auto", "tpu", "bfloat16", (512, 3, 64), "einsum"),  # one and a half
        ("auto", "tpu", "bfloat16", (2048, 12, 64), "einsum"),
        ("auto", "gpu", "bfloat16", (512, 12, 64), "cudnn"),
        ("auto", "cpu", "cpu_bfloat16", (512, 12, 64), "chunked"),
    ],
)
def test_the_kernel_for_tpus_is_chosen_by_shape(impl, platform, compute, joined, wanted):
    assert attention.choose(impl, platform, compute, platform != "gpu", joined) == wanted


@pytest.mark.parametrize(
    ("platform", "compute", "length"), [("cpu", "cpu_bfloat16", 512), ("tpu", "float32", 512), ("tpu", "bfloat16", 500)]
)
def test_the_kernel_for_tpus_elsewhere_is_a_mistake_of_the_user(platform, compute, length):
    with pytest.raises(UserError, match=r"model.attention = pallas needs a TPU"):
        attention.choose("pallas", platform, compute, False, (length, 12, 64))


def test_a_model_that_was_trained_with_the_kernel_runs_on_a_cpu():
    qkv = jnp.concatenate([x.reshape(4, 16, 48) for x in drawn()], axis=-1)
    segments = jnp.asarray(SEGMENTS)

    def joined(impl: attention.Attention) -> Array:
        return attention.joined_attention(qkv, 6, segments, attention.segment_mask(segments), impl, "float32")

    np.testing.assert_array_equal(joined("pallas"), joined("auto"))
    wanted = slow(*drawn(), SEGMENTS).reshape(4, 16, 48)
    np.testing.assert_allclose(np.where(SEGMENTS[..., None], joined("pallas"), 0), wanted, atol=2e-5)


def test_what_xla_splits_over_devices_has_no_kernel():
    """Evaluation on several devices: XLA divides the program, and cannot divide a kernel."""
    qkv, segments = jnp.zeros((8, 128, 3 * 128), jnp.bfloat16), jnp.ones((8, 128), jnp.int32)
    device = jax.sharding.AbstractDevice("TPU v5 lite", 1, "tpu")
    automatic = (jax.sharding.AxisType.Auto,)
    mesh = jax.sharding.AbstractMesh((4,), ("data",), axis_types=automatic, abstract_device=device)

    def rows(qkv: Array, segments: Array) -> Array:
        mask = attention.segment_mask(segments)
        return attention.joined_attention(qkv, 2, segments, mask, "auto", "bfloat16")

    with jax.sharding.use_abstract_mesh(mesh):
        whole = str(jax.make_jaxpr(rows)(qkv, segments))
        P = jax.sharding.PartitionSpec
        split = jax.shard_map(rows, in_specs=P("data"), out_specs=P("data"))
        by_hand = str(jax.make_jaxpr(split)(qkv, segments))
    assert "pallas_call" not in whole
    assert "pallas_call" in by_hand


def test_what_is_compiled_for_a_tpu_is_written_for_it_and_not_for_this_cpu():
    """Lowering on a CPU for a mesh of TPUs: plain float32 attention in one piece, not the chunks that suit a CPU."""
    device = jax.sharding.AbstractDevice("TPU v5 lite", 1, "tpu")
    mesh = jax.sharding.AbstractMesh((4,), ("data",), abstract_device=device)
    inputs = drawn(shape=(4, 64, 8, 8))
    segments = np.ones((4, 64), np.int32)
    with jax.sharding.use_abstract_mesh(mesh):
        assert precision.target_platform() == "tpu"
        written = str(jax.make_jaxpr(functools.partial(attend, segments=segments))(*inputs))
    assert precision.target_platform() == "cpu"
    here = str(jax.make_jaxpr(functools.partial(attend, segments=segments))(*inputs))
    assert "custom_vjp" not in written
    assert "custom_vjp" in here
