"""The main job as its user meets it: trains, goes on after any death, stops where it should, refuses early."""

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from bertlite_jax.config import files
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Mask, Optim, Pretrain, Run
from bertlite_jax.data.corpus import records
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.host import retry
from bertlite_jax.jobs.pretraining import pretrain
from bertlite_jax.jobs.pretraining.evaluate import evaluate, open_run
from bertlite_jax.jobs.pretraining.fill_mask import fill_mask, guess
from bertlite_jax.jobs.runs import signals
from bertlite_jax.jobs.text.corpus import build_corpus
from bertlite_jax.report.cost import flops
from bertlite_jax.train import checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[3]
MODEL = Model(
    vocab_size=300,
    embed_size=16,
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    ffn_size=64,
    max_positions=64,
    hidden_dropout=0.1,
    attention_dropout=0.1,
    compute="float32",
)


def small(prepared, **run) -> Pretrain:
    return Pretrain(
        model=MODEL,
        data=Data(corpus=(prepared.corpus,), tokenizer=prepared.tokenizer, length=64, batch_rows=8),
        optim=Optim(name="adamw", learning_rate=2e-3, warmup_steps=3),
        run=Run(
            **{
                "steps": 12,
                "devices": 1,
                "log_every": 2,
                "eval_every": 6,
                "eval_rows": 8,
                "checkpoint_every": 4,
                "tensorboard": False,
            }
            | run
        ),
    )


def metrics_of(run: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses_of(run: pathlib.Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in metrics_of(run) if "loss" in line}


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory) -> pathlib.Path:
    run = tmp_path_factory.mktemp("run") / "run"
    pretrain.pretrain(small(prepared), str(run))
    return run


def test_a_run_leaves_what_the_readme_says(trained: pathlib.Path):
    names = {path.name for path in trained.iterdir()}
    assert names >= {"config.json", "environment.json", "metrics.jsonl", "checkpoints", "summary.json", "tokenizer"}
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["steps"] == 12
    assert summary["real_tokens"] > 12 * 8 * 64 * 0.9
    for name in ("valid_mlm_loss", "unigram_entropy", "majority_accuracy", "valid_pair_accuracy", "pair_label_prior"):
        assert np.isfinite(summary[name])
    logged = [line["step"] for line in metrics_of(trained) if "loss" in line]
    assert logged == [2, 4, 6, 8, 10, 12]
    assert [line["step"] for line in metrics_of(trained) if "valid_mlm_loss" in line] == [6, 12]
    assert checkpoint.verified_steps(trained / "checkpoints") == [4, 8, 12]


def test_a_finished_run_started_again_changes_nothing(trained: pathlib.Path, prepared):
    before = (trained / "metrics.jsonl").read_text()
    summary = pretrain.pretrain(small(prepared), str(trained))
    assert summary["steps"] == 12
    assert (trained / "metrics.jsonl").read_text() == before


def test_evaluation_repeats_the_runs_own_figures(trained: pathlib.Path):
    """`evaluate` on the same rows gives what training reported last."""
    summary = json.loads((trained / "summary.json").read_text())
    again = evaluate(str(trained), rows=8)
    for name in ("valid_mlm_loss", "unigram_entropy", "valid_pair_accuracy"):
        assert again[name] == pytest.approx(summary[name], rel=1e-5)


def test_a_pair_head_can_be_scored_on_another_task(trained: pathlib.Path):
    nsp = evaluate(str(trained), pair_task="nsp", rows=8)
    assert 0 <= nsp["valid_pair_accuracy"] <= 1
    with pytest.raises(UserError, match="2 classes; three_way cannot"):
        evaluate(str(trained), pair_task="three_way")


def test_fill_mask_guesses_pieces_with_probabilities(trained: pathlib.Path):
    (first, second) = fill_mask(str(trained), "the [MASK] said alice [MASK]", top=3)
    assert len(first) == len(second) == 3
    assert all(0 < share <= 1 for _, share in first)
    assert first[0][1] >= first[1][1]
    with pytest.raises(UserError, match=r"no \[MASK\]"):
        fill_mask(str(trained), "nothing is missing")


