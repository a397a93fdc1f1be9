"""The formulas of the error of a short training."""

import dataclasses
import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from search import planted

from bertlite_jax.config.search.settings import Shape
from bertlite_jax.search import surrogate
from bertlite_jax.search.trials import Trial
from bertlite_jax.train import losses

RNG = np.random.default_rng(20)
TRIAL = Trial(planted.BORT, 1e-4, 8)


# --- Keys --------------------------------------------------------------------------------------------------------


def test_a_key_depends_on_everything_and_on_no_order():
    key = surrogate.memo_key(trial=TRIAL, data="abc", seeds=(0, 1))
    assert len(key) == 64
    assert key == surrogate.memo_key(seeds=(0, 1), data="abc", trial=TRIAL)
    others = [
        surrogate.memo_key(trial=dataclasses.replace(TRIAL, steps=9), data="abc", seeds=(0, 1)),
        surrogate.memo_key(trial=dataclasses.replace(TRIAL, shape=Shape()), data="abc", seeds=(0, 1)),
        surrogate.memo_key(trial=TRIAL, data="abd", seeds=(0, 1)),
        surrogate.memo_key(trial=TRIAL, data="abc", seeds=(1, 0)),
        surrogate.memo_key(trial=TRIAL, corpus="abc", seeds=(0, 1)),
    ]
    assert len({key, *others}) == 6


def test_a_key_is_the_same_in_another_process():
    """Python's own hash of a string is not. Here, SHA-256 of a text that is written out."""
    text = b'{"data": "abc", "trial": {"Trial": {"learning_rate": 0.5, "shape": null, "steps": 8}}}'
    assert surrogate.memo_key(trial=Trial(None, 0.5, 8), data="abc") == hashlib.sha256(text).hexdigest()  # pyright: ignore


