"""The main job as its user meets it: trains on any devices and disks, starts from weights, refuses early."""

import contextlib
import dataclasses
import itertools
import json
import math
import pathlib
import shutil

import jax
import numpy as np
import pytest
import tiny
from run_files import lines_of, losses_of

from bertlite_jax.config import files
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Mask, Optim, Pretrain
from bertlite_jax.data.corpus import records
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.host import retry
from bertlite_jax.jobs.pretraining import pretrain
from bertlite_jax.jobs.runs import signals
from bertlite_jax.report.cost import flops
from bertlite_jax.train import checkpoint

pytestmark = pytest.mark.usefixtures("compiled_once")


def test_a_run_leaves_what_the_readme_says(trained: pathlib.Path):
    names = {path.name for path in trained.iterdir()}
    assert names >= {"config.json", "environment.json", "metrics.jsonl", "checkpoints", "summary.json", "tokenizer"}
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["steps"] == 12
    assert summary["real_tokens"] > 12 * 8 * 64 * 0.9
    assert summary["unigram_entropy"] < math.log(tiny.VOCAB_SIZE)
    assert summary["valid_mlm_loss"] < math.log(tiny.VOCAB_SIZE), "twelve steps teach less than nothing"
    assert {"majority_accuracy", "valid_pair_accuracy", "pair_label_prior"} <= summary.keys()
    logged = [line["step"] for line in lines_of(trained) if "loss" in line]
    assert logged == [2, 4, 6, 8, 10, 12]
    assert [line["step"] for line in lines_of(trained) if "valid_mlm_loss" in line] == [6, 12]
    assert checkpoint.verified_steps(trained / "checkpoints") == [4, 8, 12]


def test_a_finished_run_started_again_changes_nothing(trained: pathlib.Path, prepared, capsys):
    before = (trained / "metrics.jsonl").read_text()
    summary = pretrain.pretrain(tiny.pretrain(prepared), str(trained))
    assert summary["steps"] == 12
    assert (trained / "metrics.jsonl").read_text() == before
    said = capsys.readouterr().out
    assert f"pretrain: {trained} is finished already, at step 12; --overwrite trains it again" in said
    assert "resuming" not in said


def test_config_of_a_run_can_be_read_back(trained: pathlib.Path, prepared):
    assert files.read_json(trained / "config.json") == tiny.pretrain(prepared)


@pytest.mark.thorough
def test_micro_batches_and_devices_give_the_same_losses(prepared, tmp_path, trained: pathlib.Path):
    config = dataclasses.replace(
        tiny.pretrain(prepared, devices=4, checkpoint_every=100, eval_every=0),
        optim=dataclasses.replace(tiny.pretrain(prepared).optim, micro_batches=2),
    )
    pretrain.pretrain(config, str(tmp_path / "run"))
    wanted = losses_of(trained)
    np.testing.assert_allclose([losses_of(tmp_path / "run")[s] for s in wanted], list(wanted.values()), atol=1e-5)


@pytest.mark.thorough
def test_a_run_goes_on_with_its_state_split_over_other_devices(prepared, tmp_path, capsys, monkeypatch, trained):
    """Four steps on one device, four with everything split over eight, four on two: the losses of one device."""
    parts: list[dict] = [{"steps": 12}, {"devices": 8, "fsdp": 4, "tensor": 2, "zero1": True}, {"devices": 2}]
    folder = tmp_path / "run"
    for stop, run in zip((4, 8, 12), parts, strict=True):
        wanted_at = contextlib.nullcontext(lambda step, stop=stop: step == stop)
        monkeypatch.setattr(signals, "stop_signals", lambda wanted_at=wanted_at: wanted_at)
        pretrain.pretrain(tiny.pretrain(prepared, **run), str(folder))
    wanted = losses_of(trained)
    np.testing.assert_allclose([losses_of(folder)[s] for s in wanted], list(wanted.values()), atol=1e-5)
    assert "mesh fsdp 4, model 2; a device holds" in capsys.readouterr().out


@pytest.mark.thorough
def test_a_second_start_does_not_trace_its_step(prepared, tmp_path, capsys, monkeypatch):
    config = tiny.pretrain(prepared, devices=2, steps=4, eval_every=0)
    pretrain.pretrain(config, str(tmp_path / "first"))
    before = capsys.readouterr().out
    monkeypatch.setattr("bertlite_jax.jobs.pretraining.step.lower", None)
    pretrain.pretrain(config, str(tmp_path / "second"))
    assert losses_of(tmp_path / "second") == losses_of(tmp_path / "first")
    [sent] = [line for line in before.splitlines() if "MB from each device" in line]
    assert sent in capsys.readouterr().out


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


