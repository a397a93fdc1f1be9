"""The objective of a step: what windows packed into a row learn is what they learn alone, and losses add up."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from bertlite_jax.config.distillation.settings import Distill, Distillation, losses_of
from bertlite_jax.config.effects import replaced
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Optim, Run
from bertlite_jax.jobs.distilling import requests
from bertlite_jax.jobs.pretraining.step import init_params
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.observed import Request, observe
from bertlite_jax.train.distillation import objective, targets

STUDENT = tiny.model(share="none", embed_size=16, init_std=0.2)
TEACHER = tiny.model(share="all", embed_size=8, hidden_size=24, num_layers=3, init_std=0.2)
EVERYTHING = Distill(
    model=STUDENT,
    data=Data(length=16, batch_rows=4, windows_per_row=2),
    optim=Optim(warmup_steps=1),
    run=Run(steps=10),
    distill=Distillation(
        teachers=("teacher",),
        states_weight=1.0,
        attention_weight=1.0,
        relations_weight=1.0,
        pair_soft_weight=1.0,
        soft_tokens="all",
        relation_heads=4,
        relation_layer=2,
    ),
)
RNG = np.random.default_rng(2)


def params_of(model: Model, seed: int) -> dict:
    return init_params(PretrainingModel(model), jax.random.key(seed))


def windows(count: int = 4, length: int = 8) -> list[dict[str, np.ndarray]]:
    """Each with three predictions, and padding in the last one."""
    made = []
    for number in range(count):
        segments = np.where(np.arange(length) < length - 2 * (number == count - 1), 1, 0)
        made.append(
            {
                "inputs": RNG.integers(5, 50, length),
                "segments": segments,
                "positions": np.arange(length),
                "token_types": (np.arange(length) > 4).astype(int),
                "cls": np.array([0]),
                "predict_positions": np.array([1, 3, 4]),
                "labels": RNG.integers(5, 50, 3),
                "weights": np.array([1, 1, number != 1]),
                "pair_labels": RNG.integers(0, 2, 1),
                "pair_weights": np.array([number != 2]),
            }
        )
    return made


def in_rows(parts: list[dict[str, np.ndarray]], a_row: int) -> dict[str, jax.Array]:
    """Windows side by side, so many in a row."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in parts[0]}
    for first in range(0, len(parts), a_row):
        for name in rows:
            row = []
            for place, part in enumerate(parts[first : first + a_row]):
                offset = place * len(part["inputs"]) if name in ("cls", "predict_positions") else 0
                offset = place * (part["segments"] > 0) if name == "segments" else offset
                row.append(part[name] + offset)
            rows[name].append(np.concatenate(row))
    made = {name: jnp.asarray(np.stack(values), jnp.int32) for name, values in rows.items()}
    numbers = jnp.arange(len(parts) // a_row, dtype=jnp.int32)
    return made | {"rows": numbers, "weights": made["weights"].astype(jnp.float32)}


def sums_of(config: Distill, rows: dict[str, jax.Array], weights: dict[str, float]) -> tuple[float, dict[str, float]]:
    student = functools.partial(observe, PretrainingModel(STUDENT), requests.of_student(config))
    teacher = functools.partial(observe, PretrainingModel(TEACHER), requests.of_teacher(config, TEACHER))
    loss = objective.make_loss(student, [teacher], [TEACHER], config, 4)
    params = params_of(STUDENT, 0) | objective.init_own(jax.random.key(7), 16, 24, 0.2)
    counts = {f"{name}_weight": jnp.float32(weights.get(name, 1.0)) for name in losses_of(config)}
    value, sums = jax.jit(loss)(params, rows, counts, jax.random.key(0), params_of(TEACHER, 1))
    return float(value), {name: float(total) for name, total in sums.items()}


@pytest.mark.thorough
def test_packed_windows_learn_what_they_learn_alone():
    """Two in a row do not see each other, neither in the models nor in any loss."""
    parts = windows()
    alone, packed = (sums_of(EVERYTHING, in_rows(parts, a_row), {})[1] for a_row in (1, 2))
    assert alone.keys() == packed.keys()
    assert {name.removesuffix("_sum") for name in alone if name.endswith("_sum")} == losses_of(EVERYTHING).keys()
    for name, total in alone.items():
        assert packed[name] == pytest.approx(total, rel=2e-5, abs=1e-5), name
        assert total > 0 or name.endswith("correct"), name


def test_the_loss_is_the_weighted_sum_of_means():
    weights = {name: 3.0 + place for place, name in enumerate(losses_of(EVERYTHING))}
    value, sums = sums_of(EVERYTHING, in_rows(windows(), 2), weights)
    wanted = sum(weight * sums[f"{name}_sum"] / weights[name] for name, weight in losses_of(EVERYTHING).items())
    assert value == pytest.approx(wanted, rel=1e-5)


def test_weights_count_tokens_pairs_and_predictions():
    """Four windows of 8, 8, 8 and 6 tokens: pairs that see each other are the sum of squares."""
    rows = in_rows(windows(), 2)
    assert float(objective.pairs(rows["segments"], 2)) == 3 * 64 + 36


def test_no_teacher_gets_a_gradient_and_the_student_does():
    config, rows = EVERYTHING, in_rows(windows(), 2)
    student = functools.partial(observe, PretrainingModel(STUDENT), requests.of_student(config))
    teacher = functools.partial(observe, PretrainingModel(TEACHER), requests.of_teacher(config, TEACHER))
    loss = objective.make_loss(student, [teacher], [TEACHER], config, 4)
    params = params_of(STUDENT, 0) | objective.init_own(jax.random.key(7), 16, 24, 0.2)
    counts = {f"{name}_weight": jnp.float32(1.0) for name in losses_of(config)}

    @jax.jit
    def slopes(params, frozen):
        return jax.grad(lambda p, t: loss(p, rows, counts, jax.random.key(0), t)[0], argnums=(0, 1))(params, frozen)

    ours, theirs = slopes(params, params_of(TEACHER, 1))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(theirs))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(ours))


