"""A student that is distilled for a file of integers: trained as served, its teacher in floats."""

import dataclasses
import json
import pathlib
import shutil
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
import tiny
from run_files import lines_of, losses_of

from bertlite_jax.config.distillation.checks import check_distill
from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.effects import replaced
from bertlite_jax.config.int8 import Bits, Int8Options, Quantise
from bertlite_jax.config.model import Model
from bertlite_jax.convert import sources
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.int8.convert import int8
from bertlite_jax.convert.weights import quantized
from bertlite_jax.convert.weights.folder import Weights, load_weights, save_weights
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering.embed import open_encoder
from bertlite_jax.jobs.distilling import teachers
from bertlite_jax.jobs.distilling.distill import distill
from bertlite_jax.jobs.pretraining.evaluate import evaluate
from bertlite_jax.jobs.pretraining.fill_mask import fill_mask
from bertlite_jax.jobs.pretraining.step import init_params
from bertlite_jax.model import int8_encoder
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.ops import integer_grid, precision
from bertlite_jax.train import checkpoint

pytestmark = pytest.mark.usefixtures("compiled_once")

ALBERT = tiny.model(share="all", num_layers=4, init_std=0.3)
SHAPES = {
    "albert": ALBERT,
    "albert_with_a_factor": dataclasses.replace(ALBERT, residual_scale="depth"),
    "bert": tiny.model(share="none", embed_size=16, norm="pre", init_std=0.3, vocab_multiple=64),
    "words_projected": dataclasses.replace(ALBERT, embedding_order="project_then_sum"),
}


def quantised(config: Distill, bits: Bits | Literal[0] = 7) -> Distill:
    return dataclasses.replace(config, quantise=Quantise(bits=bits))


def drawn(model: Model) -> dict[str, Any]:
    """Parameters with biases and norms that are not 0 and 1."""
    rng = np.random.default_rng(1)
    params = init_params(PretrainingModel(model), jax.random.key(0))
    return jax.tree.map(lambda x: x + (0.1 * rng.normal(size=x.shape)).astype(np.float32), params)


# --- What a step computes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 7, 8])
@pytest.mark.parametrize("shape", thorough.but(["albert"], SHAPES))
def test_training_gives_the_logits_of_the_files_integers(shape, bits):
    """Encoder, head and tied decoder, beside `model/int8_encoder.py`, by which `evaluate --bits` computes a file's."""
    model = SHAPES[shape]
    params = drawn(model)
    rows = [jnp.asarray(tiny.ROWS[name]) for name in ("tokens", "segments", "positions", "token_types")]
    everywhere = jnp.broadcast_to(jnp.arange(12), rows[0].shape)
    trained = PretrainingModel(model, precision.of_bits(bits))
    logits, _ = jax.jit(trained.apply)({"params": params}, *rows, jnp.asarray(tiny.ROWS["cls"]), everywhere)
    container = quantized.quantize(Weights(params, model), bits=bits)

    @jax.jit
    def serve(params: Any) -> jax.Array:
        states = int8_encoder.hidden_states(params, container.model, *rows)
        return int8_encoder.masked_lm(params, container.model, states[-1])

    served, real = np.asarray(serve(quantized.jax_params(container))), np.asarray(rows[1]) > 0
    found = np.asarray(logits)[..., : model.vocab_size]
    # Sums of norms differ in their last bits, and where a state lies between two steps it may be rounded to the other:
    # in one of 25 draws a few tokens differ by up to a hundredth.
    off = np.abs(found - served)[real].max(axis=-1) / np.abs(served).max()
    assert (off > 1e-5).mean() < 0.25
    assert off.max() < 0.02
    floats = np.asarray(
        jax.jit(PretrainingModel(model).apply)({"params": params}, *rows, rows[0][:, :1], everywhere)[0]
    )
    assert np.abs(found - floats[..., : model.vocab_size])[real].max() > 1e-3 * np.abs(served).max()


def test_the_tied_table_is_rounded_once_and_learns_from_both_uses():
    """Its rows that are looked up are those that the decoder multiplies with: 7 bits, where a plain table has 8.

    Straight through, the gradient of a row is the sum of both uses; a piece that no row has learns by the decoder.
    """
    model, params = ALBERT, drawn(ALBERT)
    rows = [jnp.asarray(tiny.ROWS[name]) for name in ("tokens", "segments", "positions", "token_types")]
    network = PretrainingModel(model, "integers_7")

    integers, scales = integer_grid.quantize_weights(np.asarray(params["embeddings"]["word"]["embedding"]), -1, 7)
    looked_up = network.apply({"params": params}, method=lambda module: module.encoder.embeddings.word(np.arange(50)))
    np.testing.assert_array_equal(looked_up, integers * scales[:, None])

    def loss(params: Any) -> jax.Array:
        logits, _ = network.apply({"params": params}, *rows, rows[0][:, :1], rows[0][:, :1])
        return -jnp.sum(jax.nn.log_softmax(logits)[..., 7])

    slope = np.asarray(jax.jit(jax.grad(loss))(params)["embeddings"]["word"]["embedding"])
    assert (np.abs(slope).max(-1) > 0).all()