@pytest.mark.thorough
def test_neither_a_bucket_nor_a_shaky_disk_changes_a_loss(shaky_disk, bucket, prepared, tmp_path, trained):
    """Corpus and tokenizer come from a bucket, and every third read of the copy fails at first."""
    data = dataclasses.replace(
        tiny.pretrain(prepared).data,
        corpus=(bucket.upload(prepared.corpus, "mine/corpus"),),
        tokenizer=bucket.upload(prepared.tokenizer, "mine/tokenizer"),
    )
    pretrain.pretrain(dataclasses.replace(tiny.pretrain(prepared), data=data), str(tmp_path / "run"))
    assert len(shaky_disk) > 5
    assert losses_of(tmp_path / "run") == losses_of(trained)
    assert files.read_json(tmp_path / "run/config.json").data.corpus == ("gs://mine/corpus",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "run"]


@pytest.mark.thorough
def test_padded_vocabulary_trains_to_the_same_loss(prepared, tmp_path, trained):
    """The padding changes shapes, and neither which pieces are random nor what is predicted."""
    model = tiny.trained_model(vocab_multiple=64)
    pretrain.pretrain(dataclasses.replace(tiny.pretrain(prepared), model=model), str(tmp_path / "run"))
    wanted = losses_of(trained)
    np.testing.assert_allclose([losses_of(tmp_path / "run")[s] for s in wanted], list(wanted.values()), atol=1e-5)


@pytest.mark.thorough
def test_a_shared_layer_is_applied_once_and_then_twice(prepared, tmp_path, trained):
    """Up to step 4 the losses are those of a model of one layer, whose factor is 1 and not 1/2; FLOPs are as made."""
    once, twice = (tiny.trained_model(num_layers=layers, residual_scale="depth") for layers in (1, 2))
    pretrain.pretrain(dataclasses.replace(tiny.pretrain(prepared, steps=5), model=once), str(tmp_path / "once"))
    config = dataclasses.replace(tiny.pretrain(prepared, depths=((1, 4),), log_every=1), model=twice)
    pretrain.pretrain(config, str(tmp_path / "run"))
    found = losses_of(tmp_path / "run")
    for step, loss in losses_of(tmp_path / "once").items():
        assert (loss == found[step]) == (step <= 4), step
    made = {line["step"]: line["total_flops"] for line in lines_of(tmp_path / "run") if "total_flops" in line}
    a_step = {model.num_layers: made_a_step(tiny.pretrain(prepared), model) for model in (once, twice)}
    assert made[4] == 4 * a_step[1]
    assert made[12] == 4 * a_step[1] + 8 * a_step[2]


@pytest.mark.thorough
def test_rows_of_two_lengths_train_and_go_on_as_if_nothing_had_happened(prepared, tmp_path, capsys):
    """Which length a step has follows from its number, so a run that lost eight steps makes them again.

    Most windows are full, so with this seed only steps 3 and 12 have the shorter rows.
    """
    config = tiny.pretrain(prepared, log_every=1, eval_every=0, seed=9)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, pack=False, buckets=(32,)))
    run = tmp_path / "run"
    pretrain.pretrain(config, str(run))
    assert "12 steps of 16 rows of 32 or 8 rows of 64 tokens" in capsys.readouterr().out
    wanted = losses_of(run)
    made = np.diff([line["total_flops"] for line in lines_of(run) if "total_flops" in line], prepend=0)
    assert [step for step in range(1, 13) if made[step - 1] != made[0]] == [3, 12], "shorter rows, fewer FLOPs"
    for step in (8, 12):
        shutil.rmtree(run / "checkpoints" / str(step))
    pretrain.pretrain(config, str(run))
    assert losses_of(run) == wanted
    assert len(wanted) == 12


@pytest.mark.slow
def test_a_run_of_normuon_goes_on_with_its_bits_and_on_other_devices(prepared, tmp_path):
    """Eight of twelve steps are lost twice: once the same device makes them again, once eight that split everything."""
    optim = Optim(name="normuon", learning_rate=5e-3, warmup_steps=3, bias_correction=True, update_clip=1.0)
    config = dataclasses.replace(tiny.pretrain(prepared, log_every=1, eval_every=0), optim=optim)
    run = tmp_path / "run"
    pretrain.pretrain(config, str(run))
    wanted, bits = losses_of(run), params_of(run)
    assert np.mean([wanted[step] for step in (10, 11, 12)]) < wanted[1] - 0.15
    for more in ({}, {"devices": 8, "fsdp": 4, "tensor": 2, "zero1": True}):
        for step in (8, 12):
            shutil.rmtree(run / "checkpoints" / str(step))
        pretrain.pretrain(dataclasses.replace(config, run=dataclasses.replace(config.run, **more)), str(run))
        assert len(losses_of(run)) == 12
        if not more:
            assert losses_of(run) == wanted
            jax.tree.map(np.testing.assert_array_equal, params_of(run), bits)
    np.testing.assert_allclose([losses_of(run)[step] for step in wanted], list(wanted.values()), atol=1e-5)


