"""The optimisers compute what the releases compute, number by number."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimiser_runs import constant, contract_parameters, one_step, run_steps, several_steps

from bertlite_jax.config.pretrain import Optim
from bertlite_jax.train.optim import make_optimizer
from bertlite_jax.train.optimizers.adam import AdamState, clip_by_global_norm, promoting, scale_by_adam_as_released
from bertlite_jax.train.optimizers.lamb import scale_by_trust_ratio, trust_ratio
from bertlite_jax.train.optimizers.names import decay_mask

# One step worked out from the release's formulas: learning rate 0.01, weight decay 0.01, first step.
KERNEL = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
GRADIENT = np.array([[0.3, -0.2], [0.1, 0.4]], np.float32)


# --- Published numbers ----------------------------------------------------------------------------------------------


def test_adam_update_and_trust_ratio_are_the_release_ones():
    """About sqrt(10) times the sign of the gradient: m / sqrt(v) = 0.1 g / sqrt(0.001 g^2). Then decay, then ratio."""
    adam = scale_by_adam_as_released(0.9, 0.999, 1e-6)
    update = jax.jit(adam.update)(GRADIENT, adam.init(KERNEL))[0]
    np.testing.assert_allclose(update, [[3.16194, -3.16178], [3.16128, 3.16203]], atol=6e-6)
    ratio = trust_ratio(jnp.asarray(KERNEL), update + 0.01 * KERNEL, stacked=False)
    assert ratio.item() == pytest.approx(0.8620558, abs=1e-7)


@pytest.mark.parametrize(
    ("bias_correction", "expected"),
    [
        (False, [[0.97265607, 2.02708388], [2.9724894, 3.97239674]]),
        (True, [[0.97275567, 2.02643504], [2.97221636, 3.97194641]]),
    ],
)
def test_lamb_step_has_the_printed_digits(bias_correction, expected):
    optim = constant(0.01, name="lamb", bias_correction=bias_correction)
    stepped = one_step(optim, {"kernel": jnp.asarray(KERNEL)}, {"kernel": jnp.asarray(GRADIENT)})
    np.testing.assert_allclose(stepped["kernel"], expected, atol=3e-7)  # float32 around 4


@pytest.mark.parametrize("name", ["lamb", "adamw"])
def test_a_bias_gets_neither_decay_nor_trust_ratio(name):
    """0.5 - 0.01 * 0.01 / (sqrt(1e-5) + 1e-6) = 0.46838722."""
    params, gradients = {"bias": jnp.float32([0.5])}, {"bias": jnp.float32([0.1])}
    assert one_step(constant(0.01, name=name), params, gradients)["bias"].item() == pytest.approx(0.46838722, abs=6e-8)


def test_adamw_is_the_release_one_over_several_steps():
    """M and v without correction, epsilon outside the root, decay inside the update: a loop in float64."""
    optim = constant(1e-2, name="adamw", clip_norm=0.0, weight_decay=0.1)
    params = {"kernel": jnp.asarray(KERNEL)}
    result = several_steps(make_optimizer(optim, 100, 32, params), params)["kernel"]

    p, m, v, rng = KERNEL.astype(np.float64), 0.0, 0.0, np.random.default_rng(1)
    for _ in range(5):
        g = rng.normal(size=(2, 2)).astype(np.float32).astype(np.float64)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        p = p - 1e-2 * (m / (np.sqrt(v) + 1e-6) + 0.1 * p)
    np.testing.assert_allclose(result, p, rtol=1e-6)


# --- Against optax where it computes the same -----------------------------------------------------------------------


def kernels():
    rng = np.random.default_rng(3)
    return {part: {"kernel": jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)} for part in ("up", "down")}


def test_corrected_lamb_on_kernels_equals_optax():
    optim = constant(1e-2, name="lamb", bias_correction=True, clip_norm=0.0)
    ours = several_steps(make_optimizer(optim, 100, 32, kernels()), kernels())
    theirs = several_steps(promoting(optax.lamb(1e-2, eps=1e-6, weight_decay=0.01)), kernels())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7), ours, theirs)


def test_corrected_adamw_equals_optax():
    params = contract_parameters()
    optim = constant(1e-2, name="adamw", bias_correction=True, clip_norm=1.0)
    ours = several_steps(make_optimizer(optim, 100, 32, params), params)
    peer = promoting(optax.adamw(1e-2, eps=1e-6, weight_decay=0.01, mask=decay_mask))
    theirs = several_steps(optax.chain(optax.clip_by_global_norm(1.0), peer), params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), ours, theirs)


def test_uncorrected_lamb_differs_from_optax():
    optim = constant(1e-2, name="lamb", clip_norm=0.0)
    ours = several_steps(make_optimizer(optim, 100, 32, kernels()), kernels())
    theirs = several_steps(promoting(optax.lamb(1e-2, eps=1e-6, weight_decay=0.01)), kernels())
    assert np.abs(ours["up"]["kernel"] - theirs["up"]["kernel"]).max() > 1e-4


# --- Stacked layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lamb", "adamw"])
def test_stacked_layers_are_updated_like_separate_ones(name):
    """A trust ratio over the whole stack would be one number where three are due."""
    rng, optim = np.random.default_rng(4), constant(3e-2, name=name, clip_norm=0.0)
    scales = np.array([0.1, 1.0, 10.0])[:, None, None]
    stack = jnp.asarray(rng.normal(size=(3, 4, 5)) * scales, jnp.float32)
    gradients = [jnp.asarray(rng.normal(size=(3, 4, 5)), jnp.float32) for _ in range(4)]

    def run(params, gradients):
        return run_steps(make_optimizer(optim, 100, 32, params), params, gradients)

    stacked = run({"layers": {"up": {"kernel": stack}}}, [{"layers": {"up": {"kernel": g}}} for g in gradients])
    separate = run(
        {f"layer_{i}": {"kernel": stack[i]} for i in range(3)},
        [{f"layer_{i}": {"kernel": g[i]} for i in range(3)} for g in gradients],
    )
    for i in range(3):
        np.testing.assert_allclose(stacked["layers"]["up"]["kernel"][i], separate[f"layer_{i}"]["kernel"], rtol=1e-6)


def test_only_what_lies_under_layers_is_stacked():
    """An embedding table is one tensor with one ratio, although its first axis is long."""
    params = contract_parameters()
    mask = decay_mask(params)
    rng = np.random.default_rng(5)
    updates = jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), params)
    update = jax.jit(scale_by_trust_ratio(mask).update)
    scaled = update(updates, optax.EmptyState(), params)[0]

    def ratios(*path):
        before, after = updates, scaled
        for name in path:
            before, after = before[name], after[name]
        return np.asarray(after) / before

    def norm(array):
        return np.sqrt(np.sum(np.square(np.asarray(array, np.float64))))

    word = params["embeddings"]["word"]["embedding"], updates["embeddings"]["word"]["embedding"]
    np.testing.assert_allclose(ratios("embeddings", "word", "embedding"), norm(word[0]) / norm(word[1]), rtol=1e-5)
    up = params["layers"]["ffn"]["up"]["kernel"], updates["layers"]["ffn"]["up"]["kernel"]
    for layer in range(3):
        expected = norm(up[0][layer]) / norm(up[1][layer])
        np.testing.assert_allclose(ratios("layers", "ffn", "up", "kernel")[layer], expected, rtol=1e-5)
    np.testing.assert_array_equal(ratios("layers", "norms", "ffn", "scale"), 1.0)
    np.testing.assert_array_equal(ratios("mlm", "bias"), 1.0)


@pytest.mark.parametrize("zero", ["param", "update"])
def test_a_zero_norm_means_ratio_one(zero):
    """Layer 0 has the zero; layer 1, in the same stack, keeps its ratio of 2."""
    arrays = {"param": np.full((2, 3), 2.0, np.float32), "update": np.ones((2, 3), np.float32)}
    arrays[zero][0] = 0.0
    ratio = trust_ratio(jnp.asarray(arrays["param"]), jnp.asarray(arrays["update"]), stacked=True)
    np.testing.assert_allclose(ratio, [[1.0], [2.0]])


# --- Masks by name --------------------------------------------------------------------------------------------------


def test_mask_follows_the_names_of_the_model():
    """LayerNorm and every bias, the one over the vocabulary too, are left out; tables and all kernels are in."""
    flat = jax.tree_util.tree_flatten_with_path(decay_mask(contract_parameters()))[0]
    decayed = {"/".join(key.key for key in path): value for path, value in flat}
    attention = [f"layers/attention/{part}" for part in ("query", "key", "value", "output")]
    dense = ["projection", *attention, "layers/ffn/up", "layers/ffn/down", "pooler", "mlm/dense", "pair"]
    norms = ["embeddings/norm", "layers/norms/attention", "layers/norms/ffn", "final_norm", "mlm/norm"]
    expected = {f"embeddings/{table}/embedding": True for table in ("word", "position", "token_type")}
    expected |= {f"{part}/kernel": True for part in dense} | {f"{part}/bias": False for part in dense}
    expected |= {f"{part}/{leaf}": False for part in norms for leaf in ("scale", "bias")} | {"mlm/bias": False}
    assert decayed == expected


def test_mask_works_on_shapes_alone():
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), contract_parameters())
    assert decay_mask(shapes) == decay_mask(contract_parameters())


def test_a_name_without_a_rule_is_an_error():
    with pytest.raises(ValueError, match="head/gamma"):
        decay_mask({"head": {"gamma": jnp.ones(3)}})


def test_only_masked_parameters_decay():
    """With no gradient the update is the decay alone: u = wd p under AdamW, so p shrinks by lr wd."""
    params = contract_parameters()
    zero = jax.tree.map(np.zeros_like, params)
    after = one_step(constant(0.1, name="adamw", weight_decay=0.5), params, zero)
    factors = jax.tree.map(lambda decays: 0.95 if decays else 1.0, decay_mask(params))
    jax.tree.map(lambda p, q, f: np.testing.assert_allclose(q, p * f, rtol=1e-6), params, after, factors)


# --- Clipping -------------------------------------------------------------------------------------------------------


def test_gradients_are_clipped_to_the_global_norm():
    """(3, 4) and (12): norm 13, so all are divided by 13."""
    gradients = {"a": jnp.float32([3.0, 4.0]), "b": jnp.float32([12.0])}
    clipped: Any = clip_by_global_norm(1.0).update(gradients, optax.EmptyState())[0]
    np.testing.assert_allclose(clipped["a"], [3 / 13, 4 / 13], rtol=1e-6)
    np.testing.assert_allclose(clipped["b"], [12 / 13], rtol=1e-6)


@pytest.mark.parametrize("factor", [0.0, 1e-3, 1.0])
def test_small_gradients_pass_unchanged(factor):
    gradients = {"a": factor * jnp.float32([0.3, 0.4])}
    clipped: Any = clip_by_global_norm(1.0).update(gradients, optax.EmptyState())[0]
    np.testing.assert_array_equal(clipped["a"], gradients["a"])


def test_clipping_comes_first_and_can_be_switched_off():
    """V after one step is 0.001 g^2, where g = 30 is 1 after clipping."""
    params, gradients = {"kernel": jnp.ones((1, 1))}, {"kernel": jnp.full((1, 1), 30.0)}
    for clip_norm, expected in ((1.0, 1e-3), (0.0, 0.9)):
        optimiser = make_optimizer(constant(0.1, clip_norm=clip_norm), 100, 32, params)
        state: Any = optimiser.update(gradients, optimiser.init(params), params)[1]
        adam: Any = next(part for part in state if isinstance(part, AdamState))
        assert adam.nu["kernel"].item() == pytest.approx(expected, rel=1e-5)
        assert int(adam.count) == 1


# --- In a run -------------------------------------------------------------------------------------------------------


def test_the_schedule_scales_each_step():
    """Warm-up over two steps: the first update changes nothing but the moments, the second has half the peak."""
    optim = Optim(name="adamw", learning_rate=0.2, warmup_steps=2, weight_decay=0.0, clip_norm=0.0)
    params, gradients = {"bias": jnp.zeros(1)}, {"bias": jnp.ones(1)}
    optimiser = make_optimizer(optim, 100, 32, params)
    first: Any
    second: Any
    first, state = optimiser.update(gradients, optimiser.init(params), params)
    second, _ = optimiser.update(gradients, state, params)
    assert first["bias"].item() == 0.0
    m, v = 0.1 + 0.9 * 0.1, 0.001 + 0.999 * 0.001
    assert second["bias"].item() == pytest.approx(-0.1 * m / (np.sqrt(v) + 1e-6), rel=1e-6)


@pytest.mark.parametrize("name", ["lamb", "adamw"])
def test_padded_rows_of_the_vocabulary_stay_zero(name):
    """Padding pieces start at zero and get no gradient; the decay of zero is zero."""
    table = jnp.asarray(np.pad(np.random.default_rng(0).normal(size=(5, 4)), ((0, 3), (0, 0))), jnp.float32)
    gradient = jnp.asarray(np.pad(np.random.default_rng(1).normal(size=(5, 4)), ((0, 3), (0, 0))), jnp.float32)
    after = one_step(constant(0.1, name=name), {"embedding": table}, {"embedding": gradient})["embedding"]
    assert np.all(np.asarray(after)[5:] == 0)
    assert np.all(np.asarray(after)[:5] != np.asarray(table)[:5])


def test_moments_are_float32_and_shaped_like_the_parameters():
    params = contract_parameters()
    state: Any = make_optimizer(Optim(), 125_000, 4096, params).init(params)
    adam = next(part for part in state if isinstance(part, AdamState))
    expected = jax.tree.map(lambda p: (p.shape, jnp.dtype("float32")), params)
    for moments in (adam.mu, adam.nu):
        assert jax.tree.map(lambda m: (m.shape, m.dtype), moments) == expected


def test_an_addition_that_starts_at_zero_is_not_held_there_by_the_trust_ratio():
    """Steps of the size of the learning rate, as for a bias. With a ratio, the second would be a hundredth of them."""
    zero = np.zeros((1, 2, 3), np.float32)
    optimiser = make_optimizer(constant(0.01, name="lamb", clip_norm=0.0, bias_correction=True), 100, 32, pair(zero))
    params, state = pair(zero), optimiser.init(pair(zero))
    for step in (1, 2, 3):
        updates, state = optimiser.update(pair(zero + 0.1), state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(jax.tree.leaves(params)[0], -0.01 * step, rtol=1e-3)


def pair(value: np.ndarray) -> Any:
    return {"layers": {"low_rank": {"up_out": {"addition": jnp.asarray(value)}}}}
