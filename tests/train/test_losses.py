"""Losses are sums with their weights, and agree with float64 arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertlite_jax.train import losses

masked_lm, pair = jax.jit(losses.masked_lm), jax.jit(losses.pair)
gradient_of = jax.jit(jax.grad(lambda *case: losses.masked_lm(*case)[0]))


def example(shape, classes, seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, scale, (*shape, classes)).astype(np.float32)
    labels = rng.integers(0, classes, shape).astype(np.int32)
    weights = (rng.random(shape) < 0.7).astype(np.float32)
    return logits, labels, weights


def by_hand(logits, labels, weights):
    """Loss sum, weight and number right, token by token in float64."""
    total = weight = right = 0.0
    for index in np.ndindex(labels.shape):
        row = logits[index].astype(np.float64)
        log_probabilities = row - row.max() - np.log(np.exp(row - row.max()).sum())
        total -= weights[index] * log_probabilities[labels[index]]
        weight += weights[index]
        right += weights[index] * (row.argmax() == labels[index])
    return total, weight, right


@pytest.mark.parametrize(("loss", "shape", "classes"), [(masked_lm, (3, 7), 50), (pair, (5, 4), 3)])
def test_sum_weight_and_correct_equal_a_loop_in_float64(loss, shape, classes):
    case = example(shape, classes)
    np.testing.assert_allclose(loss(*case), by_hand(*case), rtol=1e-6)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary():
    total, weight, _ = masked_lm(jnp.zeros((2, 3, 1000)), jnp.zeros((2, 3), jnp.int32), jnp.ones((2, 3)))
    assert float(total / weight) == pytest.approx(np.log(1000), rel=1e-6)


def test_ties_are_not_right_answers():
    """A model that says nothing (all logits equal) has accuracy 0, whatever the label."""
    assert float(masked_lm(jnp.zeros((1, 4, 10)), jnp.arange(4)[None], jnp.ones((1, 4)))[2]) == 0.0


def test_micro_batches_add_up_to_the_batch():
    """Sums of unequal parts give the whole; means of their means would not."""
    logits, labels, weights = example((6, 8), 40)
    whole = masked_lm(logits, labels, weights)
    parts = [masked_lm(logits[s], labels[s], weights[s]) for s in (slice(0, 1), slice(1, 6))]
    np.testing.assert_allclose(np.sum(parts, axis=0), whole, rtol=1e-6)
    means = [float(total / weight) for total, weight, _ in parts]
    assert abs(np.mean(means) - float(whole[0] / whole[1])) > 1e-3


def test_unused_slots_have_neither_loss_nor_gradient():
    logits, labels, weights = example((2, 5), 12)
    weights[:, 3:] = 0
    gradient = gradient_of(logits, labels, weights)
    assert np.all(np.asarray(gradient)[:, 3:] == 0)
    np.testing.assert_allclose(
        masked_lm(logits, labels, weights),
        masked_lm(logits[:, :3], labels[:, :3], weights[:, :3]),
        rtol=1e-6,
    )


def test_gradient_is_softmax_minus_label():
    logits, labels, weights = example((2, 3), 9)
    gradient = gradient_of(logits, labels, weights)
    exponentials = np.exp(logits.astype(np.float64))
    softmax = exponentials / exponentials.sum(-1, keepdims=True)
    np.testing.assert_allclose(gradient, weights[..., None] * (softmax - np.eye(9)[labels]), atol=1e-6)


@pytest.mark.parametrize("blocked", [-1e9, np.finfo(np.float32).min, -np.inf])
def test_padded_vocabulary_changes_nothing(blocked):
    """Logits of padding pieces arrive very negative: same loss, same gradient, none of it theirs."""
    logits, labels, weights = example((2, 4), 10)
    padded = np.concatenate([logits, np.full((2, 4, 6), blocked, np.float32)], axis=-1)
    np.testing.assert_allclose(masked_lm(padded, labels, weights), masked_lm(logits, labels, weights))
    gradient = np.asarray(gradient_of(padded, labels, weights))
    assert np.all(gradient[..., 10:] == 0)
    assert np.all(np.isfinite(gradient))


def test_huge_logits_do_not_overflow():
    logits = np.array([[[1e4, -1e4, 0.0], [1e4, 1e4 - 1, 0.0]]], np.float32)
    total, _, _ = masked_lm(logits, np.array([[0, 1]]), np.ones((1, 2)))
    # The first is certain and right: 0. The second is one below the best: log(1 + e), to float32's steps at 1e4.
    assert float(total) == pytest.approx(np.log1p(np.e), abs=1e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_sums_are_float32_whatever_the_logits(dtype):
    """4,096 losses of about 7 nats: a bfloat16 sum would stand still at 2,048 of them."""
    logits = jnp.zeros((8, 512, 1000), dtype)
    result = masked_lm(logits, jnp.zeros((8, 512), jnp.int32), jnp.ones((8, 512), jnp.int32))
    assert all(value.dtype == jnp.float32 for value in result)
    assert float(result[0]) == pytest.approx(4096 * np.log(1000), rel=1e-5)


def softmax(z):
    powers = np.exp(z.astype(np.float64) - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_distillation_is_kl_at_a_temperature_and_zero_for_equal_distributions():
    z, teacher = (np.random.default_rng(seed).normal(size=(5, 3)).astype(np.float32) for seed in (1, 2))
    p, q = softmax(teacher / 2), softmax(z / 2)
    found = jax.jit(lambda z, teacher: losses.distilled(z, teacher, 2.0))
    np.testing.assert_allclose(found(z, teacher), 4 * np.sum(p * np.log(p / q), axis=-1), rtol=1e-4)
    np.testing.assert_allclose(found(z, z + 1), np.zeros(5), atol=1e-6)