def params_of(run: pathlib.Path) -> dict:
    """Of the newest checkpoint."""
    return checkpoint.restore_params(run / "checkpoints")[0]


def made_a_step(config: Pretrain, model: Model) -> float:
    """By formula, which has tests of its own."""
    return flops.train_flops_per_step(dataclasses.replace(config, model=model))


@pytest.mark.thorough
def test_a_model_without_pairs_trains_on_packed_windows(prepared, tmp_path):
    """DistilBERT's kind: no token types, no pooler, no pair head."""
    config = tiny.pretrain(prepared, steps=2, eval_every=0)
    config = dataclasses.replace(
        config,
        model=tiny.trained_model(token_types=0, pooler=False, pair_classes=0, share="none"),
        data=dataclasses.replace(config.data, pair_task="none"),
        mask=Mask(scheme="word"),
        optim=dataclasses.replace(config.optim, warmup_steps=1),
    )
    summary = pretrain.pretrain(config, str(tmp_path / "run"))
    assert "valid_pair_accuracy" not in summary
    assert 0 < summary["valid_mlm_loss"] < 1.05 * math.log(tiny.VOCAB_SIZE)  # Guessing alike for all pieces: log V.


def test_a_schedule_in_a_string_is_refused_before_anything_starts(prepared, tmp_path):
    config = tiny.pretrain(prepared, depths="1:4")
    with pytest.raises(
        UserError, match=r"^config: run.depths = '1:4' should be numbers: depths=\(\(1, 4\),\) in a recipe"
    ):
        pretrain.pretrain(config, str(tmp_path / "run"))


@pytest.mark.thorough
def test_profile_steps_writes_a_trace(prepared, tmp_path):
    pretrain.pretrain(tiny.pretrain(prepared, steps=4, eval_every=0, profile_steps=(2, 4)), str(tmp_path / "run"))
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


# --- Starting from weights -------------------------------------------------------------------------------------------


def positions_of(run: pathlib.Path) -> np.ndarray:
    """The table of positions [P, E] of the newest checkpoint."""
    return params_of(run)["embeddings"]["position"]["embedding"]


@pytest.mark.thorough
def test_init_takes_the_weights_and_names_what_is_new(prepared, tmp_path, trained, capsys):
    """From length 64 to 96 positions: old rows kept, new ones named."""
    longer = dataclasses.replace(
        tiny.pretrain(prepared, steps=1, eval_every=0), model=tiny.trained_model(max_positions=96)
    )
    longer = dataclasses.replace(longer, optim=dataclasses.replace(longer.optim, warmup_steps=0, learning_rate=1e-12))
    pretrain.pretrain(longer, str(tmp_path / "run"), init=str(trained))
    assert "rows 0 to 63 from" in capsys.readouterr().out
    np.testing.assert_allclose(positions_of(tmp_path / "run")[:64], positions_of(trained), atol=1e-6)


@pytest.mark.thorough
def test_init_of_another_residual_scale_is_the_same_function(prepared, tmp_path, trained):
    """Its figures before any learning are those of the run that it starts from, and its kernels twice as large."""
    config = tiny.pretrain(prepared, steps=1, eval_every=1)
    config = dataclasses.replace(
        config,
        model=tiny.trained_model(residual_scale="depth"),
        optim=dataclasses.replace(config.optim, warmup_steps=0, learning_rate=1e-12),
    )
    summary = pretrain.pretrain(config, str(tmp_path / "run"), init=str(trained))
    wanted = json.loads((trained / "summary.json").read_text())
    assert summary["valid_mlm_loss"] == pytest.approx(wanted["valid_mlm_loss"], abs=1e-5)
    ours, theirs = (checkpoint.restore_params(run / "checkpoints")[0] for run in (tmp_path / "run", trained))
    for part, last in (("attention", "output"), ("ffn", "down")):
        kernels = [params["layers"][part][last]["kernel"] for params in (ours, theirs)]
        np.testing.assert_allclose(kernels[0], 2 * kernels[1], atol=1e-6)


def test_init_of_another_shape_is_refused(prepared, tmp_path, trained):
    wider = dataclasses.replace(tiny.pretrain(prepared), model=tiny.trained_model(ffn_size=128))
    with pytest.raises(UserError, match="does not fit the config: layers/ffn"):
        pretrain.pretrain(wider, str(tmp_path / "run"), init=str(trained))
    assert not (tmp_path / "run").exists()


# --- Guards ----------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_divergence_stops_with_step_rows_and_last_good_checkpoint(prepared, tmp_path):
    config = tiny.pretrain(prepared, steps=200, checkpoint_every=2, spike_factor=1.3)
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
    config = tiny.pretrain(prepared)
    for group, fields in change.items():
        config = dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **fields)})
    with pytest.raises(UserError) as refused:
        pretrain.pretrain(config, str(tmp_path / "run"))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()
