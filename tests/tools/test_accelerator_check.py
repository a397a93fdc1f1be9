"""tools/accelerator_check.py with tiny shapes on the CPU, and its plan for pretended devices."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from bertlite_jax.config import presets
from bertlite_jax.config.pretrain import Data, Optim, Pretrain, Run
from bertlite_jax.jobs.benchmarks import train_peer
from bertlite_jax.report.cost import flops

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
H200 = {
    "status": "measured",
    "platform": "gpu",
    "device_kind": "NVIDIA H200",
    "devices": 1,
    "bytes_limit": 126 * 2**30,
    "compute": "bfloat16",
    "versions": {"jax": "0.0"},
}
TORCH = {"status": "measured", "cuda": True, "versions": {"torch": "0.1", "transformers": "0.2"}}
FIGURES = {
    "status": "measured",
    "precision": "bfloat16",
    "seconds_per_step": 0.5,
    "rows_per_second": 1234.5,
    "real_tokens_per_second": 600_000.0,
    "mfu": 0.512,
    "peak_bytes": 64 * 2**30,
    "steps": 9,
    "loss": 10.5,
}
OUT_OF_MEMORY = {"status": "out of memory", "reason": "RESOURCE_EXHAUSTED"}


@pytest.fixture
def tool(monkeypatch):
    """accelerator_check as a module; it imports files beside it."""
    monkeypatch.syspath_prepend(TOOLS)
    import accelerator_check

    return accelerator_check


@pytest.fixture
def turns(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    import accelerator_turns

    return accelerator_turns


class Device:
    """A pretended device: `train(request)` gives a contender's result, and every run takes `takes` seconds."""

    def __init__(self, train=lambda request: FIGURES, takes=1.0, torch=TORCH, device=H200):
        self.train, self.takes, self.torch, self.device = train, takes, torch, device
        self.seconds = 0.0
        self.requests: list[dict] = []

    def ask(self, request: dict, seconds: float) -> dict:
        self.requests.append(request)
        if request["kind"] == "device":
            return self.device
        if request["kind"] == "torch":
            return self.torch
        self.seconds += min(self.takes, seconds)
        if self.takes > seconds:
            return {"status": "out of time", "reason": f"not done after {seconds:.0f} s"}
        if request["kind"] == "losses":
            steps = range(request["steps"])
            lower = {"float32, exact products": 0.0, "float32": 0.0, "bfloat16": 0.03}
            return {
                "status": "measured",
                "losses": {m[0]: [10 - s / 10 - lower[m[0]] for s in steps] for m in request["modes"]},
            }
        return self.train(request)


@pytest.fixture
def run(tool, tmp_path, monkeypatch):
    """`run(device, *options)` gives the exit code, the JSON and the lines of the table; no corpus is built."""

    def make_configs(settings, *_):
        return {
            (name, length): Pretrain(
                model=tool.contenders.without_dropout(getattr(presets, name.upper()), settings["unroll"]),
                data=Data(length=length),
                optim=Optim(name="adamw"),
                run=Run(),
            )
            for name in settings["presets"]
            for length in settings["lengths"]
        }

    def call(device: Device, *options: str) -> tuple[int, dict, list[str]]:
        budget = tool.Budget
        monkeypatch.setattr(tool.contenders, "make_configs", make_configs)
        monkeypatch.setattr(tool, "Budget", lambda seconds, now: budget(seconds, lambda: device.seconds))
        code = tool.main(["--out", str(tmp_path), *options], device.ask)
        found = json.loads((tmp_path / "accelerator_check.json").read_text())
        lines = (tmp_path / "accelerator_check.md").read_text().splitlines()
        return (
            code,
            found,
            [line for line in lines if (line.startswith("| ") and "bert_" in line) or "transformers |" in line],
        )

    return call


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


# --- The plan --------------------------------------------------------------------------------------------------------