# --- What a run leaves -----------------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """A finished run."""

    run: pathlib.Path
    config: Distill
    weights: Weights


@pytest.fixture(scope="module")
def trained(prepared, teacher, compiled, tmp_path_factory) -> Trained:
    """Twelve steps of `tiny.distil` at 7 bits, with relations to learn too. Tests leave it as it is."""
    run = tmp_path_factory.mktemp("quantised") / "run"
    config = quantised(tiny.distil(prepared, teacher, relations_weight=1.0))
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, log_every=1))
    distill(config, str(run))
    return Trained(run, config, sources.load(run))


def test_a_run_learns_rounded_and_states_its_bits(trained: Trained, tmp_path):
    lines = [line for line in lines_of(trained.run) if "loss" in line]
    assert lines[-1]["loss"] < lines[0]["loss"]
    summary = json.loads((trained.run / "summary.json").read_text())
    assert summary["compute"] == "integers_7"
    assert trained.weights.trained_bits == 7
    save_weights(trained.weights, tmp_path / "folder")
    assert load_weights(tmp_path / "folder").trained_bits == 7


def test_the_valid_loss_is_that_of_the_file(trained: Trained):
    """Three ways to the same integers: the run's last line, `evaluate`, and `evaluate --bits 7`."""
    summary = json.loads((trained.run / "summary.json").read_text())
    for bits in (None, 7):
        found = evaluate(str(trained.run), rows=8, bits=bits)
        assert found["valid_mlm_loss"] == pytest.approx(summary["valid_mlm_loss"], abs=2e-5)
    other = evaluate(str(trained.run), rows=8, bits=4)["valid_mlm_loss"]
    assert abs(other - summary["valid_mlm_loss"]) > 2e-4


def test_its_files_are_those_of_the_integers_that_were_trained(trained: Trained, tmp_path, caplog):
    """`to-hf` writes their values, `convert int8` them; other bits are written with a line that says so."""
    container = quantized.quantize(trained.weights, bits=7)
    to_hf(trained.weights, tmp_path / "hf")
    exported = sources.load(tmp_path / "hf")
    expected = quantized.restore(container)
    for path in (("layers", "ffn", "up", "kernel"), ("embeddings", "word", "embedding"), ("mlm", "dense", "kernel")):
        ours, theirs = expected, exported.params
        for name in path:
            ours, theirs = ours[name], theirs[name]
        np.testing.assert_array_equal(theirs, ours, err_msg="/".join(path))
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(["alice was beginning to get very tired of sitting by her sister."] * 40))
    options = Int8Options(bits=7, length=32, rows=8, max_drop=1.0)
    figures = int8(trained.weights, tmp_path / "int8", [str(text)], options)
    assert (figures["bits"], figures["output"]) == (7, "fill-mask")
    assert "were trained for" not in caplog.text
    again = quantized.load(tmp_path / "int8" / quantized.FILE)
    for path, integers in container.integers.items():
        np.testing.assert_array_equal(again.integers[path], integers, err_msg=path)
    int8(trained.weights, tmp_path / "other", [str(text)], dataclasses.replace(options, bits=8))
    assert "were trained for convert int8 --bits 7" in caplog.text


def test_its_answers_and_vectors_are_those_of_the_integers(trained: Trained):
    ((first, *_),) = fill_mask(str(trained.run), "alice was [MASK] .", top=3)
    assert 0 < first[1] <= 1
    examples = [Example("1", "alice was beginning to get very tired"), Example("2", "down the rabbit hole")]
    encode, _, _ = open_encoder(trained.weights, str(trained.run), "cls")
    found = np.stack(encode(examples)[0].values)
    container = quantized.quantize(trained.weights, bits=7)
    tokenizer = load_tokenizer(trained.run / "tokenizer")
    for example, vector in zip(examples, found, strict=True):
        ids = np.array([[tokenizer.cls_id, *tokenizer.encode(example.text), tokenizer.sep_id]], np.int32)
        inputs = (ids, np.ones_like(ids), np.zeros_like(ids))
        served = int8_encoder.answer(quantized.jax_params(container), container.model, None, *map(jnp.asarray, inputs))
        np.testing.assert_allclose(vector, served["last_hidden_state"][0, 0], rtol=1e-4, atol=1e-4)


# --- Teacher, devices, interruptions ---------------------------------------------------------------------------------


