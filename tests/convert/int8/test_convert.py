"""The gate: what holds is written whole, what falls is refused with the layer that is to blame."""

import dataclasses
import json
import re

import numpy as np
import pytest
import thorough
from int8_examples import MODEL, trained_like, write_text

from bertlite_jax.config.int8 import Int8Options
from bertlite_jax.config.model import Head
from bertlite_jax.convert import sources
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.int8 import convert, measuring_text, ort_format, sensitivity
from bertlite_jax.convert.onnx import folder
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Sentence, Weights
from bertlite_jax.errors import UserError


def with_outlier(weights: Weights) -> Weights:
    """An up product of the second layer whose one huge weight a column makes steps too coarse for the others.

    The hugely weighted input is switched off in its norm, so that float32 does not notice.
    """
    flat = parameters.flatten(weights.params)
    flat["layers/ffn/up/kernel"] = flat["layers/ffn/up/kernel"].copy()
    flat["layers/ffn/up/kernel"][1, 5] = 3000.0
    for leaf in ("scale", "bias"):
        flat[f"layers/norms/attention/{leaf}"] = flat[f"layers/norms/attention/{leaf}"].copy()
        flat[f"layers/norms/attention/{leaf}"][1, 5] = 0.0
    return dataclasses.replace(weights, params=parameters.nest(flat))


def test_a_model_that_holds_is_written_whole(tmp_path):
    weights = trained_like(tmp_path, MODEL)
    figures = convert.int8(
        weights, tmp_path / "out", [write_text(tmp_path)], Int8Options(max_drop=0.1, rows=64, length=16)
    )
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert {
        "config.json",
        "tokenizer.json",
        "onnx/model.onnx",
        "onnx/model_quantized.onnx",
        "onnx/quantization.json",
        "model.int8.safetensors",
    } <= names
    assert json.loads((tmp_path / "out" / convert.SIDECAR).read_text()) == figures
    # q, k, v, output, up, down in two layers, the projection, the head's dense layer and the decoder.
    assert (figures["integer_products"], figures["products"]) == (15, 15)
    assert [row["layer"] for row in figures["by_depth"]] == [0, 1, 2]
    assert figures["by_depth"][2]["cosine"] > 0.99
    restored = quantized.to_weights(quantized.load(tmp_path / "out" / quantized.FILE))
    assert restored.model == dataclasses.replace(weights.model, vocab_multiple=1)
    assert "products of integers: 15 of 15" in convert.report(figures)


def test_a_broken_layer_is_refused_and_named(tmp_path):
    weights = with_outlier(trained_like(tmp_path, MODEL, Head(kind="tag", labels=tuple("abcdefgh"))))
    with pytest.raises(UserError, match=r"falls from 1.0000 to 0\.\d+.*--leave-out layers\.(1|ffn\.up)$"):
        convert.int8(weights, tmp_path / "out", [write_text(tmp_path)], Int8Options(rows=64, length=16))
    assert not (tmp_path / "out").exists()


def test_what_is_blamed_can_be_left_out_by_itself(tmp_path):
    weights = with_outlier(trained_like(tmp_path, MODEL, Head(kind="tag", labels=tuple("abcdefgh"))))
    text = [write_text(tmp_path)]
    figures = convert.int8(weights, tmp_path / "out", text, Int8Options(max_drop=0.05, auto=1, rows=64, length=16))
    assert figures["left_out"] in (["layers.1"], ["layers.ffn.up"])
    assert figures["integer_products"] < figures["products"] == 14


@pytest.mark.parametrize("activations", ["tensor", "static"])
def test_the_other_activations_hold_too(activations, tmp_path):
    weights = trained_like(tmp_path, MODEL, Head())
    text = [write_text(tmp_path)]
    figures = convert.int8(
        weights,
        tmp_path / "out",
        text,
        Int8Options(activations=activations, max_drop=0.1, rows=32, length=16, method="minmax"),
    )
    assert figures["integer_products"] == 15  # 12, projection, pooler, classifier
    assert figures["top1_agreement"] >= 0.9