def test_every_shape_length_attention_and_peer_has_a_row(run):
    code, found, lines = run(Device())
    wanted = {
        (preset, length, who, attention)
        for preset in ("albert_base", "albert_xxlarge", "bert_large")
        for length in (128, 512)
        for who, attention in (
            ("bertlite_jax", "auto (cudnn)"),
            ("bertlite_jax", "xla"),
            ("transformers", "SDPA"),
            ("transformers, torch.compile", "SDPA"),
        )
    }
    assert code == 0
    assert len(found["figures"]) == len(wanted) == 24
    assert {(f["preset"], f["length"], f["who"], f["attention"]) for f in found["figures"]} == wanted
    assert len(lines) == 24
    # 1,234.5 rows/s, 600,000 tokens/s, 51.2 % and 64 GiB are what the device pretends.
    assert cells(lines[0]) == [
        *("albert_base", "512", "bertlite_jax", "auto (cudnn)", "bfloat16", "128"),
        *("1,234.5", "600,000", "51.2%", "64.0", ""),
    ]
    assert any("pallas needs a TPU" in note for note in found["notes"])


def test_what_auto_chooses_comes_first_and_parity_before_the_others(run):
    device = Device()
    run(device)
    kinds = [request["kind"] for request in device.requests]
    assert kinds[:10] == ["device", "torch"] + 6 * ["train"] + 2 * ["losses"]


def test_batches_are_powers_of_two_that_fit_by_formula(tool):
    """BERT-large in 18 GiB, of which 15.3 may be used: its state takes 4 x 4 bytes of 336 million parameters, 5 GiB."""
    model = tool.contenders.without_dropout(presets.BERT_LARGE, False)
    config = Pretrain(model=model, data=Data(length=512))
    small = H200 | {"bytes_limit": 18 * 2**30}
    rows = tool.contenders.rows_to_try(config, small, 65_536)

    def total(rows: int) -> int:
        return flops.step_memory_bytes(tool.contenders.with_rows(config, rows), compute="bfloat16", scores=False)[
            "total"
        ]

    assert rows & (rows - 1) == 0
    assert total(rows) <= 0.85 * 18 * 2**30 < total(2 * rows)
    assert tool.contenders.rows_to_try(config, H200, 4096) == 8  # As many tokens as are wanted at the most.


def test_losses_are_compared_with_the_cpus_in_every_precision(run):
    device = Device()
    _, found, _ = run(device)
    parity = found["parity"]
    assert (parity["preset"], parity["length"], parity["steps"]) == ("albert_base", 128, 20)
    assert {name: run["largest"] for name, run in parity["runs"].items()} == {
        "float32, exact products": 0.0,
        "float32": 0.0,
        "bfloat16": pytest.approx(0.03),
    }
    on_cpu, on_device = (request for request in device.requests if request["kind"] == "losses")
    assert on_cpu["on_cpu"]
    assert not on_device["on_cpu"]
    assert on_cpu["config"] == on_device["config"]


def test_the_largest_difference_is_named_with_its_step(tool):
    found = tool.difference([3.0, 2.5, 2.0], [3.0, 2.0, 2.1])
    assert (found["largest"], found["relative"], found["step"]) == (0.5, 0.25, 2)


# --- What goes wrong -------------------------------------------------------------------------------------------------


def test_a_batch_that_does_not_fit_is_halved(run):
    def fits_32(request: dict) -> dict:
        return FIGURES if request["config"]["data"]["batch_rows"] <= 32 else OUT_OF_MEMORY

    _, _, lines = run(Device(fits_32, takes=0), "--presets", "albert_base", "--lengths", "512")
    assert cells(lines[0])[5] == "32"
    assert cells(lines[0])[-1] == "128, 64 rows: out of memory"


def test_a_contender_for_which_memory_never_suffices_is_a_row(run):
    def all_but_xxlarge(request: dict) -> dict:
        return OUT_OF_MEMORY if request["config"]["model"]["hidden_size"] == 4096 else FIGURES

    code, _found, lines = run(Device(all_but_xxlarge, takes=0))
    assert code == 0
    assert len(lines) == 24
    assert {cells(line)[-1] for line in lines if "xxlarge" in line} == {"out of memory with 1 row"}
    assert {cells(line)[-1] for line in lines if "xxlarge" not in line} == {""}


