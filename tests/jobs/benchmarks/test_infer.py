"""The benchmark of answers: contenders in processes of their own, figures that fit each other, wrong answers found."""

import dataclasses
import json
import multiprocessing
import os
import pathlib

import numpy as np
import pretended_contenders as pretended
import pytest
import thorough
import tiny
from rich.console import Console

from bertlite_jax.config import files, presets
from bertlite_jax.config.model import Head
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.convert import sources
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.benchmarks import infer, sample_rows
from bertlite_jax.jobs.benchmarks.runtimes import catalogue, process, turns
from bertlite_jax.jobs.benchmarks.runtimes.runtime import Runtime, task_of
from bertlite_jax.jobs.reports.report import report
from bertlite_jax.report import terminal
from bertlite_jax.report.benchmarks import inference

TINY = tiny.model(vocab_size=200, embed_size=32, hidden_size=32, ffn_size=64, max_positions=32, share="none")


@pytest.fixture(autouse=True)
def tiny_preset(monkeypatch):
    monkeypatch.setattr(presets, "TINY", TINY, raising=False)


def contender(name, load, size):
    def prepare(source, folder, texts):
        place = folder / name
        place.write_bytes(bytes(size))
        return place, load

    return Runtime(name, "of a test", (), prepare)


RIGHT = contender("right", pretended.load_right, 2_000_000)


def bench(monkeypatch, *others, **options):
    monkeypatch.setattr(catalogue, "ALL", (RIGHT, *others))
    chosen = {"preset": "tiny", "batch": (1, 4), "length": (16,), "threads": (1,), "rounds": 1} | options
    return infer.bench_infer(**chosen)


# --- Figures ---------------------------------------------------------------------------------------------------------


def test_figures_fit_each_other(monkeypatch, tmp_path, capsys):
    half = contender("half", pretended.load_slow, 1_000_000)
    out = tmp_path / "figures.json"
    figures = bench(monkeypatch, half, out=str(out), html=str(tmp_path / "page.html"))
    assert json.loads(out.read_text()) == figures
    assert [(shape["batch"], shape["length"], shape["threads"]) for shape in figures["shapes"]] == [
        (1, 16, 1),
        (4, 16, 1),
    ]
    for shape in figures["shapes"]:
        first = shape["figures"][0]
        for row in shape["figures"]:
            assert row["seconds_min"] <= row["seconds_p50"] <= row["seconds_p95"]
            assert row["sequences_per_second"] == pytest.approx(shape["batch"] / row["seconds_min"])
            assert row["ratio"] == pytest.approx(first["seconds_min"] / row["seconds_min"])
        assert shape["figures"][1]["seconds_min"] >= 0.05
    rows = inference.about_rows(figures)
    assert rows[0][2:5] == ("2.0", "1.9", "1.000")  # 2,000,000 / 2**20 = 1.907
    assert rows[1][2:5] == ("1.0", "1.0", "0.500")
    for who in figures["contenders"]:
        assert 10e6 < who["loaded_bytes"] <= who["peak_bytes"] < 3e9
    shown = capsys.readouterr().out
    assert "random weights" in shown
    assert max(map(len, shown.splitlines())) <= terminal.COLUMNS
    assert "https:" not in (page := (tmp_path / "page.html").read_text())
    assert "<img" in page


@pytest.mark.thorough
def test_a_contender_that_answers_otherwise_is_found(monkeypatch):
    """Logits of the other sign: nothing has the same first place, and the difference is twice the largest logit."""
    wrong = contender("wrong", pretended.load_wrong, 10)
    figures = bench(monkeypatch, wrong, contender("again", pretended.load_right, 10))
    first, other, again = figures["contenders"]
    assert first["largest_difference"] == again["largest_difference"] == 0.0
    assert first["top1_agreement"] == again["top1_agreement"] == 1.0
    assert other["top1_agreement"] == 0.0
    ids = sample_rows.make_rows(sample_rows.random_weights(TINY), 16, turns.ROWS).sum(axis=-1)
    assert other["largest_difference"] == pytest.approx(2 * np.abs(np.sin(ids)).max(), rel=1e-5)
    assert first["rows_compared"] == 2 * turns.ROWS  # once one by one, once four by four


def test_numbers_that_are_not_finite_are_no_agreement():
    right = [turns.Timed("any", answers=[np.array([[1.0, 2.0]])])]
    broken = [turns.Timed("any", answers=[np.array([[np.nan, 2.0]])])]
    assert infer.agreement(right, broken, "classify")["largest_difference"] is None


def test_states_have_no_first_place():
    states = [turns.Timed("any", answers=[np.ones((1, 3, 4))])]
    assert infer.agreement(states, states, "states")["top1_agreement"] is None