def test_the_teacher_stays_in_floats(prepared, teacher, tmp_path):
    """A student with all of its layers, at no rate: what is left of the losses is the rounding of the student."""
    config = tiny.distil(prepared, teacher, start="first")
    model = dataclasses.replace(config.model, num_layers=4, hidden_dropout=0.0, attention_dropout=0.0)
    config = dataclasses.replace(config, model=model, run=dataclasses.replace(config.run, steps=1, log_every=1))
    config = replaced(replaced(config, "optim.warmup_steps", 0), "optim.learning_rate", 1e-12)
    soft = {}
    for bits in (0, 8, 4):
        distill(quantised(config, bits), str(tmp_path / str(bits)))
        (soft[bits],) = (line["soft_loss"] for line in lines_of(tmp_path / str(bits)) if "loss" in line)
    assert soft[0] < 1e-4 < soft[8] < soft[4]


def test_a_teacher_that_was_trained_rounded_teaches_what_it_answers(trained: Trained, prepared):
    """With the values of its integers, in floats; those before rounding were never trained to answer."""
    config = tiny.distil(prepared, str(trained.run))
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, tokenizer=prepared.tokenizer))
    found = teachers.open_teacher(str(trained.run), config, load_tokenizer(prepared.tokenizer)).params
    expected = quantized.restore(quantized.quantize(trained.weights, bits=7))
    np.testing.assert_array_equal(found["layers"]["ffn"]["up"]["kernel"], expected["layers"]["ffn"]["up"]["kernel"])


def test_a_run_that_lost_its_last_steps_makes_them_again_with_the_same_bits(trained: Trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained.run, run)
    for step in (8, 12):
        shutil.rmtree(run / "checkpoints" / str(step))
    distill(trained.config, str(run))
    assert losses_of(run) == losses_of(trained.run)
    ours, wanted = (checkpoint.restore_params(each / "checkpoints")[0] for each in (run, trained.run))
    jax.tree.map(np.testing.assert_array_equal, ours, wanted)


@pytest.mark.thorough
def test_with_noise_a_run_resumes_with_the_same_bits_and_is_evaluated_in_all_its_integers(trained: Trained, tmp_path):
    """Which weights a step rounds follows from seed and step; evaluation and file round all of them."""
    config = dataclasses.replace(trained.config, quantise=Quantise(7, noise=0.5))
    run = tmp_path / "run"
    distill(config, str(run))
    wanted, bits = losses_of(run), checkpoint.restore_params(run / "checkpoints")[0]
    assert wanted[1] != losses_of(trained.run)[1]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["compute"] == "integers_7"
    for number in (None, 7):
        found = evaluate(str(run), rows=8, bits=number)["valid_mlm_loss"]
        assert found == pytest.approx(summary["valid_mlm_loss"], abs=2e-5)
    for step in (8, 12):
        shutil.rmtree(run / "checkpoints" / str(step))
    distill(config, str(run))
    assert losses_of(run) == wanted
    jax.tree.map(np.testing.assert_array_equal, checkpoint.restore_params(run / "checkpoints")[0], bits)


@pytest.mark.thorough
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_devices_and_micro_batches_give_the_losses_of_one_batch(noise, prepared, teacher, losses_however_split):
    """A row's steps and a channel's scale follow from maxima, which are the same however they are split."""
    config = dataclasses.replace(tiny.distil(prepared, teacher, start="random"), quantise=Quantise(7, noise=noise))
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, steps=3, log_every=1, eval_every=0))
    config = replaced(replaced(config, "data.batch_rows", 16), "optim.warmup_steps", 0)
    found = losses_however_split(config)
    # A sum in another order may round an activation to the next step.
    np.testing.assert_allclose(found[1], found[0], rtol=2e-4)
    np.testing.assert_allclose(found[2], found[0], rtol=2e-4)


# --- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantise": {"bits": 5}}, r"quantise\.bits = 5 must be 4, 7 or 8"),
        ({"quantise": {"noise": 1.5}}, r"quantise\.noise = 1\.5 must lie between 0 .* and 1"),
        ({"quantise": {"noise": float("nan")}}, r"quantise\.noise = nan must be a finite number"),
        ({"quantise": {"bits": 0, "noise": 0.5}}, r"quantise\.noise = 0\.5 has no effect with quantise\.bits = 0"),
        ({"model": {"share": "all", "low_rank": 2}}, r"quantise\.bits is not for students with model\.low_rank = 2"),
        ({"model": {"attention": "cudnn"}}, r"model\.attention = cudnn multiplies bfloat16.*--model\.attention auto"),
    ],
    ids=str,
)
def test_what_no_file_holds_is_refused_in_one_line(changes, message, prepared):
    config = quantised(tiny.distil(prepared, "teacher"))
    for group, fields in changes.items():
        config = dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **fields)})
    with pytest.raises(UserError, match=message) as error:
        check_distill(config)
    assert "\n" not in str(error.value)
