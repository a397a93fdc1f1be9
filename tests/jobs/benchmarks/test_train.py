"""The benchmark of training, on a model that is small enough for a test."""

import dataclasses
import json
import os

import numpy as np
import pytest
from rich.console import Console

from bertlite_jax.config import presets
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu
from bertlite_jax.jobs.benchmarks import machine, train, train_peer
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.report.cost import breakdown


@pytest.fixture
def small(monkeypatch) -> None:
    """ALBERT-base is a model of 2 layers of 64."""
    model = dataclasses.replace(
        presets.ALBERT_BASE, hidden_size=64, num_layers=2, num_heads=2, ffn_size=128, vocab_size=300
    )
    monkeypatch.setattr(presets, "ALBERT_BASE", model)


@pytest.mark.thorough
@pytest.mark.parametrize("chosen", ["float32", "cpu_bfloat16"])
def test_it_times_both_sides_on_the_same_windows(chosen, prepared, small, tmp_path, monkeypatch, capsys):
    """Ours in float32 and what a machine chooses besides, the peer in two precisions; every loss is near log V."""
    pytest.importorskip("torch", reason="the peer needs torch and transformers")
    pytest.importorskip("transformers", reason="the peer needs torch and transformers")
    monkeypatch.setattr(choose_precision, "resolve", lambda setting, platform: chosen)
    out = tmp_path / "figures.json"
    figures = train.bench_train(
        peer=True,
        text=(prepared.text,),
        tokenizer=prepared.tokenizer,
        lengths=(64,),
        batch_tokens=512,
        rounds=1,
        steps=1,
        out=str(out),
    )
    ours = [f for f in figures if "PyTorch" not in f["name"]]
    theirs = [f for f in figures if "PyTorch" in f["name"]]
    assert [f["precision"] for f in ours] == list(dict.fromkeys((f"auto ({chosen})", "float32")))[: len(ours)]
    assert len(ours) == (1 if chosen == "float32" else 2)
    assert len(theirs) == 2
    assert {figure["length"] for figure in figures} == {64}
    assert min(f["fill"] for f in ours) > max(f["fill"] for f in theirs)
    for figure in figures:
        assert figure["real_tokens_per_second"] == pytest.approx(figure["fill"] * figure["slots_per_second"], rel=1e-3)
        assert 5 < figure["loss"] < 8  # log 300 + log 2 = 6.4 for weights that know nothing.
    assert json.loads(out.read_text())["figures"] == figures
    lines = capsys.readouterr().out.splitlines()
    started = lines.index("bench: first step of PyTorch, bfloat16 autocast, length 64")
    assert started < lines.index("bench: round 1 of 1"), "this step takes minutes on some CPUs, so it is announced"
    for figure in ours:
        check_parts({part["name"]: part for part in figure["parts"]})


def test_a_contender_without_a_first_step_in_time_is_left_out(capsys):
    """The others take their turns all the same."""

    def late(steps: int) -> tuple[float, float, float]:
        raise TimeoutError("no step in 120 seconds")

    shape: dict = {"length": 64, "fill": 1.0, "slots": 64}
    quick = train.Contender("ours", precision="float32", train=lambda steps: (0.1 * steps, 0.1, 6.0), **shape)
    slow = train.Contender("PyTorch", precision="bfloat16 autocast", train=late, **shape)
    train.run_race([quick, slow], 3, 2, Console())
    assert quick.seconds == pytest.approx([0.1] * 4)
    assert slow.seconds == []
    said = " ".join(capsys.readouterr().out.split())
    assert "bench: PyTorch, bfloat16 autocast: no step in 120 seconds; it is left out" in said


def test_a_contender_that_is_late_in_a_later_turn_keeps_its_times(capsys):
    """It gets no further turns, and the others take theirs."""
    asked = []

    def late_in_round_2(steps: int) -> tuple[float, float, float]:
        asked.append(steps)
        if len(asked) == 3:
            raise TimeoutError("no step in 120 seconds")
        return 0.2 * steps, 0.2, 6.0

    shape: dict = {"length": 64, "fill": 1.0, "slots": 64}
    quick = train.Contender("ours", precision="float32", train=lambda steps: (0.1 * steps, 0.1, 6.0), **shape)
    slow = train.Contender("PyTorch", precision="float32", train=late_in_round_2, **shape)
    train.run_race([slow, quick], 4, 2, Console())
    assert quick.seconds == pytest.approx([0.1] * 5)
    assert slow.seconds == pytest.approx([0.2] * 2)
    assert asked == [1, 2, 2]
    said = " ".join(capsys.readouterr().out.split())
    assert "bench: PyTorch, float32: no step in 120 seconds; its earlier times count" in said