def test_more_windows_than_the_text_has_are_all_of_them(tmp_path):
    weights, text = trained_like(tmp_path, MODEL), [write_text(tmp_path)]
    few, many = (measuring_text.windows(weights, text, count, 16) for count in (1_000, 10**15))
    assert 100 < len(few) < 1_000
    assert all(map(np.array_equal, few, many))
    assert len(few) == len(many)


@pytest.mark.parametrize("bits", [7, 8])
def test_text_without_a_tokenizer_is_refused(bits, tmp_path, caplog):
    """Before that, 8 bits are warned of, as on some CPUs they give wrong answers (microsoft/onnxruntime #6004)."""
    weights = dataclasses.replace(trained_like(tmp_path, MODEL), tokenizer=None)
    with pytest.raises(UserError, match="have no tokenizer"):
        convert.int8(weights, tmp_path / "out", [write_text(tmp_path)], Int8Options(bits=bits))
    assert ("CPUs with AVX2 but without VNNI give wrong answers" in caplog.text) == (bits == 8)


def test_quantising_all_parts_is_quantising_the_model(tmp_path):
    """The simulation in f32 that sensitivity measures with is the integer arithmetic but for rounding of sums.

    Once in 100,000 values that decides between two steps, which changes what follows in that text, and in no other,
    by a rounding error. The other texts are equal to the last bits.
    """
    weights = trained_like(tmp_path, MODEL)
    container = quantized.quantize(weights)
    flat, rounded = (
        quantized.unstack(parameters.flatten(params)) for params in (weights.params, quantized.restore(container))
    )
    batch = convert.read_text(weights, [write_text(tmp_path)], None, 32, 16).evaluation[0]
    everything = sensitivity.simulate(flat, rounded, container, None)
    for path in container.integers:
        part = path.rsplit("/", 1)[0]
        simulated = parameters.flatten(sensitivity.simulate(flat, rounded, container, part))
        own = {at: value for at, value in simulated.items() if at.startswith(part)}
        everything = parameters.nest(parameters.flatten(everything) | own)
    theirs = sensitivity.jax_answer(everything, container.model, None, batch)["logits"]
    ours = sensitivity.jax_answer(quantized.jax_params(container), container.model, None, batch)["logits"]
    off = np.abs(np.asarray(theirs) - np.asarray(ours)).max((1, 2))
    assert np.median(off) < 1e-5
    assert off.max() < 0.05


# --- What is measured follows the output ------------------------------------------------------------------------------


CLASSIFIER = Head(labels=("no", "yes"))
STATES = measuring_text.Scored("states", None)
LABELS = measuring_text.Scored("auto", CLASSIFIER)