def test_texts_of_different_lengths_are_guessed_together_as_alone(trained: pathlib.Path):
    model = open_run(str(trained))
    texts = [model.tokenizer.encode(text, allow_special=True) for text in ("a [MASK] [MASK] of tea", "she [MASK] .")]
    alone = [found for text in texts for found in guess(model, [text], 300)]
    together = guess(model, texts, 300)
    assert [len(found) for found in together] == [2, 1]
    for ours, wanted in zip(together, alone, strict=True):
        for guesses, right in zip(ours, wanted, strict=True):
            assert dict(guesses) == pytest.approx(dict(right), rel=1e-4)


def test_micro_batches_and_devices_give_the_same_losses(prepared, tmp_path, trained: pathlib.Path):
    config = dataclasses.replace(
        small(prepared, devices=4, checkpoint_every=100, eval_every=0),
        optim=dataclasses.replace(small(prepared).optim, micro_batches=2),
    )
    pretrain.pretrain(config, str(tmp_path / "run"))
    wanted = losses_of(trained)
    np.testing.assert_allclose([losses_of(tmp_path / "run")[s] for s in wanted], list(wanted.values()), atol=1e-5)


def test_a_run_goes_on_with_its_state_split_over_other_devices(prepared, tmp_path, capsys, monkeypatch, trained):
    """Four steps on one device, four with everything split over eight, four on two: the losses of one device."""
    parts: list[dict] = [{"steps": 12}, {"devices": 8, "fsdp": 4, "tensor": 2, "zero1": True}, {"devices": 2}]
    folder = tmp_path / "run"
    for stop, run in zip((4, 8, 12), parts, strict=True):
        wanted_at = contextlib.nullcontext(lambda step, stop=stop: step == stop)
        monkeypatch.setattr(signals, "stop_signals", lambda wanted_at=wanted_at: wanted_at)
        pretrain.pretrain(small(prepared, **run), str(folder))
    wanted = losses_of(trained)
    np.testing.assert_allclose([losses_of(folder)[s] for s in wanted], list(wanted.values()), atol=1e-5)
    assert "mesh fsdp 4, model 2; a device holds" in capsys.readouterr().out


@pytest.fixture
def shaky_disk(monkeypatch) -> list[str]:
    """Every third read of records fails, as a network disk does; the list has the files of the failures."""
    real, failed, calls = records.ArrayRecordReader, [], itertools.count(1)

    class Shaky:
        def __init__(self, file: str, options: str):
            self._file, self._reader = file, real(file, options)
            self.ok, self.num_records = self._reader.ok, self._reader.num_records

        def read(self, places: list[int]) -> list[bytes]:
            if next(calls) % 3 == 0:
                failed.append(self._file)
                raise RuntimeError(f"read() failed: Input/output error; reading {self._file}")
            return self._reader.read(places)

    monkeypatch.setattr(records, "ArrayRecordReader", Shaky)
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.0)
    return failed


def test_neither_a_bucket_nor_a_shaky_disk_changes_a_loss(shaky_disk, bucket, prepared, tmp_path, trained):
    """Corpus and tokenizer come from a bucket, and every third read of the copy fails at first."""
    data = dataclasses.replace(
        small(prepared).data,
        corpus=(bucket.upload(prepared.corpus, "mine/corpus"),),
        tokenizer=bucket.upload(prepared.tokenizer, "mine/tokenizer"),
    )
    pretrain.pretrain(dataclasses.replace(small(prepared), data=data), str(tmp_path / "run"))
    assert len(shaky_disk) > 5
    assert losses_of(tmp_path / "run") == losses_of(trained)
    assert files.read_json(tmp_path / "run/config.json").data.corpus == ("gs://mine/corpus",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "run"]


# --- Death and resurrection ------------------------------------------------------------------------------------------


