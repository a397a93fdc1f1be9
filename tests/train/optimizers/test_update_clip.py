"""StableAdamW lowers the rate of a tensor whose gradients have outgrown the second moment."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimiser_runs import constant, contract_parameters, run_steps

from bertlite_jax.train.optim import make_optimizer
from bertlite_jax.train.optimizers.adam import gradient_rms

RATE, DECAY = 0.01, 0.1


def gradients_that_grow() -> list[dict[str, Any]]:
    """Of a stack of two layers and of a table; from the ninth on, those of the second layer are thirty times larger."""
    rng, made = np.random.default_rng(0), []
    for number in range(10):
        stack = rng.normal(size=(2, 4, 3)) * np.array([1, 30 if number >= 8 else 1])[:, None, None]
        table = rng.normal(size=(5, 4))
        made.append({"layers": {"up": {"kernel": jnp.float32(stack)}}, "word": {"embedding": jnp.float32(table)}})
    return made


def params() -> dict[str, Any]:
    return jax.tree.map(lambda g: jnp.float32(np.random.default_rng(9).normal(size=g.shape)), gradients_that_grow()[0])


def stable_adamw(p: np.ndarray, gradients: list[np.ndarray], largest: float) -> tuple[np.ndarray, list[float]]:
    """Algorithm 2 of arXiv 2304.13013 on one tensor, in float64: the moments' decays are corrected, not the moments."""
    p, m, v, factors = np.asarray(p, np.float64), 0.0, 0.0, []
    for t, g in enumerate(np.asarray(gradients, np.float64), 1):
        b1, b2 = (b * (1 - b ** (t - 1)) / (1 - b**t) for b in (0.9, 0.999))
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        rms = np.sqrt(np.mean(g**2 / np.maximum(v, 1e-6**2)))
        factors.append(max(1.0, rms / largest))
        p = p - RATE / factors[-1] * (m / (np.sqrt(v) + 1e-6) + DECAY * p)
    return p, factors


@pytest.mark.parametrize("largest", [1.0, 2.0])
def test_it_is_the_papers_algorithm_layer_by_layer(largest):
    """The layer whose gradients grow is slowed down by itself, at first threefold: v is then 900 / 9 of what it was."""
    optim = constant(RATE, name="adamw", bias_correction=True, update_clip=largest, clip_norm=0.0, weight_decay=DECAY)
    gradients = gradients_that_grow()
    after = run_steps(make_optimizer(optim, 100, 32, params()), params(), gradients)
    table, _ = stable_adamw(params()["word"]["embedding"], [g["word"]["embedding"] for g in gradients], largest)
    np.testing.assert_allclose(after["word"]["embedding"], table, rtol=2e-5, atol=1e-6)
    for layer in range(2):
        start = params()["layers"]["up"]["kernel"][layer]
        alone = [g["layers"]["up"]["kernel"][layer] for g in gradients]
        wanted, factors = stable_adamw(start, alone, largest)
        np.testing.assert_allclose(after["layers"]["up"]["kernel"][layer], wanted, rtol=2e-5, atol=1e-6)
        assert (max(factors) > 1.4) == (layer == 1), factors


def test_the_first_gradient_is_as_expected_whether_moments_are_corrected_or_not():
    """After one update v, corrected, is g^2, so nothing is clipped at 1."""
    for correction in (True, False):
        found = []
        for clip in (0.0, 1.0):
            optim = constant(RATE, name="adamw", bias_correction=correction, update_clip=clip)
            optimiser = make_optimizer(optim, 100, 32, params())
            found.append(run_steps(optimiser, params(), gradients_that_grow()[:1]))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *found)


def test_the_step_of_lamb_shrinks_although_its_ratio_follows_the_norm():
    """The moments are the same, so the ninth update is divided by what AdamW's is."""
    factors = []
    for name in ("lamb", "adamw"):
        steps = []
        for clip in (0.0, 1.0):
            optim = constant(RATE, name=name, bias_correction=True, update_clip=clip, clip_norm=0.0)
            optimiser = make_optimizer(optim, 100, 32, params())
            state = optimiser.init(params())
            step: Any = None
            for gradient in gradients_that_grow()[:9]:
                step, state = optimiser.update(gradient, state, params())
            steps.append(np.asarray(step["layers"]["up"]["kernel"]))
        factors.append(steps[0] / steps[1])
    np.testing.assert_allclose(factors[0], factors[1], rtol=1e-5)
    np.testing.assert_allclose(factors[0][0], 1.0, atol=0.3)
    assert factors[0][1].min() > 1.3


def test_the_mean_goes_over_a_layer_or_over_all():
    """Gradients 3 and 4 where 1 is expected; (9 + 16) / 2 = 12.5."""
    gradient, expected = jnp.float32([[3.0], [4.0]]), jnp.ones((2, 1))
    np.testing.assert_allclose(gradient_rms(gradient, expected, 1e-6, stacked=True), [[3.0], [4.0]])
    np.testing.assert_allclose(gradient_rms(gradient, expected, 1e-6, stacked=False), [[12.5**0.5]])


def test_rows_that_never_had_a_gradient_do_not_count():
    """Those that pad the vocabulary: with two of them the mean of 9 and 16 is what it was."""
    gradient, expected = jnp.float32([3.0, 4.0, 0.0, 0.0]), jnp.float32([1.0, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(gradient_rms(gradient, expected, 1e-6, stacked=False), [12.5**0.5])
    zero = jnp.zeros((2, 3))
    np.testing.assert_array_equal(gradient_rms(zero, zero, 1e-6, stacked=False), [[0.0]])


def test_without_it_the_optimiser_and_its_state_are_as_they_were():
    """Checkpoints of LAMB and AdamW hold what they held."""
    for name in ("lamb", "adamw"):
        tree = contract_parameters()
        state: Any = make_optimizer(constant(RATE, name=name), 100, 32, tree).init(tree)
        kinds = [type(part).__name__ for part in state]
        wanted = ["EmptyState", "AdamState", "MaskedState", *["EmptyState"] * (name == "lamb"), "ScaleByScheduleState"]
        assert kinds == wanted