def test_who_is_hopeless_gets_no_turns(monkeypatch):
    figures = bench(monkeypatch, contender("slow", pretended.load_slow, 10), batch=(1,))
    right, slow = figures["shapes"][0]["figures"]
    assert slow["dropped"]
    assert slow["calls"] == turns.TRIALS
    assert not right["dropped"]
    assert right["calls"] > turns.ROWS


def test_where_memory_is_short_each_is_alone(monkeypatch):
    """A file of a petabyte never fits; the answers are compared all the same."""
    entries = [turns.Entry(RIGHT, pretended.load_right, 10**15), turns.Entry(RIGHT, pretended.load_right, 10)]
    assert turns.group_by_memory(entries[1:], Console(quiet=True)) == [entries[1:]]
    assert turns.group_by_memory(entries, Console(quiet=True)) == [entries[:1], entries[1:]]
    monkeypatch.setattr(turns, "group_by_memory", lambda entries, console: [[entry] for entry in entries])
    figures = bench(monkeypatch, contender("wrong", pretended.load_wrong, 10), batch=(1,))
    assert [who["top1_agreement"] for who in figures["contenders"]] == [1.0, 0.0]


def test_figures_of_a_run_are_stored_with_it_and_shown_in_its_report(monkeypatch, tmp_path):
    weights = sample_rows.random_weights(TINY)
    monkeypatch.setattr(sources, "load", lambda path, job: weights)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text(files.to_json(Pretrain()))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 5.0}\n')
    monkeypatch.setattr(catalogue, "ALL", (RIGHT,))
    figures = infer.bench_infer(str(tmp_path), batch=(1,), length=(16,), threads=(1,), rounds=1)
    assert not figures["random_weights"]
    assert json.loads((tmp_path / "inference.json").read_text()) == figures
    page = report(tmp_path).read_text(encoding="utf-8")
    assert "Answers on this machine" in page
    assert "batch 1 x 16 tokens, 1 thread" in page
    assert "Random weights" not in page


# --- Processes -------------------------------------------------------------------------------------------------------


def ended(pid):
    return not pathlib.Path(f"/proc/{pid}").exists()


def test_a_process_has_the_cores_that_it_is_given_and_ends_with_the_context():
    with process.start("cores", pretended.load_cores, 1) as started:
        assert started.pid != os.getpid()
        assert not ended(started.pid)
        assert started.run([{}], return_answers=True).answers[0].tolist() == [1, 1]
        assert len(started.run([{}, {}], seconds=0.0).seconds) == 2
    assert ended(started.pid)
    assert not multiprocessing.active_children()


def test_no_process_outlives_a_failure(monkeypatch):
    """The failure comes while another contender is loaded and waits."""
    with pytest.raises(RuntimeError, match=r"broken failed:(?s:.)*ZeroDivisionError: of this test"):
        bench(monkeypatch, contender("broken", pretended.load_broken, 10))
    assert not multiprocessing.active_children()


def test_a_contender_that_refuses_says_why(monkeypatch):
    with pytest.raises(UserError, match=r"^convert: there is no such model$"):
        bench(monkeypatch, contender("refused", pretended.load_refused, 10))


def test_a_process_that_the_system_ends_is_one_line():
    ended_by_system = pytest.raises(UserError, match=r"the system ended the process of killed \(exit code -9\)")
    with ended_by_system, process.start("killed", pretended.load_killed, 1):
        raise AssertionError("it cannot have been loaded")


def test_long_answers_are_thinned_to_the_same_tokens():
    given = np.arange(2 * 100 * 3).reshape(2, 100, 3)
    assert process.thinned(given) is given
    huge = np.zeros((1, 100, 100_000), np.int8)
    huge[0, :, 0] = np.arange(100)
    thin = process.thinned(huge)
    assert thin[0, :, 0].tolist() == [0, 25, 50, 75]
    assert thin.size <= process.MOST_VALUES


# --- What is asked ---------------------------------------------------------------------------------------------------


def test_a_missing_package_is_a_line_with_its_command(monkeypatch):
    absent = dataclasses.replace(RIGHT, name="absent", packages=("os", "no_such_package_of_ours"))
    monkeypatch.setattr(catalogue, "ALL", (RIGHT, absent))
    chosen, skipped = catalogue.choose()
    assert chosen == [RIGHT]
    assert skipped == ["absent is skipped: pip install no_such_package_of_ours"]


def test_one_arithmetic_is_not_timed_twice():
    chosen, skipped = catalogue.choose(("jax-f32", "jax-auto"), auto_is_float32=True)
    assert [who.name for who in chosen] == ["jax-f32"]
    assert "jax-auto is skipped" in skipped[0]