def start(prepared, run: pathlib.Path, *extra: str) -> subprocess.Popen:
    """The command, in a process of its own, on one device and with a compilation cache that the starts share."""
    config = run.parent / "config.py"
    values = dataclasses.replace(small(prepared, steps=60, checkpoint_every=3, eval_every=0, log_every=1))
    config.write_text(f"from bertlite_jax.config import *\nconfig = {values!r}\n")
    env = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "JAX_COMPILATION_CACHE_DIR": str(run.parent / "cache")}
    env["JAX_ENABLE_COMPILATION_CACHE"] = "true"
    env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = [sys.executable, "-m", "bertlite_jax", "pretrain", str(config), "--workdir", str(run), *extra]
    return subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            output = process.communicate(timeout=5)[0] if process.poll() is not None else "(still running)"
            raise AssertionError(f"the run ended or hung before the moment to kill it: {output}")
        time.sleep(0.002)


def params_of(run: pathlib.Path) -> tuple[dict, dict]:
    return checkpoint.restore_params(run / "checkpoints")


@pytest.fixture(scope="module")
def uninterrupted(prepared, tmp_path_factory) -> pathlib.Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    process = start(prepared, run)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return run


def same_run(run: pathlib.Path, whole: pathlib.Path) -> None:
    assert losses_of(run) == losses_of(whole)
    steps = [line["step"] for line in metrics_of(run) if "loss" in line]
    assert steps == sorted(set(steps))
    (ours, meta), (wanted, _) = params_of(run), params_of(whole)
    assert meta["step"] == 60
    jax.tree.map(np.testing.assert_array_equal, ours, wanted)


