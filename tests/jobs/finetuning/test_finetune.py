"""Fine-tuning as its user meets it: learns, goes on after a death, keeps the best, refuses early."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np
import pytest
from toy_task import MODEL, lines_of, losses_of, recipe, write_csv, write_encoder, write_sst2

from bertlite_jax.config import files
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.convert import sources
from bertlite_jax.convert.weights.folder import load_weights
from bertlite_jax.data import tasks
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own import held_out
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.jobs.finetuning.start import take_over
from bertlite_jax.train import checkpoint

pytestmark = pytest.mark.usefixtures("compiled_once")

ROOT = pathlib.Path(__file__).resolve().parents[3]
NO_DROPOUT: dict[str, Any] = {"adapt": {"dropout": 0.0}, "head": {"dropout": 0.0}}


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> str:
    return write_sst2(tmp_path_factory.mktemp("glue"))


@pytest.fixture(scope="module")
def trained(encoder, toy, tmp_path_factory) -> pathlib.Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    finetune(recipe(toy, run={"steps": 0, "epochs": 12, "eval_every": 12}), str(run), encoder)
    return run


def summary_of(run: pathlib.Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def same(ours, theirs) -> None:
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(ours), jax.device_get(theirs))


# --- What a run leaves -----------------------------------------------------------------------------------------------


def test_it_learns_a_task_that_can_be_learnt(trained: pathlib.Path):
    """The texts differ by one word; the larger class of 29 examples has at most two thirds of them."""
    summary = summary_of(trained)
    assert summary["majority_share"] < 0.67
    assert summary["accuracy"] > 0.95
    assert summary["steps"] == 12 * 96 / 16
    assert summary["metric"] == "accuracy"


def test_a_run_leaves_what_the_design_says(trained: pathlib.Path):
    names = {path.name for path in trained.iterdir()}
    assert names >= {"config.json", "environment.json", "metrics.jsonl", "checkpoints", "best", "summary.json"}
    summary = summary_of(trained)
    assert (summary["train_examples"], summary["validation_examples"]) == (96, 29)
    assert summary["examples_per_second"] > 0
    assert 0.5 < summary["real_share"] <= 1
    stored = files.read_json(trained / "config.json", Finetuned)
    assert stored.model.num_layers == MODEL.num_layers
    assert stored.head.labels == tasks.TASKS["sst2"].head.labels


def test_only_real_tokens_are_counted(trained: pathlib.Path):
    """Every epoch of six steps sees each of the training tokens once, whatever the padding of its rows."""
    tokens = [line["real_tokens"] for line in lines_of(trained) if "loss" in line]
    epochs = np.reshape(tokens, (12, 6)).sum(axis=1)
    assert (epochs == summary_of(trained)["train_tokens"]).all()


def test_the_best_model_is_the_one_with_the_best_score_and_the_earliest_of_equals(trained: pathlib.Path):
    scores = {line["step"]: line["valid_accuracy"] for line in lines_of(trained) if "valid_accuracy" in line}
    summary = summary_of(trained)
    assert sorted(scores) == list(range(12, 73, 12))
    assert summary["accuracy"] == max(scores.values())
    assert summary["best_step"] == min(step for step, score in scores.items() if score == max(scores.values()))
    loaded = sources.load(trained)
    assert loaded.head == files.read_json(trained / "config.json", Finetuned).head
    assert loaded.facts["best_step"] == summary["best_step"]


def test_a_finished_run_started_again_changes_nothing_and_says_so(trained: pathlib.Path, encoder, toy, capsys):
    before = (trained / "metrics.jsonl").read_text(), summary_of(trained)
    again = finetune(recipe(toy, run={"steps": 0, "epochs": 12, "eval_every": 12}), str(trained), encoder)
    assert ((trained / "metrics.jsonl").read_text(), again) == before
    said = capsys.readouterr().out
    assert f"finetune: {trained} is finished already, at step {again['steps']}; --overwrite trains it again" in said
    assert "resuming" not in said


# --- What does not matter --------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_eight_devices_learn_what_one_learns(encoder, toy, tmp_path):
    """With dropout, and 29 validation examples that eight devices do not divide."""
    one, eight = tmp_path / "one", tmp_path / "eight"
    figures = finetune(recipe(toy), str(one), encoder)
    shared = finetune(recipe(toy, run={"devices": 8}), str(eight), encoder)
    np.testing.assert_allclose(losses_of(eight), losses_of(one), atol=1e-5)
    assert figures["accuracy"] == shared["accuracy"]


@pytest.mark.thorough
def test_packed_rows_learn_what_rows_of_one_example_learn(encoder, toy, tmp_path):
    packed, single = tmp_path / "packed", tmp_path / "single"
    together = finetune(recipe(toy, **NO_DROPOUT), str(packed), encoder)
    alone = finetune(recipe(toy, data={"pack": False}, **NO_DROPOUT), str(single), encoder)
    assert alone["batch_shape"][0] == 16 > together["batch_shape"][0]
    np.testing.assert_allclose(losses_of(single), losses_of(packed), atol=1e-5)
    assert alone["accuracy"] == together["accuracy"]


# --- Death and resurrection ------------------------------------------------------------------------------------------


def start(config, encoder: str, run: pathlib.Path) -> subprocess.Popen:
    """The command, in a process of its own, on one device and with a compilation cache that the starts share."""
    file = run.parent / "config.py"
    modules = ("config",)
    imports = "".join(f"from bertlite_jax.{module} import *\n" for module in modules)
    file.write_text(f"{imports}config = {config!r}\n")
    env = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "JAX_COMPILATION_CACHE_DIR": str(run.parent / "cache")}
    env["JAX_ENABLE_COMPILATION_CACHE"] = "true"
    env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = [sys.executable, "-m", "bertlite_jax", "finetune", str(file), "--workdir", str(run), "--init", encoder]
    return subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.thorough
def test_killed_in_the_middle_it_ends_with_the_same_figures_and_weights(encoder, toy, tmp_path):
    run = {"steps": 40, "eval_every": 8, "checkpoint_every": 4, "average": "ema", "average_decay": 0.8}
    config = recipe(toy, rate=5e-4, run=run)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    output, _ = (process := start(config, encoder, whole)).communicate(timeout=200)
    assert process.returncode == 0, output
    process = start(config, encoder, killed)
    deadline = time.monotonic() + 120
    while not (killed / "metrics.jsonl").is_file() or (killed / "metrics.jsonl").read_text().count("\n") < 17:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.communicate()
    output, _ = (process := start(config, encoder, killed)).communicate(timeout=200)
    assert process.returncode == 0, output
    assert "resuming from step" in output
    assert lines_of(killed) == lines_of(whole)
    ours, wanted = summary_of(killed), summary_of(whole)
    assert (ours["accuracy"], ours["best_step"]) == (wanted["accuracy"], wanted["best_step"])
    same(load_weights(killed / "best").params, load_weights(whole / "best").params)
    same(checkpoint.restore_params(killed / "checkpoints")[0], checkpoint.restore_params(whole / "checkpoints")[0])


# --- Options ---------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_it_stops_after_patience_evaluations_without_a_better_one(encoder, toy, tmp_path):
    """At a rate of 1e-12 no score changes: the first is the best, and three more are waited for."""
    config = recipe(toy, rate=1e-12, run={"steps": 9, "eval_every": 1, "patience": 3})
    summary = finetune(config, str(tmp_path / "run"), encoder)
    assert (summary["steps"], summary["best_step"]) == (4, 1)


@pytest.mark.thorough
def test_a_frozen_encoder_stays_what_it_was_and_its_head_learns(encoder, toy, tmp_path):
    finetune(recipe(toy, adapt={"freeze_layers": -1}), str(tmp_path / "run"), encoder)
    ours, given = load_weights(tmp_path / "run/best").params, sources.load(encoder).params
    for part in ("embeddings", "projection", "layers"):
        same(ours[part], given[part])
    assert np.abs(ours["pooler"]["kernel"] - given["pooler"]["kernel"]).max() > 1e-4


@pytest.mark.thorough
def test_layer_decay_scales_what_each_layer_learns(encoder, toy, tmp_path):
    """One Adam update moves a weight by the rate whatever its gradient: layer 0 by a tenth of what layer 1 does."""
    config = recipe(toy, adapt={"layer_decay": 0.1}, optim={"weight_decay": 0.0}, run={"steps": 1})
    finetune(config, str(tmp_path / "run"), encoder)
    ours, given = load_weights(tmp_path / "run/best").params, sources.load(encoder).params
    kernel = ("layers", "ffn", "up", "kernel")
    moved = np.abs(leaf(ours, kernel) - leaf(given, kernel))
    np.testing.assert_allclose(np.median(moved[1]) / np.median(moved[0]), 10, rtol=0.05)


@pytest.mark.thorough
def test_muon_learns_a_task_too(encoder, toy, tmp_path):
    """A step has a fifth of the length that AdamW has while gradients agree, so the rate is five times as high."""
    config = recipe(toy, rate=1e-2, optim={"name": "muon"}, run={"steps": 72, "eval_every": 12})
    assert finetune(config, str(tmp_path / "run"), encoder)["accuracy"] > 0.95


def leaf(tree, path):
    for name in path:
        tree = tree[name]
    return np.asarray(tree)


@pytest.mark.thorough
def test_the_tail_average_is_the_mean_of_the_last_updates(encoder, toy, tmp_path):
    run = {"steps": 4, "eval_every": 4, "checkpoint_every": 1, "keep_last": 4, "average": "tail", "average_steps": 3}
    finetune(recipe(toy, run=run), str(tmp_path / "run"), encoder)
    steps = [checkpoint.restore_params(tmp_path / "run/checkpoints", step)[0] for step in (2, 3, 4)]
    wanted = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *steps)
    found = load_weights(tmp_path / "run/best").params
    jax.tree.map(lambda ours, mean: np.testing.assert_allclose(ours, mean, atol=1e-6), found, wanted)


# --- Where it starts from --------------------------------------------------------------------------------------------


def test_of_another_tasks_model_the_encoder_and_the_pooler_are_taken(trained: pathlib.Path, toy):
    given = sources.load(trained)
    taken = take_over(recipe(toy), Head(labels=("yes", "no", "neither")), str(trained))
    assert "head" not in taken.params
    for part in ("embeddings", "layers", "pooler"):
        same(taken.params[part], given.params[part])


def test_an_encoder_keeps_its_residual_scale(toy, trained):
    """Its kernels are as large as they were trained, and updates as large against them."""
    weights = sources.load(trained)
    weights = dataclasses.replace(weights, model=dataclasses.replace(weights.model, residual_scale="depth"))
    taken = take_over(recipe(toy), Head(labels=("yes", "no")), str(trained), weights)
    assert taken.config.model.residual_scale == "depth"
    same(taken.params["layers"], weights.params["layers"])


def test_a_kept_heads_outputs_follow_the_order_of_the_labels(prepared, tmp_path, toy):
    three = Head(labels=("contradiction", "entailment", "neutral"))
    place = write_encoder(tmp_path / "mnli", prepared.tokenizer, head=three)
    config = recipe(toy, adapt={"keep_head": True})
    other = Head(labels=("neutral", "contradiction", "entailment"))
    taken = take_over(config, other, place).params["head"]["output"]
    given = sources.load(place).params["head"]["output"]
    np.testing.assert_array_equal(taken["kernel"], given["kernel"][:, [2, 0, 1]])
    with pytest.raises(UserError, match="has the labels contradiction, entailment, neutral, the task has yes, no"):
        take_over(config, Head(labels=("yes", "no")), place)


def test_a_kept_head_without_names_asks_for_them(prepared, tmp_path, toy):
    """LABEL_0 of one model is entailment and of another contradiction: nothing is guessed."""
    place = write_encoder(tmp_path / "mnli", prepared.tokenizer, head=Head(labels=("LABEL_0", "LABEL_1", "LABEL_2")))
    config = recipe(toy, adapt={"keep_head": True})
    with pytest.raises(UserError, match="have no names: give them, in their order, with bertlite convert from-hf"):
        take_over(config, Head(labels=("neutral", "contradiction", "entailment")), place)


@pytest.mark.thorough
def test_a_trained_model_goes_on_from_its_scores_with_its_head(trained: pathlib.Path, toy, tmp_path):
    """At a rate of nearly nothing it scores what it scored."""
    config = recipe(toy, rate=1e-12, adapt={"keep_head": True}, run={"steps": 1})
    assert finetune(config, str(tmp_path / "run"), str(trained))["accuracy"] == summary_of(trained)["accuracy"]


# --- Your own file ---------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_table_of_ones_own_is_learnt_from_and_partly_held_out(encoder, tmp_path):
    file = write_csv(tmp_path / "own.csv")
    config = recipe(file, task="", data={"validation_fraction": 0.3})
    summary = finetune(config, str(tmp_path / "run"), encoder)
    assert summary["train_examples"] + summary["validation_examples"] == 60
    assert 16 <= summary["validation_examples"] <= 20  # 18: of each label three tenths of its texts, rounded
    head = load_weights(tmp_path / "run/best").head
    assert head
    assert head.labels == ("queen", "rabbit")


@pytest.mark.thorough
def test_what_is_left_out_while_reading_is_said_and_counted(encoder, toy, tmp_path, capsys):
    place = tmp_path / "glue" / "SST-2"
    shutil.copytree(pathlib.Path(toy) / "SST-2", place)
    with open(place / "train.tsv", "a") as file:
        file.write("\n  \n")
    summary = finetune(recipe(str(tmp_path / "glue"), run={"steps": 1}), str(tmp_path / "run"), encoder)
    assert summary["train_blank_lines"] == 2
    assert "validation_blank_lines" not in summary
    assert "finetune: train: 2 blank lines (see docs/tasks.md)" in capsys.readouterr().out


def test_the_same_text_is_never_on_both_sides():
    twice = [Example(str(number), f"text {number % 50}", label=number % 2) for number in range(100)]
    held = [held_out.is_held_out(example, 0.5) for example in twice]
    assert held[:50] == held[50:]
    assert 10 < sum(held[:50]) < 40


# --- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "sst3"}, "--task sst3: no such task; did you mean sst2"),
        ({"folder": ""}, "--data is missing"),
        ({"task": ""}, "--task is missing; --data .* is a folder"),
        ({"task": "", "folder": "/nowhere.csv"}, "/nowhere.csv does not exist; name a folder"),
        ({"folder": "/nowhere"}, "/nowhere: no train file of sst2; train.tsv is expected"),
        ({"task": "ax"}, "ax has no training split"),
        ({"length": 128}, "data.length = 128 exceeds the 64 positions of .*; pass --data.length 64"),
        ({"length": 4}, "data.length = 4 is too short"),
        ({"row_length": 16}, "data.row_length = 16 is less than data.length = 32"),
    ],
)
def test_what_cannot_work_is_refused_in_a_line_before_anything_is_written(change, message, encoder, toy, tmp_path):
    config = recipe(toy)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **change))
    with pytest.raises(UserError, match=message) as refused:
        finetune(config, str(tmp_path / "run"), encoder)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
def test_a_run_does_not_go_on_with_other_examples(encoder, toy, tmp_path):
    place = tmp_path / "glue" / "SST-2"
    shutil.copytree(pathlib.Path(toy) / "SST-2", place)
    config, run = recipe(str(tmp_path / "glue"), run={"steps": 1}), tmp_path / "run"
    finetune(config, str(run), encoder)
    for name, split in (("train.tsv", "train"), ("dev.tsv", "validation")):
        before = (place / name).read_text()
        with open(place / name, "a") as file:
            file.write("the queen\t1\n")
        with pytest.raises(UserError, match=rf"started with other data than .*glue \({split}\) now holds"):
            finetune(config, str(run), encoder)
        (place / name).write_text(before)
    assert finetune(config, str(run), encoder)["steps"] == 1


def test_an_encoder_without_a_tokenizer_is_refused(tmp_path, toy):
    bare = write_encoder(tmp_path / "bare", None)
    with pytest.raises(UserError, match="comes without a tokenizer, and text cannot be read without one"):
        finetune(recipe(toy), str(tmp_path / "run"), bare)
    with pytest.raises(UserError, match="--init is missing"):
        finetune(recipe(toy), str(tmp_path / "run"), "")


def test_shared_layers_have_no_rates_of_their_own(prepared, tmp_path, toy):
    albert = write_encoder(tmp_path / "albert", prepared.tokenizer, dataclasses.replace(MODEL, share="all"))
    with pytest.raises(UserError, match="need layers that share no parameters"):
        finetune(recipe(toy, adapt={"layer_decay": 0.9}), str(tmp_path / "run"), albert)


def test_one_label_in_training_is_refused(encoder, toy, tmp_path):
    (tmp_path / "train.tsv").write_text("sentence\tlabel\nthe queen\t1\nthe door\t1\n")
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\nthe queen\t1\n")
    with pytest.raises(UserError, match="all training examples have the label"):
        finetune(recipe(str(tmp_path)), str(tmp_path / "run"), encoder)


def test_another_recipe_does_not_go_on_with_the_run(trained: pathlib.Path, encoder, toy):
    with pytest.raises(UserError, match=r"optim.learning_rate"):
        finetune(recipe(toy, rate=1.0, run={"steps": 0, "epochs": 12}), str(trained), encoder)