def test_what_does_not_fit_into_the_time_is_left_out_and_has_a_row(run):
    """Each run takes 25 of 60 s: two fit, the third is stopped after 10, and no other is started."""
    code, found, lines = run(Device(takes=25), "--minutes", "1")
    assert code == 0
    assert len(lines) == 24
    statuses = [f["status"] for f in found["figures"]]
    assert statuses == ["measured", "measured", "out of time", *21 * ["left out"]]
    assert found["parity"]["status"] == "left out"
    assert cells(lines[2])[-1] == "out of time: not done after 10 s"
    assert cells(lines[-1])[-1] == "left out: 0 of 60 s were left"


def test_another_of_its_kind_says_how_long_a_contender_will_take(run):
    """Two lengths of one shape in 60 s: the first takes 40, more than what is left, so the second is not started."""
    _, _, lines = run(Device(takes=40), "--minutes", "1", "--presets", "albert_base")
    assert cells(lines[1])[-1] == "left out: 20 of 60 s were left, another took 40"


def test_without_torch_there_is_a_reason(run, monkeypatch):
    found_before = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found_before(name))
    code, found, _ = run(Device())
    peers = [f for f in found["figures"] if "transformers" in f["who"]]
    assert code == 0
    assert len(peers) == 12
    assert {(f["status"], f["reason"]) for f in peers} == {("skipped", "no torch installed")}


def test_a_torch_that_does_not_see_the_accelerator_is_a_reason(run):
    _, found, _ = run(Device(torch=TORCH | {"cuda": False}))
    reasons = {f["reason"] for f in found["figures"] if "transformers" in f["who"]}
    assert reasons == {"PyTorch 0.1 does not see the gpu"}


def test_a_contender_that_fails_is_a_row_with_its_traceback_and_the_others_go_on(run, capsys):
    failed = {"status": "failed", "reason": "ValueError: a | b", "traceback": "Traceback ...\nValueError: a | b"}
    code, found, lines = run(Device(lambda request: failed if request["kind"] == "peer" else FIGURES))
    assert code == 1
    assert len(lines) == 24
    assert found["figures"][0]["status"] == "measured"
    assert cells(lines[-1])[-1] == "failed: ValueError: a / b"
    assert "Traceback" in capsys.readouterr().err


def test_an_accelerator_that_jax_cannot_open_is_one_line(run, tool, tmp_path, capsys):
    broken = Device(device={"status": "failed", "reason": "Unable to initialize backend 'cuda'"})
    assert tool.main(["--out", str(tmp_path)], broken.ask) == 2
    assert capsys.readouterr().err == "accelerator_check: JAX finds no device: Unable to initialize backend 'cuda'\n"


def test_lengths_that_the_model_has_no_positions_for_are_refused(tool, tmp_path, capsys):
    assert tool.main(["--out", str(tmp_path), "--lengths", "1024"], Device().ask) == 2
    assert "--lengths 1024 must be at least 8 and at most 512" in capsys.readouterr().err


# --- A contender's process -------------------------------------------------------------------------------------------


def test_running_out_of_memory_is_an_answer(turns, monkeypatch):
    def too_much(asked: dict) -> dict:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9.00GiB.\nmore")

    monkeypatch.setitem(turns.KINDS, "train", too_much)
    assert turns.answer({"kind": "train"}) == {
        "status": "out of memory",
        "reason": "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9.00GiB.",
    }


def test_any_other_error_is_no_answer(turns, monkeypatch):
    def wrong(asked: dict) -> dict:
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setitem(turns.KINDS, "train", wrong)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        turns.answer({"kind": "train"})
    monkeypatch.setitem(turns.KINDS, "train", lambda asked: {"loss": float("nan"), "steps": 6})
    with pytest.raises(RuntimeError, match="the loss is nan after 6 steps"):
        turns.answer({"kind": "train"})


@pytest.mark.thorough
def test_a_process_answers(tool):
    found = tool.ask_process({"kind": "device", "on_cpu": True}, 120)
    assert (found["status"], found["platform"], found["bytes_limit"]) == ("measured", "cpu", None)