def test_killed_three_times_it_ends_with_the_same_bits(prepared, tmp_path, uninterrupted):
    """Kill -9 while a checkpoint is being written, and at two random steps: losses and weights are the same."""
    run, rng = tmp_path / "run", random.Random(1)

    def writing() -> bool:
        return any((run / "checkpoints").glob("*.orbax-checkpoint-tmp"))

    def reached(step: int):
        return lambda: (run / "metrics.jsonl").is_file() and max(losses_of_whole_lines(run), default=0) >= step

    for moment in (writing, reached(rng.randint(10, 20)), reached(rng.randint(25, 50))):
        process = start(prepared, run)
        wait_for(moment, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(prepared, run)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "going on from step" in output, output
    same_run(run, uninterrupted)


def losses_of_whole_lines(run: pathlib.Path) -> list[int]:
    text = (run / "metrics.jsonl").read_text()
    return [json.loads(line)["step"] for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_sigterm_saves_and_ends_cleanly(prepared, tmp_path, uninterrupted):
    """Exit code 0, a line that says so, a checkpoint of that very step, and the same bits in the end."""
    run = tmp_path / "run"
    process = start(prepared, run)
    wait_for(lambda: (run / "metrics.jsonl").is_file() and len(losses_of_whole_lines(run)) > 4, process)
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "stopped by a signal after step" in output, output
    step = int(output.split("after step ")[1].split(",")[0])
    assert checkpoint.verified_steps(run / "checkpoints")[-1] == step < 60
    output, _ = start(prepared, run).communicate(timeout=300)
    assert f"going on from step {step}" in output
    same_run(run, uninterrupted)


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(prepared, tmp_path, uninterrupted):
    """One flipped bit; the other kinds of damage are in test_checkpoint.py."""
    run = tmp_path / "run"
    process = start(prepared, run)
    wait_for(lambda: checkpoint_is_sealed(run, 9), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    newest = checkpoint.verified_steps(run / "checkpoints")[-1]
    victim = max(
        (run / "checkpoints" / str(newest) / "params").rglob("*"), key=lambda p: p.stat().st_size * p.is_file()
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    output, _ = start(prepared, run).communicate(timeout=300)
    assert f"{newest} is damaged" in output
    assert "going on from step" in output
    same_run(run, uninterrupted)


def checkpoint_is_sealed(run: pathlib.Path, at_least: int) -> bool:
    sums = (run / "checkpoints").glob("*/SHA256SUMS")
    return any(path.parent.name.isdigit() and int(path.parent.name) >= at_least for path in sums)


def test_another_corpus_is_scored_as_far_as_the_model_has_positions(prepared, tmp_path, trained):
    for length, name in ((48, "shorter"), (96, "longer")):
        build_corpus([prepared.text], prepared.tokenizer, str(tmp_path / name), length=length, workers=1)
    assert evaluate(str(trained), corpus=(str(tmp_path / "shorter"),), rows=2)["valid_predictions"] > 0
    with pytest.raises(UserError, match="rows of 96 tokens and the model 64 positions; build it with --length 64"):
        evaluate(str(trained), corpus=(str(tmp_path / "longer"),), rows=2)


# --- Starting from weights -------------------------------------------------------------------------------------------


def test_init_takes_the_weights_and_names_what_is_new(prepared, tmp_path, trained, capsys):
    """From length 64 to 96 positions: old rows kept, new ones named."""
    longer = dataclasses.replace(
        small(prepared, steps=1, eval_every=0), model=dataclasses.replace(MODEL, max_positions=96)
    )
    longer = dataclasses.replace(longer, optim=dataclasses.replace(longer.optim, warmup_steps=0, learning_rate=1e-12))
    pretrain.pretrain(longer, str(tmp_path / "run"), init=str(trained))
    assert "rows 0 to 63 from" in capsys.readouterr().out
    (ours, _), (given, _) = params_of(tmp_path / "run"), params_of(trained)
    table = "embeddings", "position", "embedding"
    for name in table:
        ours, given = ours[name], given[name]
    np.testing.assert_allclose(ours[:64], given, atol=1e-6)


def test_init_of_another_shape_is_refused(prepared, tmp_path, trained):
    wider = dataclasses.replace(small(prepared), model=dataclasses.replace(MODEL, ffn_size=128))
    with pytest.raises(UserError, match="does not fit the config: layers/ffn"):
        pretrain.pretrain(wider, str(tmp_path / "run"), init=str(trained))
    assert not (tmp_path / "run").exists()


# --- Guards ----------------------------------------------------------------------------------------------------------


def test_divergence_stops_with_step_rows_and_last_good_checkpoint(prepared, tmp_path):
    config = small(prepared, steps=200, checkpoint_every=2, spike_factor=1.3)
    config = dataclasses.replace(
        config, optim=Optim(name="adamw", learning_rate=3.0, warmup_steps=10, clip_norm=0.0, bias_correction=True)
    )
    with pytest.raises(Diverged, match=r"step \d+: loss .*rows \d+ to \d+ .*windows .*checkpoint"):
        pretrain.pretrain(config, str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"num_heads": 5}}, "model.num_heads = 5 does not divide model.hidden_size = 32"),
        ({"model": {"token_types": 0}}, "needs model.token_types = 2"),
        ({"model": {"max_positions": 32}}, "data.length = 64 exceeds model.max_positions = 32"),
        ({"model": {"vocab_size": 301}}, "pass --model.vocab-size 300"),
        ({"mask": {"rate": 0.9}, "data": {"windows_per_row": 8}}, "predictions a row (K) exceed"),
        ({"data": {"batch_rows": 9}, "run": {"devices": 2}}, "data.batch_rows = 9 is not divisible by 2 devices"),
        ({"data": {"pair_task": "three_way"}}, "needs model.pair_classes = 3"),
        ({"data": {"corpus": ("nowhere",)}}, "nowhere is not a finished corpus"),
        ({"data": {"tokenizer": "nowhere"}}, "nowhere"),
        ({"data": {"tokenizer": ""}}, "data.tokenizer is empty; pass --data.tokenizer DIR"),
        ({"model": {"attention": "cudnn"}}, "model.attention = cudnn needs a GPU"),
        ({"run": {"devices": 99}}, "run.devices = 99: a process has 8; on a CPU set JAX_NUM_CPU_DEVICES"),
        ({"run": {"devices": -1}}, "run.devices = -1"),
        ({"run": {"fsdp": 0}}, "run.fsdp = 0"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_and_nothing_is_written(prepared, tmp_path, change, message):
    config = small(prepared)
    for group, fields in change.items():
        config = dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **fields)})
    with pytest.raises(UserError) as refused:
        pretrain.pretrain(config, str(tmp_path / "run"))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_padded_vocabulary_trains_to_the_same_loss(prepared, tmp_path, trained):
    """The padding changes shapes, and neither which pieces are random nor what is predicted."""
    model = dataclasses.replace(MODEL, vocab_multiple=64)
    pretrain.pretrain(dataclasses.replace(small(prepared), model=model), str(tmp_path / "run"))
    wanted = losses_of(trained)
    np.testing.assert_allclose([losses_of(tmp_path / "run")[s] for s in wanted], list(wanted.values()), atol=1e-5)


