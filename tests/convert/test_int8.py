"""The gate: what holds is written whole, what falls is refused with the layer that is to blame."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from bertlite_jax.config import Head, Model, UserError
from bertlite_jax.convert import held_out, int8, onnx_folder, onnx_session, parameters, quantize, sensitivity
from bertlite_jax.convert.weights import Weights
from bertlite_jax.data import tokenizer as tokenizers

MODEL = Model(
    vocab_size=60,
    embed_size=8,
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    ffn_size=32,
    max_positions=16,
    share="none",
    pair_classes=0,
)
WORDS = "the lamp on desk had been lit since five and nobody knew why it was so very dark in that old house".split()


def write_text(folder: pathlib.Path) -> str:
    """Sixty documents of random common words."""
    rng = np.random.default_rng(0)
    documents = ["\n".join(" ".join(rng.choice(WORDS, 12)) + "." for _ in range(3)) for _ in range(60)]
    (folder / "text.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return str(folder / "text.txt")


def trained_like(folder: pathlib.Path, model: Model, head: Head | None = None, std: float = 0.3) -> Weights:
    """Random weights with a tokenizer of `model.vocab_size` pieces, learnt from the words above."""
    tokenizer = tokenizers.train([" ".join(WORDS)] * 3, folder / "tokenizer", model.vocab_size, "wordpiece")
    model = dataclasses.replace(model, vocab_size=tokenizer.vocab_size, pooler=head is None or head.pooled)
    rng = np.random.default_rng(0)
    flat = {}
    for path, shape in parameters.shapes(model, head).items():
        value = rng.normal(size=shape) * std
        flat[path] = (value + 1 if path.endswith("/scale") else value).astype(np.float32)
    return Weights(parameters.nest(flat), model, head, tokenizer)


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
    figures = int8.int8(weights, tmp_path / "out", [write_text(tmp_path)], max_drop=0.1, rows=64, length=16)
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert {
        "config.json",
        "tokenizer.json",
        "onnx/model.onnx",
        "onnx/model_quantized.onnx",
        "onnx/quantization.json",
        "model.int8.safetensors",
    } <= names
    assert json.loads((tmp_path / "out" / int8.SIDECAR).read_text()) == figures
    # q, k, v, output, up, down in two layers, the projection, the head's dense layer and the decoder.
    assert (figures["integer_products"], figures["products"]) == (15, 15)
    assert [row["layer"] for row in figures["by_depth"]] == [0, 1, 2]
    assert figures["by_depth"][2]["cosine"] > 0.99
    restored = quantize.to_weights(quantize.load(tmp_path / "out" / quantize.FILE))
    assert restored.model == dataclasses.replace(weights.model, vocab_multiple=1)
    assert "products of integers: 15 of 15" in int8.report(figures)


def test_a_broken_layer_is_refused_and_named(tmp_path):
    weights = with_outlier(trained_like(tmp_path, MODEL, Head(kind="tag", labels=tuple("abcdefgh"))))
    with pytest.raises(UserError, match=r"falls from 1.0000 to 0\.\d+.*--leave-out layers\.(1|ffn\.up)$"):
        int8.int8(weights, tmp_path / "out", [write_text(tmp_path)], rows=64, length=16)
    assert not (tmp_path / "out").exists()


def test_what_is_blamed_can_be_left_out_by_itself(tmp_path):
    weights = with_outlier(trained_like(tmp_path, MODEL, Head(kind="tag", labels=tuple("abcdefgh"))))
    text = [write_text(tmp_path)]
    figures = int8.int8(weights, tmp_path / "out", text, max_drop=0.05, auto=1, rows=64, length=16)
    assert figures["left_out"] in (["layers.1"], ["layers.ffn.up"])
    assert figures["integer_products"] < figures["products"] == 14


@pytest.mark.parametrize("activations", ["tensor", "static"])
def test_the_other_activations_hold_too(activations, tmp_path):
    weights = trained_like(tmp_path, MODEL, Head())
    text = [write_text(tmp_path)]
    figures = int8.int8(
        weights, tmp_path / "out", text, activations=activations, max_drop=0.1, rows=32, length=16, method="minmax"
    )
    assert figures["integer_products"] == 15  # 12, projection, pooler, classifier
    assert figures["top1_agreement"] >= 0.9


def test_labelled_examples_measure_accuracy(tmp_path):
    """Labels are the float32 model's own answers, so it is right in all of them."""
    weights = trained_like(tmp_path, MODEL, Head(labels=("no", "yes")))
    examples = [{"text": " ".join(WORDS[i : i + 4]), "pair": WORDS[i], "label": "no"} for i in range(16)]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, examples)), encoding="utf-8")
    int8.int8(weights, tmp_path / "out", [write_text(tmp_path)], max_drop=1, rows=32, length=16)
    session = onnx_session.open_session(tmp_path / "out" / onnx_folder.MODEL)
    batches = held_out.labelled(weights, str(data), 8, 16)
    answers = np.concatenate([onnx_session.answer(session, batch)["logits"].argmax(-1) for batch in batches])
    for example, answer in zip(examples, answers):
        example["label"] = ("no", "yes")[answer]
    data.write_text("\n".join(map(json.dumps, examples)), encoding="utf-8")
    figures = int8.int8(
        weights, tmp_path / "more", [write_text(tmp_path)], data=str(data), max_drop=1, rows=32, length=16
    )
    assert (figures["metric"], figures["before"], figures["answers"]) == ("accuracy", 1.0, 16)


def test_an_unknown_label_is_named_with_those_that_exist(tmp_path):
    weights = trained_like(tmp_path, MODEL, Head(labels=("no", "yes")))
    (tmp_path / "data.tsv").write_text("text\tlabel\nthe lamp\tperhaps\n", encoding="utf-8")
    with pytest.raises(UserError, match=r'data.tsv:2: the label is "perhaps"; the model\'s labels are: no, yes$'):
        held_out.labelled(weights, str(tmp_path / "data.tsv"), 8, 16)


def test_text_without_a_tokenizer_is_refused(tmp_path):
    weights = dataclasses.replace(trained_like(tmp_path, MODEL), tokenizer=None)
    with pytest.raises(UserError, match="without a tokenizer"):
        int8.int8(weights, tmp_path / "out", [write_text(tmp_path)])


def test_quantising_all_parts_is_quantising_the_model(tmp_path):
    """The simulation in f32 that sensitivity measures with is the integer arithmetic but for rounding of sums."""
    weights = trained_like(tmp_path, MODEL)
    container = quantize.quantize(weights)
    flat, rounded = (
        quantize.unstack(parameters.flatten(params)) for params in (weights.params, quantize.restore(container))
    )
    batch = int8.read_text(weights, [write_text(tmp_path)], None, 32, 16).evaluation[0]
    everything = sensitivity._simulated(flat, rounded, container, None)
    for path in container.integers:
        part = sensitivity._simulated(flat, rounded, container, path.rsplit("/", 1)[0])
        for params, other in zip((everything,), (part,)):
            merged = parameters.flatten(params) | {
                at: value for at, value in parameters.flatten(other).items() if at.startswith(path.rsplit("/", 1)[0])
            }
            everything = parameters.nest(merged)
    theirs = sensitivity.jax_answer(everything, container.model, None, batch)["logits"]
    ours = sensitivity.jax_answer(quantize.jax_params(container), container.model, None, batch)["logits"]
    np.testing.assert_allclose(theirs, ours, atol=2e-3)
