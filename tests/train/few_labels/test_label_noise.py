"""Losses for wrong labels against their papers' formulas, label by label in numpy."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.train.few_labels import label_noise

RNG = np.random.default_rng(0)
LOGITS = (3 * RNG.normal(size=(4, 5, 3))).astype(np.float32)
LABELS = RNG.integers(0, 3, (4, 5))


def each(logits: np.ndarray, labels: np.ndarray, **fields: Any) -> np.ndarray:
    """The losses of all examples, with these fields of `Learn`."""
    learn = dataclasses.replace(Learn(), **fields)
    return np.asarray(jax.jit(lambda z, y: label_noise.each(learn, z, y))(logits, labels))


def softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z - z.max())
    return powers / powers.sum()


def gce(p: np.ndarray, y: int) -> float:
    return (1 - p[y] ** 0.7) / 0.7


def sce(p: np.ndarray, y: int) -> float:
    """The reverse part as the sum over labels that the paper writes, with log 0 = -4 and log 1 = 0."""
    reverse = -sum(p[k] * (0.0 if k == y else -4.0) for k in range(3))
    return 0.1 * -np.log(p[y]) + 1.0 * reverse


def bootstrap_soft(p: np.ndarray, y: int) -> float:
    target = 0.95 * np.eye(3)[y] + 0.05 * p
    return -sum(target[k] * np.log(p[k]) for k in range(3))


def bootstrap_hard(p: np.ndarray, y: int) -> float:
    target = 0.95 * np.eye(3)[y] + 0.05 * np.eye(3)[int(p.argmax())]
    return -sum(target[k] * np.log(p[k]) for k in range(3))


def focal(p: np.ndarray, y: int) -> float:
    return -((1 - p[y]) ** 2) * np.log(p[y])


def cross_entropy(p: np.ndarray, y: int) -> float:
    return -np.log(p[y])


BY_HAND = {f.__name__: f for f in (gce, sce, bootstrap_soft, bootstrap_hard, focal, cross_entropy)}


@pytest.mark.parametrize("name", BY_HAND)
def test_each_loss_is_its_formula(name: str):
    found = each(LOGITS, LABELS, loss=name)
    wanted = [
        [BY_HAND[name](softmax(z.astype(np.float64)), int(y)) for z, y in zip(*row, strict=True)]
        for row in zip(LOGITS, LABELS, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6)


LIMITS = {"gce": {"gce_q": 1e-4}, "sce": {"sce_alpha": 1.0, "sce_beta": 0.0}, "focal": {"focal_gamma": 0.0}}
LIMITS |= {name: {"bootstrap_beta": 1.0} for name in ("bootstrap_soft", "bootstrap_hard")}


@pytest.mark.parametrize("name", LIMITS)
def test_each_loss_has_cross_entropy_as_a_limit(name: str):
    np.testing.assert_allclose(each(LOGITS, LABELS, loss=name, **LIMITS[name]), each(LOGITS, LABELS), rtol=2e-3)


def test_gce_at_one_is_half_the_absolute_error():
    """Sum over k of |p_k - y_k| is 2 (1 - p_y), so wrong labels pull no harder than right ones."""
    found = each(LOGITS, LABELS, loss="gce", gce_q=1.0)
    wanted = [
        [np.abs(softmax(z) - np.eye(3)[y]).sum() / 2 for z, y in zip(*row, strict=True)]
        for row in zip(LOGITS, LABELS, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_peer_term_is_cross_entropy_with_anothers_label():
    others = RNG.permutation(LABELS.ravel()).reshape(4, 5)
    wanted = [
        [cross_entropy(softmax(z), int(y)) for z, y in zip(*row, strict=True)]
        for row in zip(LOGITS, others, strict=True)
    ]
    np.testing.assert_allclose(jax.jit(label_noise.peer)(LOGITS, others), wanted, rtol=1e-5)


def test_blind_agreement_earns_nothing_under_the_peer_loss():
    """A constant prediction has equal terms where labels are shuffled, so with alpha = 1 its whole loss is 0."""
    constant, labels = np.tile([2.0, 0.0], (6, 1)).astype(np.float32), np.array([0, 0, 0, 0, 1, 1])
    second = jax.jit(label_noise.peer)(constant, np.roll(labels, 1))
    assert float(np.sum(each(constant, labels, loss="peer") - second)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("name", BY_HAND)
def test_gradients_are_finite_where_the_model_is_certain(name: str, gamma: float):
    learn = dataclasses.replace(Learn(), loss=name, focal_gamma=gamma)
    certain = np.array([[80.0, -80.0], [-80.0, 80.0]], np.float32)
    slope = jax.jit(jax.grad(lambda z: label_noise.each(learn, z, jnp.array([0, 0])).sum()))(certain)
    assert np.isfinite(slope).all()
