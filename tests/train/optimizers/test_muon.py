"""Muon and NorMuon compute what their papers say, for each matrix of a stack by itself."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
import thorough
from optimiser_runs import constant, contract_parameters, one_step, run_steps

from bertlite_jax.config.finetune import Adapt
from bertlite_jax.train.optim import make_optimizer
from bertlite_jax.train.optimizers.adam import promoting
from bertlite_jax.train.optimizers.muon import is_muon, orthogonalize
from bertlite_jax.train.tasks.layer_rates import scale_by_depth

SHAPES = {"query": (3, 6, 6), "up": (3, 6, 10), "down": (3, 10, 6)}


def kernels(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"layers": {name: {"kernel": rng.normal(size=shape).astype(np.float32)} for name, shape in SHAPES.items()}}


def newton_schulz(g: np.ndarray) -> np.ndarray:
    """Five steps of X <- a X + (b A + c A A) X with A = X X^T, of one matrix in float64 (Jordan et al. 2024)."""
    x = np.asarray(g, np.float64)
    x = x / np.linalg.norm(x)
    if wide := x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if wide else x


# --- Orthogonal directions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 16, 16), (4, 16, 40), (4, 40, 16), (16, 24)])
def test_singular_values_come_near_one_and_singular_vectors_stay(shape):
    """From between 0.1 and 10 into the band of the published coefficients, about 0.7 to 1.2."""
    rng = np.random.default_rng(0)
    u, _, v = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    gradient = np.float32(u * np.geomspace(0.1, 10, u.shape[-1]) @ v)
    direction = np.asarray(jax.jit(orthogonalize)({"kernel": gradient})["kernel"], np.float64)
    inside = np.swapaxes(u, -1, -2) @ direction @ np.swapaxes(v, -1, -2)
    values = np.diagonal(inside, axis1=-2, axis2=-1)
    assert 0.65 < values.min() < values.max() < 1.25
    np.testing.assert_allclose(direction, u * values[..., None, :] @ v, atol=1e-4)


def test_a_matrix_of_a_stack_is_orthogonalised_as_if_it_were_alone():
    """Also one a thousand times smaller than its neighbour: each has a norm of its own."""
    stack = kernels(1)["layers"]["up"]["kernel"] * np.array([1, 1e-3, 1e3], np.float32)[:, None, None]
    together = jax.jit(orthogonalize)({"kernel": stack})["kernel"]
    for matrix, direction in zip(stack, together, strict=True):
        np.testing.assert_allclose(
            direction, jax.jit(orthogonalize)({"kernel": matrix})["kernel"], rtol=2e-5, atol=1e-6
        )
        np.testing.assert_allclose(direction, newton_schulz(matrix), rtol=2e-4, atol=2e-5)


def test_a_kernel_without_a_gradient_only_decays():
    params, zero = kernels(0), jax.tree.map(np.zeros_like, kernels(0))
    for name in ("muon", "normuon"):
        after = one_step(constant(0.1, name=name, weight_decay=0.5), params, zero)
        jax.tree.map(lambda p, q: np.testing.assert_allclose(q, 0.95 * p, rtol=1e-6), params, after)


# --- Whole updates ---------------------------------------------------------------------------------------------------


def by_hand(name: str, p: np.ndarray, gradients: list[np.ndarray], rate: float, decay: float) -> np.ndarray:
    """One matrix [I, O] in float64, by the formulas of the papers; outputs are neurons."""
    p = np.asarray(p, np.float64)
    inputs, outputs = p.shape
    m, v = np.zeros_like(p), np.zeros(outputs)
    for g in gradients:
        m = 0.9 * m + 0.1 * g
        x = newton_schulz(0.1 * g + 0.9 * m)
        if name == "muon":
            step = 0.2 * np.sqrt(max(inputs, outputs)) * x
        else:
            v = 0.8 * v + 0.2 * (x**2).mean(axis=0)
            y = x / np.sqrt(v)
            step = 0.2 * np.sqrt(inputs * outputs) / np.linalg.norm(y) * y
        p = p - rate * (step + decay * p)
    return p


@pytest.mark.parametrize("name", ["muon", "normuon"])
def test_five_updates_are_those_of_a_loop_over_matrices(name):
    optim = constant(0.05, name=name, momentum=0.9, neuron_decay=0.8, weight_decay=0.1, clip_norm=0.0)
    params, gradients = kernels(0), [kernels(seed) for seed in range(1, 6)]
    after = run_steps(make_optimizer(optim, 100, 32, params), params, gradients)
    for part in SHAPES:
        for layer in range(3):
            alone = [g["layers"][part]["kernel"][layer] for g in gradients]
            wanted = by_hand(name, params["layers"][part]["kernel"][layer], alone, 0.05, 0.1)
            np.testing.assert_allclose(after["layers"][part]["kernel"][layer], wanted, rtol=2e-4, atol=2e-5)


def test_the_first_update_is_that_of_optax_with_the_axes_of_a_stack():
    """The second is not: `optax.contrib.muon` weighs momentum and gradient by corrections that the papers lack."""
    optim = constant(0.05, name="muon", weight_decay=0.1, clip_norm=0.0)
    params, gradient = kernels(0), kernels(1)
    axes = jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(1, 2), params)
    theirs = optax.contrib.muon(
        0.05, weight_decay=0.1, consistent_rms=0.2, muon_weight_dimension_numbers=lambda _: axes
    )
    wanted = run_steps(promoting(theirs), params, [gradient])
    found = one_step(optim, params, gradient)
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-5, atol=1e-6), found, wanted)


@pytest.mark.parametrize(("name", "exact"), [("muon", False), ("normuon", True)])
def test_a_step_is_as_long_as_one_of_adamw(name, exact):
    """Root mean square 0.2 for every shape; of Muon within the band of its singular values."""
    params, gradient = kernels(0), kernels(1)
    after = one_step(constant(1.0, name=name, weight_decay=0.0), params, gradient)
    for step in jax.tree.leaves(jax.tree.map(lambda p, q: np.asarray(p) - q, params, after)):
        for layer in step:
            assert np.sqrt(np.mean(layer**2)) == pytest.approx(0.2, rel=1e-5 if exact else 0.4)


def test_normuon_gives_all_neurons_the_same_length_at_first():
    """V is the square of the first direction itself; Muon's columns differ, for an output of few inputs' worth."""
    params, gradient = kernels(0), kernels(1)

    def spread(name):
        after = one_step(constant(1.0, name=name, weight_decay=0.0), params, gradient)
        step = params["layers"]["up"]["kernel"] - np.asarray(after["layers"]["up"]["kernel"])
        lengths = np.linalg.norm(step, axis=1)
        return (lengths.max(axis=1) / lengths.min(axis=1)).max()

    assert spread("normuon") == pytest.approx(1.0, abs=1e-5)
    assert spread("muon") > 1.1


# --- Which parameters ------------------------------------------------------------------------------------------------


def test_kernels_of_layers_and_projection_are_muons():
    """And not those of heads; nor what optax would take for matrices: tables, and biases stacked by layer."""
    paths = jax.tree_util.tree_leaves_with_path(contract_parameters())
    found = {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths if is_muon(path)}
    attention = {f"layers/attention/{name}/kernel" for name in ("query", "key", "value", "output")}
    assert found == attention | {"layers/ffn/up/kernel", "layers/ffn/down/kernel", "projection/kernel"}


@pytest.mark.parametrize("name", thorough.but(["normuon"], ["muon", "normuon"]))
@pytest.mark.parametrize("fields", [{}, {"bias_correction": True, "update_clip": 0.5, "clip_norm": 0.3}])
def test_everything_else_is_moved_as_by_adamw(name, fields):
    params = contract_parameters()
    rng = np.random.default_rng(2)
    gradients = [jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), params) for _ in range(3)]

    def run(name):
        optimiser = make_optimizer(constant(0.01, name=name, **fields), 100, 32, params)
        return jax.tree_util.tree_leaves_with_path(run_steps(optimiser, params, gradients))

    for (path, ours), (_, adamw) in zip(run(name), run("adamw"), strict=True):
        if is_muon(path):
            assert np.abs(ours - adamw).max() > 1e-3
        else:
            np.testing.assert_allclose(ours, adamw, rtol=1e-6)


def test_a_moment_is_kept_once_and_a_number_for_each_neuron():
    """[3, 6, 10] has one momentum of its shape and, under NorMuon, [3, 10] squares."""
    shapes = {}
    for name in ("muon", "normuon"):
        state = make_optimizer(constant(0.1, name=name), 100, 32, kernels(0)).init(kernels(0))
        leaves = jax.tree_util.tree_leaves_with_path(state)
        shapes[name] = sorted(leaf.shape for path, leaf in leaves if "up" in jax.tree_util.keystr(path))
    assert shapes == {"muon": [(3, 6, 10)], "normuon": [(3, 6, 10), (3, 10)]}


def test_rates_of_layers_apply_to_muon_too():
    """A frozen layer stays; the lower of two others moves half as far."""
    params, gradient = kernels(0), kernels(1)
    optim = constant(0.1, name="normuon")
    whole = one_step(optim, params, gradient)
    adapt = Adapt(freeze_layers=1, layer_decay=0.5)
    chain = optax.chain(make_optimizer(optim, 100, 32, params), scale_by_depth(adapt, 3, params))
    some = run_steps(chain, params, [gradient])
    for p, q, r in zip(*(jax.tree.leaves(tree) for tree in (params, whole, some)), strict=True):
        factors = jnp.float32([0, 0.25, 0.5])[:, None, None]
        np.testing.assert_allclose(r - p, factors * (q - p), atol=1e-6)
