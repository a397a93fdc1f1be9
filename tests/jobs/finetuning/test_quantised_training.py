"""Trained as served: fine-tuning rounds as the file of integers does, so that both give the same answers."""

import dataclasses
import pathlib
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
import tiny
from onnx import TensorProto, helper
from toy_task import recipe, sentences, write_encoder, write_sst2

from bertlite_jax.config.finetune import check_finetune
from bertlite_jax.config.int8 import Bits, Int8Options, Quantise
from bertlite_jax.convert import sources
from bertlite_jax.convert.bundle import write_bundle
from bertlite_jax.convert.int8.convert import int8
from bertlite_jax.convert.onnx import integer
from bertlite_jax.convert.onnx.arithmetic import Arithmetic, Site
from bertlite_jax.convert.onnx.graph import FLOAT, Graph, node
from bertlite_jax.convert.onnx.model import build_onnx
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.examples import features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering.embed import open_encoder
from bertlite_jax.jobs.answering.open_model import open_task_model
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.jobs.finetuning.start import take_over
from bertlite_jax.model.ops import integer_grid, integer_products
from bertlite_jax.train import checkpoint

pytestmark = pytest.mark.usefixtures("compiled_once")

ALBERT = tiny.trained_model(share="all", pair_classes=0, init_std=0.1)
EXAMPLES = [Example(str(number), text) for number, (text, _) in enumerate(sentences(200, seed=5))]


class Trained(NamedTuple):
    """A finished run."""

    run: pathlib.Path
    weights: Weights
    summary: dict
    bits: Bits


@pytest.fixture(scope="module", params=thorough.but([7], [7, 4]))
def trained(request, prepared, tmp_path_factory) -> Trained:
    """An ALBERT, whose rounding errors are the same in each layer, trained with rounding from the first step."""
    folder = tmp_path_factory.mktemp("quantised")
    encoder = write_encoder(folder / "encoder", prepared.tokenizer, ALBERT)
    config = recipe(write_sst2(folder / "glue"), run={"steps": 0, "epochs": 12, "eval_every": 12})
    config = dataclasses.replace(config, quantise=Quantise(bits=request.param))
    summary = finetune(config, str(folder / "run"), encoder)
    return Trained(folder / "run", sources.load(folder / "run"), summary, request.param)


def batch_of(weights: Weights, examples: list[Example]) -> dict[str, np.ndarray]:
    """The texts as a served file gets them: padded rows."""
    assert weights.tokenizer
    assert weights.head
    encoded = features.encode(examples, weights.tokenizer, weights.head, 32, "test")
    mask = (np.arange(max(encoded.sizes)) < np.asarray(encoded.sizes)[:, None]).astype(np.int64)
    ids = np.zeros_like(mask)
    ids[mask > 0] = encoded.tokens
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}


def test_it_learns_although_all_is_rounded(trained: Trained):
    """The texts differ by one word; the larger class of 29 examples has at most two thirds of them."""
    assert trained.summary["accuracy"] > 0.95
    assert trained.summary["compute"] == f"integers_{trained.bits}"
    assert trained.weights.trained_bits == trained.bits


def test_the_model_in_jax_and_its_file_give_the_same_label_to_every_text(trained: Trained):
    logits, _ = open_task_model(str(trained.run), trained.weights).answer(EXAMPLES)
    built = build_onnx(trained.weights, integer.per_token(quantized.quantize(trained.weights, bits=trained.bits)))
    served = run_session(open_session(built.SerializeToString()), batch_of(trained.weights, EXAMPLES))["logits"]
    assert (np.argmax(logits, -1) == served.argmax(-1)).all()
    assert np.median(np.abs(np.asarray(logits) - served)) < 1e-4


@pytest.mark.thorough
def test_each_product_has_the_same_accumulators_as_in_training(trained: Trained):
    """Of the file's own rows, training makes the integers that the file makes, and the same sums: all are equal."""
    container = quantized.quantize(trained.weights, bits=trained.bits)
    watched: dict[str, tuple[Site, str, str]] = {}
    file = integer.per_token(container)

    def dense(graph: Graph, x: str, site: Site) -> str:
        x, before = node(graph, "Identity", x, name="watched"), len(graph.nodes)
        y = file.dense(graph, x, site)
        (sums,) = (made.output[0] for made in graph.nodes[before:] if made.op_type == "MatMulInteger")
        watched[site.name] = site, x, sums
        return y

    model = build_onnx(trained.weights, Arithmetic(dense, file.rows, file.decode))
    for _, x, sums in watched.values():
        model.graph.output.append(helper.make_tensor_value_info(x, FLOAT, None))
        model.graph.output.append(helper.make_tensor_value_info(sums, TensorProto.INT32, None))
    found = run_session(open_session(model.SerializeToString()), batch_of(trained.weights, EXAMPLES[:16]))
    assert len(watched) == 6 * ALBERT.num_layers + 3  # Projection, pooler, classifier.
    kernels = quantized.unstack(parameters.exported(trained.weights.params, ALBERT))
    for site, x, sums in watched.values():
        kernel = jnp.asarray(kernels[f"{site.weight.replace('.', '/')}/kernel"])
        bits = integer_grid.bits_of(site.path, trained.bits)
        integers, _ = integer_grid.quantize_weights(kernel, 0, bits)
        zero = quantized.zero_point(site.path, ALBERT.activation)
        steps, _ = integer_products.quantize_rows(jnp.asarray(found[x]), zero)
        ours = integer_products.accumulated(steps, integers, integer_products.column_sums(integers, zero))
        np.testing.assert_array_equal(ours, found[sums], err_msg=site.name)