@pytest.mark.parametrize("soft_tokens", ["masked", "all"])
def test_what_is_stored_of_the_teacher_gives_its_losses(soft_tokens):
    """All losses, without a teacher in the objective; of fewer pieces all but one, which is smaller."""
    config = replaced(EVERYTHING, "distill.soft_tokens", soft_tokens)
    rows, seen = in_rows(windows(), 2), functools.partial(observe, PretrainingModel(TEACHER))
    student = functools.partial(observe, PretrainingModel(STUDENT), requests.of_student(config))
    params = params_of(STUDENT, 0) | objective.init_own(jax.random.key(7), 16, 24, 0.2)
    counts = {f"{name}_weight": jnp.float32(1.0) for name in losses_of(config)}
    _, wanted = sums_of(config, rows, {})
    # A divergence is the difference of two sums of about T^2 log 2 a pair, and exact to one rounding of these.
    sums = config.distill.temperature**2 * np.log(2.0) * float(np.sum(rows["pair_weights"]))
    rounding = {"pair_soft_sum": float(np.spacing(np.float32(sums)))}

    def to_store(pieces: int) -> dict[str, jax.Array]:
        shown = seen(requests.of_teacher(config, TEACHER), params_of(TEACHER, 1), rows, None)
        return targets.to_store(targets.of_teachers([shown], [TEACHER], config), rows, config, pieces)

    for pieces in (50, 10):
        stored = jax.jit(to_store, static_argnums=0)(pieces)
        assert stored.keys() >= {name for names in targets.names_of(config, [TEACHER]).values() for name in names}
        assert stored[targets.SOFT].shape[-1] == pieces
        loss = jax.jit(objective.make_loss(student, [], [TEACHER], config, 4))
        _, found = loss(params, rows | targets.in_batch(stored), counts, jax.random.key(0))
        for name, total in wanted.items():
            if name == "soft_sum" and pieces < 50:
                assert 0 < float(found[name]) < total
            else:
                assert float(found[name]) == pytest.approx(total, rel=1e-6, abs=rounding.get(name, 0.0)), name


# --- What a model shows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"share": "all", "depth_vector": True}, marks=pytest.mark.thorough),
        {"norm": "pre"},
        pytest.param({"share": "all", "own_first": 1, "num_layers": 3}, marks=pytest.mark.thorough),
    ],
    ids=str,
)
def test_what_is_shown_is_what_the_model_computes(changes):
    """Logits of `__call__`, states of `hidden_states`; and attention of the shown parts gives the layer's own."""
    model = tiny.model(**{"share": "none", "embed_size": 16, "init_std": 0.2, **changes})
    params, rows = params_of(model, 3), in_rows(windows(), 2)
    module, layers = PretrainingModel(model), model.num_layers
    request = Request(True, True, True, tuple(range(layers + 1)), tuple(range(1, layers + 1)))
    seen = observe(module, request, params, rows, None)
    names = ("inputs", "segments", "positions", "token_types")
    inputs = [rows[name] for name in names]
    both: Any = module.apply({"params": params}, *inputs, rows["cls"], rows["predict_positions"])
    logits, pair_logits = both
    np.testing.assert_allclose(seen["masked_logits"], logits, atol=1e-5)
    np.testing.assert_allclose(seen["pair_logits"], pair_logits, atol=1e-5)
    np.testing.assert_allclose(
        np.take_along_axis(np.asarray(seen["all_logits"]), np.asarray(rows["predict_positions"])[..., None], 1),
        logits,
        atol=1e-5,
    )
    lean = observe(module, Request(), params, rows, None)
    assert set(lean) == {"hidden"}
    np.testing.assert_allclose(lean["hidden"], seen["states"][-1], atol=1e-5)
    assert len(seen["projections"]) == layers
    stacks = jax.tree.map(np.asarray, params["layers"])
    for number, (query, key, value) in enumerate(seen["projections"]):
        part, at = stacks["attention"], model.stack_place("attention", number)
        x = np.asarray(seen["states"][number])
        if "depth" in stacks:
            x = x + stacks["depth"]["bias"][number]
        if model.norm == "pre":
            norm = {leaf: stacks["norms"]["attention"][leaf][number] for leaf in ("scale", "bias")}
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
            x = x * norm["scale"] + norm["bias"]
        for name, found in (("query", query), ("key", key), ("value", value)):
            np.testing.assert_allclose(found, x @ part[name]["kernel"][at] + part[name]["bias"][at], atol=1e-4)
