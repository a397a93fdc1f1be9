"""Each option of `learn` in a whole run: it learns, is kept as a plain task model, and goes on where it stopped."""

import dataclasses
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from toy_task import lines_of, losses_of, recipe, sentences, write_encoder, write_sst2

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.finetune import Examples, Finetune, Finetuned, TuneRun
from bertlite_jax.convert import sources
from bertlite_jax.data.examples import batches
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.finetuning.few_labels import copies, few_label_inputs, unlabelled
from bertlite_jax.jobs.finetuning.few_labels.prediction_averages import Averages
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.model import layers
from bertlite_jax.model.domain_encoder import narrowed

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> str:
    return write_sst2(tmp_path_factory.mktemp("glue"), train=32)


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("".join(text + "\n" for text, _ in sentences(40, 5)))
    return str(path)


@pytest.fixture(scope="module")
def teacher(encoder, toy, tmp_path_factory) -> str:
    run = tmp_path_factory.mktemp("teacher") / "run"
    finetune(recipe(toy, run={"steps": 12}), str(run), encoder)
    return str(run)


def learning_with(toy: str, learn: Learn, steps: int = 4, **groups: Any) -> Finetune:
    config = recipe(toy, **groups | {"run": {"steps": steps} | groups.get("run", {})})
    return dataclasses.replace(config, learn=learn)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("learn", "groups"),
    [
        pytest.param(Learn(loss="gce"), {}, marks=pytest.mark.slow),
        pytest.param(Learn(loss="peer"), {}, marks=pytest.mark.slow),
        pytest.param(Learn(fgm=1.0), {}, marks=pytest.mark.slow),
        pytest.param(Learn(mix="pooled"), {}, marks=pytest.mark.slow),
        (Learn(mix="hidden", mix_layer=1), {"data": {"pack": False}}),
    ],
    ids=lambda value: None if isinstance(value, dict) else value.loss + value.mix + str(value.fgm),
)
def test_what_needs_no_more_than_labels_learns(encoder, toy, tmp_path, learn: Learn, groups: dict):
    """Its loss falls, is another one than without the option, and the stored model has no parameters more."""
    summary = finetune(learning_with(toy, learn, 40, **groups), str(tmp_path / "run"), encoder)
    losses = losses_of(tmp_path / "run")
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    plain = finetune(recipe(toy, run={"steps": 1}, **groups), str(tmp_path / "plain"), encoder)
    assert plain["parameters"] == summary["parameters"]
    assert losses_of(tmp_path / "plain")[0] != losses[0]


@pytest.mark.thorough
def test_uda_reads_texts_and_their_augmentations(encoder, toy, texts, tmp_path):
    learn = Learn(unlabelled=texts, consistency=1.0, confidence=0.0, unlabelled_batch=16, augment="edits")
    summary = finetune(learning_with(toy, learn), str(tmp_path / "run"), encoder)
    assert summary["consistency_share"] == 1
    parts = [line["consistency_loss"] for line in lines_of(tmp_path / "run") if "consistency_loss" in line]
    assert len(parts) == 4
    assert all(part > 0 for part in parts)


@pytest.mark.thorough
def test_a_teachers_logits_are_computed_once_and_taught(encoder, toy, texts, teacher, tmp_path, capsys):
    learn = Learn(teacher=teacher, teacher_weight=1.0, unlabelled=texts, unlabelled_batch=16)
    config = learning_with(toy, learn, 40)
    finetune(config, str(tmp_path / "run"), encoder)
    files = sorted((tmp_path / "run" / "learning").glob("teacher-*.npy"))
    assert sorted(np.load(path).shape for path in files) == [(32, 2), (40, 2)]
    losses = [line["label_loss"] for line in lines_of(tmp_path / "run") if "label_loss" in line]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert capsys.readouterr().out.count("computing the logits of the teacher") == 2
    finetune(config, str(tmp_path / "run"), encoder)
    assert "computing the logits of the teacher" not in capsys.readouterr().out


