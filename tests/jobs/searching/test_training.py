"""A group of trials computes what its members would compute alone, and what `bertlite pretrain` computes."""

import dataclasses
import functools
import math

import jax
import numpy as np
import pytest
import tiny

from bertlite_jax.config.pretrain import Mask, Pretrain
from bertlite_jax.config.search.settings import Search, Shape, Surrogate, model_of, trained_as, trial_optim
from bertlite_jax.data.rows import batches, source
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host import memory
from bertlite_jax.jobs.pretraining.evaluate import open_evaluation
from bertlite_jax.jobs.pretraining.step import init_params, make_pretraining
from bertlite_jax.jobs.searching import rows, teacher, training
from bertlite_jax.jobs.searching.training import Member, Setup
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.train import optim, sharding, state
from bertlite_jax.train.pretraining import objective
from bertlite_jax.train.schedules import schedule

SHAPE = Shape(2, 2, 32, 32, 32)
MEMBERS = (Member(2e-3, 0), Member(5e-4, 0), Member(2e-3, 7))

pytestmark = pytest.mark.usefixtures("compiled_once")


def setup_of(config: Search) -> Setup:
    return Setup(config, "float32", rows.open_rows(config, load_tokenizer(config.data.tokenizer)))


@pytest.fixture(scope="module")
def config(prepared) -> Search:
    return tiny.search(prepared)


@pytest.fixture(scope="module")
def group(config) -> training.Trained:
    return training.train(setup_of(config), SHAPE, MEMBERS, 8)


def test_a_trial_is_a_run_of_pretraining_with_its_rate_and_as_many_steps(config, group):
    """The loss on the validation split is that of `bertlite pretrain` on one device, up to rounding."""
    run = dataclasses.replace(config.run, steps=8)
    of_trial = trial_optim(config, 2e-3, 8)
    alone = Pretrain(model_of(config.model, SHAPE), config.data, config.mask, config.objective, of_trial, run)
    mesh = sharding.make_mesh(1)
    text = source.open_source(alone.data, "train", 0)
    made = make_pretraining(alone, "float32", mesh, text.special_ids)
    trained = state.init_state(made.init_params, made.optimizer, 0, made.layout)
    for step in range(1, 9):
        batch = sharding.put_batch(batches.batch_at(text, step, alone.data.batch_rows), mesh)
        trained, _ = made.step(trained, batch)
    expected = open_evaluation(alone, made.model.apply, mesh)(trained.params)
    found = {name: values[0] for name, values in group.figures[8].items()}
    assert found["mlm"] == pytest.approx(expected["valid_mlm_loss"], rel=1e-5)
    assert found["accuracy"] == pytest.approx(expected["valid_mlm_accuracy"], abs=1e-9)


def test_members_of_a_group_do_not_know_each_other(config, group):
    """Each member alone, without the axis of members, step by step; rates and seeds make a difference."""
    for number, member in enumerate(MEMBERS):
        alone = training.train(setup_of(config), SHAPE, [member], 8)
        for step in (2, 4, 8):
            np.testing.assert_allclose(alone.figures[step]["mlm"][0], group.figures[step]["mlm"][number], rtol=1e-5)
    assert len({round(float(loss), 5) for loss in group.figures[8]["mlm"]}) == 3


def moved(rate: jax.Array, leaf: jax.Array, change: jax.Array) -> jax.Array:
    return leaf - rate * change


@pytest.mark.thorough
def test_a_plain_loop_without_vmap_gives_the_same_weights(config, group):
    setup, member = setup_of(config), MEMBERS[2]
    common = trained_as(config)
    model = PretrainingModel(model_of(common.model, SHAPE), "float32")
    made = dataclasses.replace(common, model=model.config)
    loss = objective.make_loss(model.apply, made)
    params = init_params(model, jax.random.key(member.seed))
    directions = optim.make_directions(made.optim, params)
    opt = directions.init(params)
    curve = schedule(trial_optim(config, member.learning_rate, 8), 8, 8)
    grads_of = jax.jit(jax.grad(lambda *arguments: loss(*arguments)[0]))
    for step in range(8):
        batch, weights = setup.rows.training(step + 1)
        key = jax.random.fold_in(jax.random.key(member.seed), step)
        changes, opt = directions.update(grads_of(params, batch, weights, key), opt, params)
        params = jax.tree.map(functools.partial(moved, curve(step)), params, changes)
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(group.params), strict=True):
        np.testing.assert_allclose(theirs[2], ours, atol=2e-5)


def test_the_rate_of_a_trial_warms_up_for_the_share_of_steps_that_the_run_does(config):
    """Three of twelve steps of the run are two of eight: from 0 over half of the peak to the peak, then down."""
    rates = training.learning_rates(config, MEMBERS[:2], 8)
    assert rates.shape == (8, 2)
    np.testing.assert_allclose(rates[:3, 0], [0, 1e-3, 2e-3], rtol=1e-6)
    np.testing.assert_allclose(rates[:, 0], 4 * rates[:, 1], rtol=1e-6)
    assert 0 < rates[7, 0] < rates[3, 0]


def test_a_trial_of_fewer_steps_sees_the_first_rows_of_a_longer_one(config):
    first, again = (setup_of(config).rows.training(3)[0] for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)