@pytest.mark.parametrize("head", [None, CLASSIFIER], ids=["pretrained", "classifier"])
@pytest.mark.parametrize("output", thorough.but(["sentence"], ["states", "sentence"]))
def test_vectors_are_measured_by_their_cosine_whatever_the_head(head, output, tmp_path):
    """The figures are those that the two files themselves give, computed here by hand on the same windows."""
    weights = trained_like(tmp_path, MODEL, head)
    if output == "sentence":
        weights = dataclasses.replace(weights, sentence=Sentence("cls", normalize=False))
    text = [write_text(tmp_path)]
    figures = convert.int8(
        weights, tmp_path / "out", text, Int8Options(output=output, max_drop=0.1, rows=16, length=16)
    )
    batches = convert.read_text(weights, text, None, 16, 16, output).evaluation
    vectors = {}
    for file in (folder.MODEL, folder.QUANTIZED):
        session = open_session(tmp_path / "out" / file)
        found = [run_session(session, batch) for batch in batches]
        if output == "sentence":
            vectors[file] = np.concatenate([each["sentence_embedding"] for each in found])
        else:
            pairs = zip(found, batches, strict=True)
            vectors[file] = np.concatenate([f["last_hidden_state"][b["attention_mask"] > 0] for f, b in pairs])
    x, y = vectors.values()
    cosine = (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    assert figures["metric"] == "cosine with float32"
    assert figures["output"] == output
    assert figures["after"] == figures["cosine"] == pytest.approx(cosine.mean(), abs=1e-6)
    assert figures["lowest_cosine"] == pytest.approx(cosine.min(), abs=1e-6)
    assert (figures["answers"], figures["top1_agreement"]) == (len(x), None)
    assert figures["by_depth"][2]["top1"] is None
    # The last layer's row is of the first batch's vectors, computed by JAX.
    first = 8 if output == "sentence" else int(batches[0]["attention_mask"].sum())
    assert figures["by_depth"][2]["cosine"] == pytest.approx(cosine[:first].mean(), abs=2e-3)
    assert "same answer" not in convert.report(figures)
    assert "lowest 0." in convert.report(figures)


def test_parts_that_the_file_does_not_hold_are_not_tried(tmp_path):
    pretrained = trained_like(tmp_path, MODEL)
    container = quantized.quantize(pretrained)
    assert "mlm.dense" in sensitivity.parts(container, measuring_text.scored_output(pretrained))
    assert not any(
        "mlm" in part for part in sensitivity.parts(container, measuring_text.scored_output(pretrained, "states"))
    )
    batches = convert.read_text(pretrained, [write_text(tmp_path)], None, 16, 16, "sentence").evaluation
    losses = sensitivity.by_part(pretrained, container, batches[:1], output="sentence")
    assert {loss.part for loss in losses} >= {"layers.0", "layers.1", "layers.ffn.up"}
    assert all(0 < loss.divergence < 0.1 for loss in losses if loss.part.startswith("layers"))


def test_what_is_blamed_for_vectors_is_the_broken_layer(tmp_path):
    weights = with_outlier(trained_like(tmp_path, MODEL, CLASSIFIER))
    with pytest.raises(UserError, match=r"^convert: int8: cosine .*1 - cosine when.*--leave-out layers\.(1|ffn\.up)$"):
        convert.int8(
            weights, tmp_path / "out", [write_text(tmp_path)], Int8Options(output="states", rows=16, length=16)
        )


@pytest.mark.parametrize("activations", ["token", "static"])
@pytest.mark.parametrize("kind", ["choose", "span"])
def test_scores_of_choices_are_amounts_and_a_span_is_two_places(kind, activations, tmp_path):
    """So eight texts are eight amounts, with a cosine over all, or sixteen places that are the same or not."""
    weights = trained_like(tmp_path, MODEL, Head(kind=kind))
    options = Int8Options(activations=activations, fit=True, max_drop=1, rows=16, length=16)
    figures = convert.int8(weights, tmp_path / "out", [write_text(tmp_path)], options)
    choose = kind == "choose"
    assert figures["metric"] == ("cosine with float32" if choose else "agreement with float32")
    assert figures["answers"] == (8 if choose else 16)
    assert (figures["top1_agreement"] is None) == (figures["by_depth"][0]["top1"] is None) == choose
    assert figures["after"] > 0.8


def test_answers_that_are_no_numbers_are_not_measured():
    batch = {"attention_mask": np.ones((1, 2), np.int64)}
    with pytest.raises(UserError, match="are NaN"):
        measuring_text.outcome(lambda _: {"last_hidden_state": np.full((1, 2, 3), np.nan)}, [batch], STATES)


def test_a_metric_that_is_no_number_does_not_pass_the_gate(tmp_path, monkeypatch):
    weights = trained_like(tmp_path, MODEL, CLASSIFIER)
    measure = convert.measure
    monkeypatch.setattr(convert, "measure", lambda *args: measure(*args) | {"drop": float("nan")})
    with pytest.raises(UserError, match="nothing was written"):
        convert.int8(weights, tmp_path / "out", [write_text(tmp_path)], Int8Options(max_drop=1, rows=16, length=16))
    assert not (tmp_path / "out").exists()


# --- Refused before any work ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_drop": float("nan")}, "--max-drop nan must be a number from 0 to 1"),
        ({"max_drop": -1}, "--max-drop -1 must be a number from 0 to 1"),
        ({"max_drop": float("inf")}, "--max-drop inf"),
        ({"auto": -1}, "--auto -1 must be 0 or more"),
        ({"bits": 5}, "--bits 5 must be 4, 7 or 8"),
        ({"rows": 1}, "--rows 1 must be at least 2"),
        ({"length": 5}, "--length 5 must be at least 6"),
    ],
)
def test_options_out_of_their_range_are_named_before_anything_is_read(options, message, tmp_path):
    weights = trained_like(tmp_path, MODEL)
    with pytest.raises(UserError, match=f"^convert: {message}"):
        convert.int8(weights, tmp_path / "out", ["no such text"], Int8Options(**options))