def test_a_teacher_of_other_labels_is_refused(encoder, prepared, toy, tmp_path):
    from bertlite_jax.config.model import Head

    other = write_encoder(tmp_path / "other", prepared.tokenizer, head=Head(labels=("x", "y")))
    with pytest.raises(UserError, match="has the labels x, y; the task has"):
        finetune(learning_with(toy, Learn(teacher=other)), str(tmp_path / "run"), encoder)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_temporal_ensembling_resumes_as_if_it_had_not_stopped(encoder, toy, texts, tmp_path):
    """32 examples are 2 steps an epoch, 40 texts 3; stopped after 5 of 8 steps, by a copy that was to make no more."""
    learn = Learn(temporal=5.0, temporal_ramp=0.0, unlabelled=texts, unlabelled_batch=16)
    config = learning_with(toy, learn, 8, run={"steps": 8, "checkpoint_every": 1, "keep_last": 8, "eval_every": 8})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finetune(config, str(whole), encoder)
    parts = [line["ensemble_loss"] for line in lines_of(whole) if "ensemble_loss" in line]
    assert parts[0] == parts[1] == parts[2] == 0  # the metrics of step 2 come while step 3 is under way
    assert all(part > 0 for part in parts[3:])
    finetune(config, str(broken), encoder)
    for step in (6, 7, 8):
        shutil.rmtree(broken / "checkpoints" / str(step))
    (broken / "summary.json").unlink()
    finetune(config, str(broken), encoder)
    assert losses_of(broken) == losses_of(whole)
    assert sorted(path.name for path in (broken / "learning").iterdir())[-1] == "averages-8.npz"


def test_averages_are_those_of_the_epochs_before():
    """Two examples, one step an epoch, decay 1/2: by hand."""
    averages = Averages(2, 1, 1, 0.5)
    batch = np.array([1, 0])
    predictions = {1: [[0.2], [0.4]], 2: [[0.6], [0.8]]}  # of example 1, then of example 0
    for number in (1, 2, 3, 4):
        target, known = averages.at(number, batch)
        if number in (1, 2):
            assert not known
        if number == 3:  # of step 1 alone
            np.testing.assert_allclose(target, [[0.4], [0.2]], rtol=1e-6)
        if number == 4:  # (0.5 * 0.5 * first + 0.5 * second) / (1 - 0.25)
            np.testing.assert_allclose(target, [[(0.1 + 0.4) / 0.75], [(0.05 + 0.3) / 0.75]], rtol=1e-6)
        averages.add(number, np.array(predictions.get(number, [[0.0], [0.0]]), np.float32))