@pytest.mark.thorough
def test_clipped_weights_stay_within_the_limit(prepared):
    config = tiny.search(prepared, surrogate=Surrogate(steps=4, learning_rates=(0.5,), clip_weights=0.25))
    params = training.train(setup_of(config), SHAPE, MEMBERS[:1], 4).params
    assert max(float(abs(leaf).max()) for leaf in jax.tree.leaves(params)) == 0.25


@pytest.mark.thorough
def test_a_member_that_diverges_leaves_the_others_alone(config, group):
    wild = training.train(setup_of(config), SHAPE, [MEMBERS[0], Member(1e30, 0)], 8)
    assert wild.figures[8]["mlm"][0] == pytest.approx(group.figures[8]["mlm"][0], rel=1e-5)
    assert training.is_real(wild.figures, 0)
    assert not training.is_real(wild.figures, 1)


def test_a_group_that_cannot_fit_is_told_before_it_is_compiled(config, monkeypatch):
    monkeypatch.setattr(memory, "most_bytes", lambda: 2**20)
    with pytest.raises(training.NoMemory, match=r"^a step of 3 members needs about .* and this machine has 0.0 GiB; "):
        training.train(setup_of(config), SHAPE, MEMBERS, 8)


@pytest.mark.parametrize("where", ["start", "score"])
@pytest.mark.parametrize("job", [lambda setup: training.train(setup, SHAPE, MEMBERS, 4),
                                 lambda setup: training.time_steps(setup, SHAPE, MEMBERS, 1)])  # fmt: skip
def test_a_device_that_has_no_room_is_told_whatever_it_was_for(config, monkeypatch, where, job):
    """The draw of the weights and the scoring need room too, and not only a step."""

    def full(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore")

    monkeypatch.setattr(training, where, full)
    with pytest.raises(training.NoMemory, match=r"^RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.$"):
        job(setup_of(config))


def test_causal_steps_buckets_and_rates_that_change_are_not_part_of_a_trial(prepared):
    config = tiny.search(prepared, mask=Mask(scheme="token", first_rate=0.3, rate_steps=6))
    common = trained_as(config)
    assert common.mask.first_rate == 0
    assert common.run.lengths == ()


# --- The maximum point -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taught(config, tmp_path_factory):
    setup = setup_of(config)
    path = tmp_path_factory.mktemp("teacher") / "teacher.npz"
    return setup, path, teacher.open_teacher(setup, path, "key")


@pytest.mark.thorough
def test_the_maximum_point_is_trained_once(taught, monkeypatch):
    setup, path, first = taught
    assert teacher.is_kept(path, "key")
    assert not teacher.is_kept(path, "another")
    assert not teacher.is_kept(path.with_name("nowhere.npz"), "key")
    monkeypatch.setattr(training, "train", lambda *arguments: pytest.fail("trained again"))
    again = teacher.open_teacher(setup, path, "key")
    assert again.loss == first.loss
    assert all(np.array_equal(a["log_probs"], b["log_probs"]) for a, b in zip(again.seen, first.seen, strict=True))


@pytest.mark.thorough
def test_a_trial_that_is_the_maximum_point_has_no_divergence_from_it(taught):
    """And its cross-entropy is then the entropy of the predictions, between 0 and the logarithm of 300 pieces."""
    setup, _, point = taught
    seen = setup._replace(teacher=point.seen)
    figures = training.train(seen, setup.config.maximum, [Member(2e-3, 0)], 8).figures[8]
    assert figures["teacher_divergence"][0] == pytest.approx(0, abs=1e-5)
    assert 0 < figures["teacher_cross_entropy"][0] < math.log(300)
    assert figures["mlm"][0] == pytest.approx(point.loss, rel=1e-5)


@pytest.mark.thorough
def test_with_all_pieces_kept_apart_the_divergence_is_that_of_all_logits(prepared, taught, tmp_path):
    """With fewer it is at most that."""
    setup, _, point = taught
    whole = training.train(setup._replace(teacher=point.seen), SHAPE, MEMBERS[:1], 8).figures[8]["teacher_divergence"]
    found = {}
    for pieces in (300, 20):
        surrogate = dataclasses.replace(setup.config.surrogate, teacher_pieces=pieces)
        other = setup_of(tiny.search(prepared, surrogate=surrogate))
        kept = teacher.open_teacher(other, tmp_path / f"{pieces}.npz", "key")
        assert kept.seen[0]["ids"].shape[-1] == pieces
        of_pieces = training.train(other._replace(teacher=kept.seen), SHAPE, MEMBERS[:1], 8).figures[8]
        found[pieces] = of_pieces["teacher_divergence"][0]
    assert found[300] == pytest.approx(whole[0], rel=1e-4)
    assert 0 < found[20] < found[300]


@pytest.mark.thorough
def test_predictions_that_are_too_many_are_refused_with_what_helps(taught, monkeypatch):
    setup, path, _ = taught
    monkeypatch.setattr(teacher, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match=r"lower run.eval_rows .*--surrogate.teacher-pieces 64"):
        teacher.open_teacher(setup, path.with_name("other.npz"), "key")


@pytest.mark.thorough
def test_a_damaged_file_is_named(taught, tmp_path):
    setup, path, _ = taught
    (tmp_path / "teacher.npz").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"teacher.npz is damaged .*remove it"):
        teacher.open_teacher(setup, tmp_path / "teacher.npz", "key")