def test_at_least_one_part_becomes_integers(tmp_path):
    weights = trained_like(tmp_path, MODEL)
    with pytest.raises(UserError, match="no product would be computed with integers"):
        convert.int8(
            weights, tmp_path / "out", ["text"], Int8Options(leave_out=("layers", "projection"), output="states")
        )
    with pytest.raises(UserError, match=r"--auto 99 must be from 0 to \d+, since the parts are .*layers\.ffn\.up"):
        convert.int8(weights, tmp_path / "out", ["text"], Int8Options(auto=99))
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_taken_is_refused_before_the_work(tmp_path, monkeypatch):
    weights = trained_like(tmp_path, MODEL)
    monkeypatch.setattr(quantized, "quantize", lambda *_, **__: pytest.fail("work began"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(UserError, match="out exists; pass --overwrite"):
        convert.int8(weights, tmp_path / "out", ["text"])
    (tmp_path / "notes.ort").touch()
    with pytest.raises(UserError, match=r"notes.ort exists; pass --overwrite"):
        ort_format.write(weights, tmp_path / "notes.ort", ["text"])


def test_files_without_text_are_told_once_and_not_by_the_reader(tmp_path, caplog):
    weights = trained_like(tmp_path, MODEL)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UserError, match=r"empty.txt: too little text to measure with: 0 windows"):
        convert.int8(weights, tmp_path / "out", [str(tmp_path / "empty.txt")])
    assert not caplog.records
    measuring_text.windows(weights, [str(tmp_path / "empty.txt"), write_text(tmp_path)], 8, 16)
    assert [record.getMessage() for record in caplog.records] == ["convert: 1 of 2 files hold no text"]


# --- What the folder says ---------------------------------------------------------------------------------------------


def test_the_card_names_the_quantised_file_and_what_it_costs_and_its_code_answers(tmp_path, monkeypatch, capsys):
    weights = trained_like(tmp_path, MODEL, CLASSIFIER)
    figures = convert.int8(
        weights, tmp_path / "out", [write_text(tmp_path)], Int8Options(max_drop=1, rows=16, length=16)
    )
    card = (tmp_path / "out" / "README.md").read_text()
    for name in (folder.QUANTIZED, folder.MODEL, quantized.FILE, convert.SIDECAR):
        assert f"| `{name}` |" in card
        assert (tmp_path / "out" / name).is_file()
    assert f"{figures['int8_bytes'] / 1e6:.2f} MB" in card
    assert f"{figures['after']:.4f}" in card
    assert "one scale for each token" in card
    assert "| products of integers | 15 of 15 |" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert folder.QUANTIZED in code
    monkeypatch.chdir(tmp_path / "out")
    exec(code, {})  # what a reader would do
    assert "array" in capsys.readouterr().out


def test_what_went_through_8_bits_says_so_and_is_not_quantised_again(tmp_path):
    shared = dataclasses.replace(MODEL, share="all")
    weights = dataclasses.replace(trained_like(tmp_path, shared), sentence=Sentence("cls", False, 9))
    text = [write_text(tmp_path)]
    convert.int8(weights, tmp_path / "out", text, Int8Options(max_drop=1, rows=16, length=16))
    again = sources.load(tmp_path / "out")
    assert again.sentence == weights.sentence
    with pytest.raises(UserError, match="have been quantised to 8 bits already"):
        convert.int8(again, tmp_path / "twice", text)
    with pytest.raises(UserError, match="have been quantised to 8 bits already"):
        ort_format.write(again, tmp_path / "twice.ort", text)
    folder.write(again, tmp_path / "onnx")
    to_hf(again, tmp_path / "hf")
    for name in ("onnx", "hf"):
        assert "The weights were rounded to 8-bit integers" in (tmp_path / name / "README.md").read_text()