@pytest.mark.thorough
@pytest.mark.parametrize("layers", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_domains_train_and_a_plain_task_model_is_kept(encoder, toy, texts, tmp_path, layers: int):
    other = write_sst2(tmp_path / "other", train=16)
    learn = Learn(domains=(other, texts), domain_weight=0.5, private_layers=layers)
    summary = finetune(learning_with(toy, learn), str(tmp_path / "run"), encoder)
    assert summary["train_examples"] == 32 + 16 + 40
    parts = [line["domain_loss"] for line in lines_of(tmp_path / "run") if "domain_loss" in line]
    assert all(0 < part < 10 for part in parts)
    stored = sources.load(str(tmp_path / "run"))
    plain = finetune(recipe(toy, run={"steps": 1}), str(tmp_path / "plain"), encoder)
    assert "domains" not in stored.params
    assert sum(leaf.size for leaf in jax.tree.leaves(stored.params)) == plain["parameters"] < summary["parameters"]


def test_every_batch_of_unlabelled_texts_has_the_planned_shape(prepared, tmp_path):
    """Many short texts and a few long ones, dealt anew in each of ten epochs, for several seeds."""
    rng = np.random.default_rng(0)
    texts = tmp_path / "texts.txt"
    words = np.minimum(rng.geometric(0.15, 200), 30)
    texts.write_text("".join(" ".join(["queen"] * int(count)) + "\n" for count in words))
    tokenizer, learn = (
        load_tokenizer(prepared.tokenizer),
        Learn(unlabelled=str(texts), unlabelled_batch=24, temporal=1),
    )
    for seed in range(6):
        config = Finetuned(data=Examples(length=32), learn=learn, run=TuneRun(seed=seed))
        read = unlabelled.read_texts(str(texts), config.head)
        unchanged = copies.Changes(lambda text, number: text, lambda words, number: words)
        extra = unlabelled.batched_texts(config, config.head, tokenizer, read, unchanged, 90, 1)
        encoded, shape = extra.unlabelled, extra.shape
        assert encoded
        assert shape
        for epoch in range(10):
            dealt = batches.deal(encoded.sizes, 24, seed + unlabelled.ORDER, epoch)
            for index, texts_of_batch in enumerate(dealt):
                layout = batches.batch_at(encoded, dealt, index, shape, config.head, True, 0)
                assert layout.batch["tokens"].shape == (shape.rows, shape.length)
                placed = np.sort(layout.windows[layout.windows >= 0])
                np.testing.assert_array_equal(placed, np.sort(texts_of_batch[texts_of_batch >= 0]))


def test_private_encoders_start_as_the_lowest_layers():
    shared = {"layers": {"up": np.arange(12.0).reshape(4, 3)}, "pooler": {"bias": np.ones(2)}}
    drawn = {"private": {"layers": {"up": np.zeros((2, 1, 3))}, "pooler": {"bias": np.zeros((2, 2))}}}
    found = few_label_inputs.start_private({**shared, "domains": drawn}, Learn(domains=("x",), private_layers=1))
    np.testing.assert_array_equal(found["domains"]["private"]["layers"]["up"], [[[0, 1, 2]], [[0, 1, 2]]])
    assert found["domains"]["private"]["pooler"]["bias"].all()


@pytest.mark.parametrize(
    "free",
    [{"own_norms": True, "depth_vector": True, "low_rank": 2}, {"own_first": 1, "own_last": 2}, {"own_first": 3}],
    ids=str,
)
def test_private_encoders_start_as_the_lowest_layers_of_those_with_something_of_their_own(free: dict):
    model, rng = tiny.model(num_layers=5, **free), np.random.default_rng(0)
    x, segments = jnp.asarray(rng.normal(size=(2, 4, 16)), jnp.float32), jnp.ones((2, 4), jnp.int32)
    attend = layers.attend_in(segments, model, "float32")
    whole, few = (layers.Layers(each, "float32") for each in (model, narrowed(model, 2)))

    def drawn(module: layers.Layers) -> Any:
        shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, attend, None)["params"])
        return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)

    params = {"layers": drawn(whole), "pooler": {}}
    private = jax.tree.map(lambda leaf: leaf[None], {"layers": drawn(few), "pooler": {}})
    started = few_label_inputs.start_private(
        {**params, "domains": {"private": private}}, Learn(domains=("x",), private_layers=2)
    )["domains"]["private"]["layers"]
    found, _ = few.apply({"params": jax.tree.map(lambda leaf: leaf[0], started)}, x, attend, None)
    wanted, _ = whole.apply({"params": params["layers"]}, x, attend, None, span=(0, 2))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("learn", "said"),
    [
        (Learn(mix="hidden"), "pass --data.no-pack"),
        (Learn(mix="pooled", temporal=1.0), "learn.mix cannot be combined with"),
        (Learn(consistency=1.0), "needs text without labels"),
        (Learn(gce_q=0.5), "learn.gce_q has no effect with learn.loss = cross_entropy; set gce"),
        (Learn(mix="pooled", mix_layer=2), "learn.mix_layer has no effect with learn.mix = pooled; set hidden"),
        (Learn(loss="gce", gce_q=0.0), "learn.gce_q = 0.0 must be greater than 0"),
        (Learn(private_layers=1), "learn.private_layers needs domains"),
        (
            Learn(mix="hidden", mix_guessed=1.0, unlabelled="x"),
            "needs learn.unlabelled and learn.mix = pooled; set both",
        ),
        (Learn(consistency=1.0, unlabelled="nowhere.txt"), "nowhere.txt: cannot be read: No such file"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(encoder, toy, tmp_path, learn: Learn, said: str):
    with pytest.raises(UserError, match=said):
        finetune(learning_with(toy, learn), str(tmp_path / "run"), encoder)
    assert not pathlib.Path(tmp_path / "run").exists()