@pytest.mark.thorough
def test_a_peer_that_takes_too_long_is_replaced_by_a_new_one(monkeypatch, small):
    """What it was asked last raises; the next request is answered by another process."""
    pytest.importorskip("torch", reason="the peer needs torch and transformers")
    pytest.importorskip("transformers", reason="the peer needs torch and transformers")
    model = presets.ALBERT_BASE
    batch = {name: np.ones((2, 8), np.int64) for name in ("input_ids", "attention_mask", "labels")}
    batch |= {"token_type_ids": np.zeros((2, 8), np.int64), train_peer.label_of_pairs(model): np.zeros(2, np.int64)}
    with train_peer.start(model, {8: [batch]}) as (run, _):
        monkeypatch.setattr(train_peer, "PATIENCE_SECONDS", 0)
        with pytest.raises(TimeoutError, match="no step in 0 seconds"):
            run(8, "float32", 1)
        monkeypatch.setattr(train_peer, "PATIENCE_SECONDS", 120)
        assert 5 < run(8, "float32", 1)[2] < 8  # log 300 + log 2 = 6.4 for weights that know nothing.


def test_both_sides_can_be_held_to_a_lesser_host(monkeypatch):
    """In the environment of the processes that compute; what this CPU lacks cannot be had."""
    own = "--xla_cpu_copy_insertion_use_region_analysis=true"
    monkeypatch.setenv("XLA_FLAGS", own)
    monkeypatch.setattr(cpu, "actual_flags", lambda: frozenset({"avx2", "avx512f"}))
    assert machine.lesser_environment("avx2") == {
        "BERTLITE_CPU_FLAGS": "avx2",
        "XLA_FLAGS": f"{own} --xla_cpu_max_isa=AVX2 --xla_cpu_experimental_ynn_fusion_type=",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    }
    monkeypatch.setattr(cpu, "actual_flags", lambda: frozenset({"avx2"}))
    with pytest.raises(UserError, match="--as avx512: this CPU has no avx512f"):
        train.bench_train(as_host="avx512")


@pytest.mark.thorough
@pytest.mark.skipif("avx2" not in cpu.actual_flags(), reason="this CPU has no AVX2")
def test_a_lesser_host_is_a_process_of_its_own():
    before = dict(os.environ)
    assert machine.run_as("avx2", cpu.fast_flags) == ["avx2"]
    assert machine.run_as("avx2", os.getenv, "ONEDNN_MAX_CPU_ISA") == "AVX2"
    with pytest.raises(UserError, match="--lengths needs at least one number"):
        machine.run_as("avx2", train.bench_train, lengths=())
    assert os.environ == before


def check_parts(parts: dict[str, dict]) -> None:
    """The model and the step name their parts, else all would be the rest: every FLOP is a product's or attention's."""
    assert list(parts) == list(breakdown.PARTS)
    assert all(part["seconds"] > 0 and part["bytes"] > 0 for name, part in parts.items() if name != breakdown.HOST)
    assert [name for name, part in parts.items() if part["flops"]] == [breakdown.PRODUCTS, "attention"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lengths": (100,)}, "length 100 must divide batch_tokens = 2048"),
        ({"lengths": (0,)}, "length 0 must divide batch_tokens = 2048"),
        ({"lengths": ()}, "--lengths needs at least one number"),
        ({"out": "nowhere/figures.json"}, "--out nowhere/figures.json: its folder does not exist"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(options, says):
    with pytest.raises(UserError, match=says):
        train.bench_train(**options)


def test_a_tokenizer_with_more_pieces_than_the_model_is_refused(prepared, tmp_path):
    model = dataclasses.replace(presets.ALBERT_BASE, vocab_size=200)
    with pytest.raises(UserError, match="has 300 pieces, more than the model's 200"):
        train.build_configs((prepared.text,), prepared.tokenizer, (64,), 128, model, tmp_path, Console(quiet=True))