def test_a_process_that_takes_too_long_is_ended(tool):
    found = tool.ask_process({"kind": "device", "on_cpu": True}, 0.05)
    assert found["status"] == "out of time"


@pytest.mark.thorough
def test_a_process_that_fails_leaves_its_traceback(tool):
    found = tool.ask_process({"kind": "nothing like that", "on_cpu": True}, 120)
    assert found["status"] == "failed"
    assert found["reason"] == "KeyError: 'nothing like that'"
    assert "Traceback" in found["traceback"]


@pytest.mark.parametrize("preset", ["ALBERT_TINY", "BERT_TINY"])
def test_transformers_train_the_same_shape(turns, prepared, preset):
    """One window in each row, and a loss near log V + log 2, that of untrained weights."""
    pytest.importorskip("torch", reason="the peer needs torch and transformers")
    pytest.importorskip("transformers", reason="the peer needs torch and transformers")
    model = dataclasses.replace(getattr(presets, preset), vocab_size=300, num_layers=1)
    data = Data(corpus=(prepared.corpus,), tokenizer=prepared.tokenizer, length=64, batch_rows=2)
    config = dataclasses.asdict(Pretrain(model=model, data=data))
    asked = {"device": "cpu", "precision": "float32", "compiled": False, "device_kind": "cpu", "turn_seconds": 0}
    found = turns.answer({"kind": "peer", "config": config, **asked})
    assert found["status"] == "measured"
    assert found["mfu"] is None
    assert 5 < found["loss"] < 8  # log 300 + log 2 = 6.4.
    assert found["rows_per_second"] * found["seconds_per_step"] == pytest.approx(2)


def test_transformers_network_has_our_parameters(turns):
    pytest.importorskip("torch", reason="the peer needs torch and transformers")
    transformers = pytest.importorskip("transformers", reason="the peer needs torch and transformers")
    for model in (presets.BERT_TINY, presets.ALBERT_TINY):
        network = transformers.AutoModelForPreTraining.from_config(train_peer.transformers_config(model))
        assert sum(p.numel() for p in network.parameters()) == flops.parameters(model)["total"]


# --- All of it, with tiny shapes -------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_without_an_accelerator_it_runs_with_tiny_shapes(tool, turns, prepared, tmp_path, monkeypatch):
    """In this process, to save time, and without torch: both have tests of their own above."""
    found_before = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found_before(name))
    small = dataclasses.replace(presets.ALBERT_TINY, hidden_size=64, num_layers=1, num_heads=2, ffn_size=128)
    monkeypatch.setattr(presets, "ALBERT_TINY", dataclasses.replace(small, vocab_size=300))
    options = ["--presets", "albert_tiny", "--lengths", "64", "--batch-tokens", "128", "--minutes", "60"]
    options += ["--text", prepared.text, "--tokenizer", prepared.tokenizer, "--out", str(tmp_path)]
    assert tool.main(options, lambda request, seconds: turns.answer(json.loads(json.dumps(request)))) == 0
    found = json.loads((tmp_path / "accelerator_check.json").read_text())
    ours, *theirs = found["figures"]
    assert (ours["status"], ours["rows"], ours["tried_rows"]) == ("measured", 2, [2])
    assert ours["rows_per_second"] * ours["seconds_per_step"] == pytest.approx(2)
    assert 5 < ours["loss"] < 8  # log 300 + log 2 = 6.4.
    assert [f["status"] for f in theirs] == ["skipped", "skipped"]
    # The same machine twice, and the same bits.
    assert found["parity"]["runs"]["float32"]["largest"] == 0.0
    assert len(found["parity"]["cpu_losses"]) == 20
    assert "No accelerator: tiny shapes on the CPU" in (tmp_path / "accelerator_check.md").read_text()


@pytest.mark.thorough
def test_the_script_finds_its_parts_from_anywhere(tmp_path):
    env = os.environ | {"PYTHON": sys.executable}
    shown = subprocess.run(
        [TOOLS / "accelerator_check.sh", "--help"], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("usage: accelerator_check.sh")
    assert "--batch-tokens" in shown.stdout