def test_what_has_no_value_that_lasts_is_no_part_of_a_key():
    with pytest.raises(TypeError, match="function"):
        surrogate.memo_key(error=lambda: 0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        surrogate.memo_key(rate=math.nan)


# --- The likeliest pieces ------------------------------------------------------------------------------------------


def divergence(logits, teacher) -> float:
    crossed, own, weight = surrogate.teacher_cross_entropy(logits, teacher, jnp.ones(logits.shape[:-1]))
    return float((crossed - own) / weight)


def test_with_every_piece_kept_nothing_is_lost_and_with_fewer_the_divergence_is_a_lower_bound():
    """Known answer 12: two distributions whose rare pieces are put together cannot be told apart better."""
    logits, teacher = (jnp.asarray(RNG.normal(size=(5, 400)) * 2, jnp.float32) for _ in range(2))
    whole, found = divergence(logits, teacher), []
    for pieces in (1, 8, 64, 400):
        ids, log_p = surrogate.likeliest(teacher, pieces)
        assert log_p.shape == (5, pieces + 1)
        np.testing.assert_allclose(np.exp(np.asarray(log_p)).sum(-1), 1, rtol=1e-5)
        found.append(divergence(surrogate.together(logits, ids), log_p))
    assert found == sorted(found)
    assert found[-1] == pytest.approx(whole, rel=1e-4)
    assert found[0] > 0


def test_the_error_of_the_likeliest_pieces_is_what_the_rest_would_have_said():
    """KL of all pieces = KL with the rest as one + P(rest) KL of the teacher's rest from the student's (chain rule)."""
    logits, teacher = (RNG.normal(size=100) * 2 for _ in range(2))
    p, q = (np.exp(x) / np.exp(x).sum() for x in (teacher, logits))
    rest = np.argsort(-teacher)[64:]
    missed = float(np.sum(p[rest] * np.log((p[rest] / p[rest].sum()) / (q[rest] / q[rest].sum()))))
    ids, log_p = surrogate.likeliest(jnp.asarray(teacher[None], jnp.float32), 64)
    kept = divergence(surrogate.together(jnp.asarray(logits[None], jnp.float32), ids), log_p)
    assert kept + missed == pytest.approx(float(np.sum(p * np.log(p / q))), rel=1e-4)


# --- Extrapolation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b", "c"), [(2.0, 5.0, 0.5), (0.0, 9.0, 0.1), (1.5, 40.0, 1.2), (3.0, 1.0, 1e-9)])
def test_a_power_law_is_continued_exactly(a, b, c):
    def law(step: float) -> float:
        return a + b * step**-c

    found = surrogate.extrapolated([law(50), law(100), law(200)], 200, 2000)
    assert found == pytest.approx(law(2000), rel=1e-6)


def test_the_step_itself_is_not_changed():
    assert surrogate.extrapolated([5.0, 4.0, 3.5], 200, 200) == 3.5


def test_a_loss_that_falls_ever_faster_is_continued_along_a_line_over_log_n():
    """By 0.25, then by 1: two more doublings by 1 each, and never below 0."""
    assert surrogate.extrapolated([5.0, 4.7, 3.7], 200, 800) == pytest.approx(1.7)
    assert surrogate.extrapolated([5.0, 4.0, 3.0], 200, 800) == pytest.approx(1.0)
    assert surrogate.extrapolated([5.0, 4.7, 3.7], 200, 200 * 2**9) == 0


def test_a_loss_that_rises_at_the_end_stays():
    assert surrogate.extrapolated([5.0, 4.0, 4.1], 200, 2000) == 4.1
    assert surrogate.extrapolated([4.0, 4.0, 4.0], 200, 2000) == 4.0


def test_a_loss_that_rose_at_first_and_then_fell_is_continued_too():
    assert surrogate.extrapolated([4.0, 4.5, 4.0], 200, 400) == pytest.approx(3.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_run_that_diverged_has_no_extrapolation(bad):
    assert math.isnan(surrogate.extrapolated([5.0, 4.0, bad], 200, 2000))


# --- Cross-entropy to a teacher ----------------------------------------------------------------------------------


def draw(*shape: int) -> jnp.ndarray:
    return jnp.asarray(3 * RNG.normal(size=shape), jnp.float32)


def test_cross_entropy_to_a_teacher_in_a_slow_loop():
    logits, teacher = draw(2, 3, 7), draw(2, 3, 7)
    weights = jnp.array([[1, 1, 0], [1, 0, 0]], jnp.float32)
    crossed, entropy, weight = surrogate.teacher_cross_entropy(logits, teacher, weights)
    wanted = [0.0, 0.0]
    for place in zip(*np.nonzero(weights), strict=True):
        z, t = (np.exp(np.asarray(x[place], np.float64)) for x in (logits, teacher))
        p, q = z / z.sum(), t / t.sum()
        wanted[0] -= sum(b * math.log(a) for a, b in zip(p, q, strict=True))
        wanted[1] -= sum(b * math.log(b) for b in q)
    assert (float(crossed), float(entropy)) == pytest.approx(tuple(wanted), rel=1e-5)
    assert float(weight) == 3


def test_it_is_the_divergence_of_distillation_and_the_teachers_entropy():
    logits, teacher, weights = draw(4, 5, 30), draw(4, 5, 30), jnp.ones((4, 5), jnp.float32)
    crossed, entropy, _ = surrogate.teacher_cross_entropy(logits, teacher, weights)
    assert float(crossed - entropy) == pytest.approx(float(losses.distilled(logits, teacher, 1.0).sum()), rel=1e-4)


def test_a_perfect_student_still_has_the_teachers_entropy():
    """So the divergence of a student may be a hundredth of another's while their cross-entropies are nearly equal."""
    teacher, weights = draw(2, 3, 50), jnp.ones((2, 3), jnp.float32)
    crossed, entropy, _ = surrogate.teacher_cross_entropy(teacher, teacher, weights)
    assert float(crossed) == float(entropy) > 0


def test_bfloat16_logits_and_impossible_pieces_give_finite_numbers():
    """Padded rows of the vocabulary have very negative logits in both."""
    logits, teacher = (draw(2, 3, 9).at[..., -1].set(-1e9).astype(jnp.bfloat16) for _ in range(2))
    found = surrogate.teacher_cross_entropy(logits, teacher, jnp.ones((2, 3), jnp.float32))
    assert all(np.isfinite(float(each)) for each in found)


def test_weights_are_clipped_to_a_box_and_to_nothing_else():
    params = {"kernel": jnp.array([[-2.0, 0.25]]), "bias": {"b": jnp.array([0.5, 9.0])}}
    found = surrogate.clipped(params, 0.5)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    np.testing.assert_array_equal(found["kernel"], [[-0.5, 0.25]])
    np.testing.assert_array_equal(found["bias"]["b"], [0.5, 0.5])