def test_vectors_in_floats_are_those_of_the_rounded_weights(trained: Trained):
    """`embed --compute float32` multiplies floats, but not with weights that were never trained to answer."""

    def vectors(weights: Weights) -> np.ndarray:
        encode, _, _ = open_encoder(weights, str(trained.run), "cls", compute="float32")
        return np.stack(encode(EXAMPLES[:20])[0].values)

    found = vectors(trained.weights)
    np.testing.assert_array_equal(found, vectors(quantized.as_trained(trained.weights)))
    assert not np.array_equal(found, vectors(dataclasses.replace(trained.weights, trained_bits=0)))


def test_a_conversion_measures_it_against_what_was_trained(trained: Trained, tmp_path, caplog):
    """The float32 file beside it has the rounded weights: those before rounding were never trained to answer."""
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"{example.text}." for example in EXAMPLES), encoding="utf-8")
    options = Int8Options(bits=trained.bits, length=32, rows=60, max_drop=0.1)
    figures = int8(trained.weights, tmp_path / "out", [str(text)], options)
    assert figures["bits"] == trained.bits
    assert figures["top1_agreement"] > 0.9
    assert "were trained for" not in caplog.text
    again = sources.load(tmp_path / "out")
    expected = quantized.restore(quantized.quantize(trained.weights, bits=trained.bits))
    np.testing.assert_array_equal(again.params["pooler"]["kernel"], expected["pooler"]["kernel"])


def test_a_conversion_with_other_bits_says_so(trained: Trained, tmp_path, caplog):
    write_bundle(trained.weights, tmp_path / "out", bits=8)
    assert f"were trained for convert int8 --bits {trained.bits}" in caplog.text


@pytest.mark.thorough
def test_with_noise_it_learns_resumes_with_the_same_bits_and_answers_in_all_its_integers(prepared, tmp_path):
    """A step rounds half of the layers' weights, drawn by seed and step; the scores are those of the whole file."""
    encoder = write_encoder(tmp_path / "encoder", prepared.tokenizer, ALBERT)
    config = recipe(write_sst2(tmp_path / "glue"), run={"steps": 0, "epochs": 12, "eval_every": 12, "keep_last": 9})
    config = dataclasses.replace(config, quantise=Quantise(4, noise=0.5))
    summary = finetune(config, str(tmp_path / "run"), encoder)
    assert summary["accuracy"] > 0.95
    assert summary["compute"] == "integers_4"
    weights = sources.load(tmp_path / "run")
    assert weights.trained_bits == 4
    logits, _ = open_task_model(str(tmp_path / "run"), weights).answer(EXAMPLES)
    built = build_onnx(weights, integer.per_token(quantized.quantize(weights, bits=4)))
    served = run_session(open_session(built.SerializeToString()), batch_of(weights, EXAMPLES))["logits"]
    assert (np.argmax(logits, -1) == served.argmax(-1)).all()
    steps = sorted(int(path.name) for path in (tmp_path / "run/checkpoints").iterdir() if path.name.isdigit())
    wanted = checkpoint.restore_params(tmp_path / "run/checkpoints")[0]
    for step in steps[len(steps) // 2 :]:
        shutil.rmtree(tmp_path / "run/checkpoints" / str(step))
    finetune(config, str(tmp_path / "run"), encoder)
    jax.tree.map(np.testing.assert_array_equal, checkpoint.restore_params(tmp_path / "run/checkpoints")[0], wanted)


# --- Refusals --------------------------------------------------------------------------------------------------------


def test_settings_that_no_file_has_are_refused():
    config = recipe("somewhere")
    with pytest.raises(UserError, match=r"quantise\.bits = 5 must be 4, 7 or 8"):
        check_finetune(dataclasses.replace(config, quantise=Quantise(bits=5)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"quantise\.noise = 0\.5 has no effect with quantise\.bits = 0"):
        check_finetune(dataclasses.replace(config, quantise=Quantise(noise=0.5)))
    half = dataclasses.replace(config.adapt, compute="bfloat16")
    with pytest.raises(UserError, match=r"adapt\.compute = bfloat16 does not go with quantise\.bits"):
        check_finetune(dataclasses.replace(config, adapt=half, quantise=Quantise(bits=7)))


def test_low_rank_pairs_are_refused(prepared, tmp_path):
    """They are multiplied in float32 in a file, and joined with the kernels in training."""
    model = dataclasses.replace(ALBERT, low_rank=2)
    encoder = write_encoder(tmp_path / "encoder", prepared.tokenizer, model)
    config = dataclasses.replace(recipe("somewhere"), quantise=Quantise(bits=7))
    with pytest.raises(UserError, match=r"has model\.low_rank = 2"):
        take_over(config, config.head, encoder)