def test_a_shared_layer_is_applied_once_and_then_twice(prepared, tmp_path, trained):
    """Up to step 4 the losses are those of a model of one layer; FLOPs count what was applied."""
    once = dataclasses.replace(MODEL, num_layers=1)
    pretrain.pretrain(dataclasses.replace(small(prepared, steps=5), model=once), str(tmp_path / "once"))
    pretrain.pretrain(small(prepared, depths=((1, 4),), log_every=1), str(tmp_path / "run"))
    found = losses_of(tmp_path / "run")
    for step, loss in losses_of(tmp_path / "once").items():
        assert (loss == found[step]) == (step <= 4), step
    made = {line["step"]: line["total_flops"] for line in metrics_of(tmp_path / "run") if "total_flops" in line}
    a_step = {model.num_layers: made_a_step(small(prepared), model) for model in (once, MODEL)}
    assert made[4] == 4 * a_step[1]
    assert made[12] == 4 * a_step[1] + 8 * a_step[2]


def test_rows_of_two_lengths_train_and_go_on_as_if_nothing_had_happened(prepared, tmp_path, capsys):
    """Which length a step has follows from its number, so a run that lost eight steps makes them again.

    Most windows are full, so with this seed only steps 3 and 12 have the shorter rows.
    """
    config = small(prepared, log_every=1, eval_every=0, seed=9)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, pack=False, buckets=(32,)))
    run = tmp_path / "run"
    pretrain.pretrain(config, str(run))
    assert "12 steps of 16 rows of 32 or 8 rows of 64 tokens" in capsys.readouterr().out
    wanted = losses_of(run)
    made = np.diff([line["total_flops"] for line in metrics_of(run) if "total_flops" in line], prepend=0)
    assert [step for step in range(1, 13) if made[step - 1] != made[0]] == [3, 12], "shorter rows, fewer FLOPs"
    for step in (8, 12):
        shutil.rmtree(run / "checkpoints" / str(step))
    pretrain.pretrain(config, str(run))
    assert losses_of(run) == wanted
    assert len(wanted) == 12


def made_a_step(config: Pretrain, model: Model) -> float:
    """By formula, which has tests of its own."""
    return flops.train_flops_per_step(dataclasses.replace(config, model=model))


def test_a_model_without_pairs_trains_on_packed_windows(prepared, tmp_path):
    """DistilBERT's kind: no token types, no pooler, no pair head."""
    config = small(prepared, steps=2, eval_every=0)
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(MODEL, token_types=0, pooler=False, pair_classes=0, share="none"),
        data=dataclasses.replace(config.data, pair_task="none"),
        mask=Mask(scheme="word"),
        optim=dataclasses.replace(config.optim, warmup_steps=1),
    )
    summary = pretrain.pretrain(config, str(tmp_path / "run"))
    assert "valid_pair_accuracy" not in summary
    assert np.isfinite(summary["valid_mlm_loss"])


def test_profile_steps_writes_a_trace(prepared, tmp_path):
    pretrain.pretrain(small(prepared, steps=4, eval_every=0, profile_steps=(2, 4)), str(tmp_path / "run"))
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


def test_config_of_a_run_can_be_read_back(trained: pathlib.Path, prepared):
    assert files.read_json(trained / "config.json") == small(prepared)