def test_the_stock_tool_cannot_take_a_tied_decoder():
    """onnxruntime/quantization/onnx_model.py, replace_gemm_with_matmul: "assume B is not used by any other node"."""
    chosen, skipped = catalogue.choose((catalogue.STOCK, "jax-f32"), task="fill-mask")
    assert [who.name for who in chosen] == ["jax-f32"]
    assert "transposes the decoder's table" in skipped[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "bert_bass"}, "--preset bert_bass is unknown; did you mean bert_base"),
        ({"only": ("onnx-f23",)}, "--only onnx-f23: no such runtime; did you mean onnx-f32"),
        ({"batch": (0,)}, "--batch 0 must be positive"),
        ({"rounds": 0}, "--rounds 0 must be positive"),
        ({"length": (33,)}, "--length must lie between 3 and the model's 32 positions"),
        ({"threads": (10_000,)}, "--threads 10000 is more than"),
        ({"out": "no such folder/figures.json"}, "--out no such folder/figures.json: its folder does not exist"),
    ],
)
def test_mistakes_are_one_line(options, message):
    with pytest.raises(UserError, match=message):
        infer.bench_infer(**{"preset": "tiny", "length": (16,)} | options)


def test_a_folder_and_a_preset_are_one_too_many():
    with pytest.raises(UserError, match="not both"):
        infer.bench_infer("runs/base", preset="tiny")


def test_rows_are_text_without_padding(prepared):
    tokenizer = load_tokenizer(prepared.tokenizer)
    weights = dataclasses.replace(sample_rows.random_weights(TINY), tokenizer=tokenizer)
    rows = sample_rows.make_rows(weights, 16, 5)
    assert rows.shape == (5, 16)
    assert rows.dtype == np.int64
    assert set(rows[:, 0]) == {tokenizer.cls_id}
    assert set(rows[:, -1]) == {tokenizer.sep_id}
    assert not np.isin(rows[:, 1:-1], tokenizer.special_ids).all()
    assert "[PAD]" not in tokenizer.pieces(rows.ravel())


# --- The runtimes ----------------------------------------------------------------------------------------------------

HEADS = {
    "classify": Head("classify", ("a", "b", "c")),
    "choose": Head("choose"),
    "tag": Head("tag", ("a", "b", "c")),
    "span": Head("span"),
    "fill-mask": None,
    "states": None,
}


def weights_for(task):
    head = HEADS[task]
    model = dataclasses.replace(TINY, pair_classes=0, pooler=bool(head and head.pooled))
    generator = np.random.default_rng(1)
    flat = {
        path: (0.2 * generator.standard_normal(shape)).astype(np.float32) + float(path.endswith("/scale"))
        for path, shape in parameters.shapes(model, head).items()
        if task != "states" or not path.startswith("mlm")
    }
    return Weights(parameters.nest(flat), model, head)


@pytest.mark.parametrize("task", thorough.but(["classify", "fill-mask"], HEADS))
def test_runtimes_answer_the_same(task, tmp_path):
    """PyTorch's class of the task, ONNX Runtime and JAX in float32, to 1e-4; in this process."""
    for package in ("torch", "transformers", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    weights = weights_for(task)
    assert task_of(weights) == task
    rows = sample_rows.make_rows(weights, 12, 3)
    (batch,) = sample_rows.batches_of(weights, rows, 3)
    chosen, _ = catalogue.choose(("torch-f32", "onnx-f32", "jax-f32"))
    answers = [who.prepare(weights, tmp_path, [batch])[1](1)(batch) for who in chosen]
    wanted = {"classify": (3, 3), "choose": (3, 2), "tag": (3, 12, 3), "span": (3, 2, 12), "fill-mask": (3, 12, 200)}
    assert answers[0].shape == wanted.get(task, (3, 12, 32))
    assert np.abs(answers[0]).max() > 0.1
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-4)


def test_integer_files_are_a_quarter_and_answer_nearly_the_same(tmp_path):
    """Ours and the stock tool's, from the same random weights of a BERT with 128 columns."""
    pytest.importorskip("onnxruntime")
    model = dataclasses.replace(presets.BERT_TINY, vocab_size=1000)
    weights = sample_rows.random_weights(model)
    rows = sample_rows.make_rows(weights, 16, 4)
    (batch,) = sample_rows.batches_of(weights, rows, 4)
    names = ("onnx-f32", "onnx-int8-tensor", "onnx-int8-token", "onnx-int8-static", "onnx-int8-stock", "jax-int8")
    chosen, _ = catalogue.choose(names)
    made = [who.prepare(weights, tmp_path, [batch]) for who in chosen]
    exact = made[0][1](1)(batch)
    for place, load in made[1:]:
        assert place.stat().st_size < 0.31 * made[0][0].stat().st_size
        difference = np.abs(load(1)(batch) - exact).max()
        assert 0 < difference < 0.02
