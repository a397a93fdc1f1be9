"""The error of a trial beside the maximum point, of all pieces and of the likeliest."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from bertlite_jax.jobs.searching import comparison

RNG = np.random.default_rng(20)


def draw(*shape: int) -> jnp.ndarray:
    return jnp.asarray(3 * RNG.normal(size=shape), jnp.float32)


def errors(logits, teacher, weights=None, pieces: int = 0) -> tuple[float, float]:
    """Sums of divergences and of cross-entropies."""
    weights = jnp.ones(logits.shape[:-1]) if weights is None else weights
    found = comparison.sums(logits, comparison.seen_of(teacher, pieces), weights)
    return float(found["teacher_divergence"]), float(found["teacher_cross_entropy"])


def test_cross_entropy_and_divergence_in_a_slow_loop():
    logits, teacher = draw(2, 3, 7), draw(2, 3, 7)
    weights = jnp.array([[1, 1, 0], [1, 0, 0]], jnp.int32)
    crossed, own = 0.0, 0.0
    for place in zip(*np.nonzero(weights), strict=True):
        z, t = (np.exp(np.asarray(x[place], np.float64)) for x in (logits, teacher))
        p, q = z / z.sum(), t / t.sum()
        crossed -= sum(b * math.log(a) for a, b in zip(p, q, strict=True))
        own -= sum(b * math.log(b) for b in q)
    assert errors(logits, teacher, weights) == pytest.approx((crossed - own, crossed), rel=1e-5)


def test_a_perfect_student_still_has_the_teachers_entropy():
    """So the divergence of a student may be a hundredth of another's while their cross-entropies are nearly equal."""
    teacher = draw(2, 3, 50)
    divergence, crossed = errors(teacher, teacher)
    assert divergence == pytest.approx(0, abs=1e-5)
    assert crossed > 1


def test_with_every_piece_kept_nothing_is_lost_and_with_fewer_the_errors_are_lower_bounds():
    """Two distributions whose rare pieces are put together cannot be told apart better."""
    logits, teacher = draw(5, 400), draw(5, 400)
    of_pieces = np.array([errors(logits, teacher, pieces=pieces) for pieces in (1, 8, 64, 400)])
    assert (np.diff(of_pieces, axis=0) > 0).all()
    assert (of_pieces[0] > 0).all()
    np.testing.assert_allclose(of_pieces[-1], errors(logits, teacher), rtol=1e-5)


def test_what_64_pieces_leave_out_is_what_the_rest_would_have_said():
    """KL of all pieces = KL with the rest as one + P(rest) KL of the teacher's rest from the student's (chain rule)."""
    logits, teacher = (np.asarray(draw(100), np.float64) for _ in range(2))
    p, q = (np.exp(x) / np.exp(x).sum() for x in (teacher, logits))
    rest = np.argsort(-teacher)[64:]
    missed = float(np.sum(p[rest] * np.log((p[rest] / p[rest].sum()) / (q[rest] / q[rest].sum()))))
    kept, _ = errors(jnp.asarray(logits[None], jnp.float32), jnp.asarray(teacher[None], jnp.float32), pieces=64)
    assert kept + missed == pytest.approx(float(np.sum(p * np.log(p / q))), rel=1e-4)


@pytest.mark.parametrize("pieces", [0, 4, 9])
def test_bfloat16_logits_and_impossible_pieces_give_finite_numbers(pieces):
    """Padded rows of the vocabulary have very negative logits in both."""
    logits, teacher = (draw(2, 3, 9).at[..., -1].set(-1e9).astype(jnp.bfloat16) for _ in range(2))
    assert np.isfinite(errors(logits, teacher, pieces=pieces)).all()
