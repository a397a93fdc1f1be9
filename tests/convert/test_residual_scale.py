"""A residual factor is in the kernels of everything that is exported, and is taken out of them where that is asked."""

import dataclasses
import json
import pathlib
import sys
import types

import numpy as np
import pytest
import tensorflow_examples
import thorough
from export_targets import TARGETS, TEXT_LENGTH, files_of
from int8_examples import MODEL, trained_like, write_text
from onnx_examples import batch_of, drawn, flax_answer
from tensorflow_examples import released

from bertlite_jax.cli.main import main
from bertlite_jax.config.model import Head
from bertlite_jax.convert import adoption, sources, tensorflow
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.import_options import ImportOptions
from bertlite_jax.convert.int8 import ort_format
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Weights, save_weights
from bertlite_jax.errors import UserError

DEEP = dataclasses.replace(MODEL, share="all", num_layers=3, max_positions=64, residual_scale="depth")


def folded(weights: Weights) -> Weights:
    """The published model that computes the same: its kernels times the factor, written out here."""
    flat = parameters.flatten(weights.params)
    for path in ("attention/output/kernel", "attention/output/bias", "ffn/down/kernel", "ffn/down/bias"):
        flat[f"layers/{path}"] = flat[f"layers/{path}"] * np.float32(weights.model.residual_factor)
    model = dataclasses.replace(weights.model, residual_scale="published")
    return dataclasses.replace(weights, params=parameters.nest(flat), model=model)


# --- Out -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", thorough.but([target for target in TARGETS if "int8" not in target], TARGETS))
def test_an_export_is_to_the_byte_that_of_the_model_with_the_factor_in_its_kernels(target: str, tmp_path: pathlib.Path):
    """The latter is compared with other programs to 1e-4 in tests of its own. Only the card tells of the factor."""
    weights, text = trained_like(tmp_path, DEEP), write_text(tmp_path)
    ours = files_of(target, weights, tmp_path / "scaled", text)
    theirs = files_of(target, folded(weights), tmp_path / "folded", text)
    cards = [files.pop("out/README.md", b"").decode() for files in (ours, theirs)]
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert ("residual_scale = depth" in cards[0]) == target.startswith("to-hf")
    assert "residual_scale" not in cards[1]


def test_a_file_for_phones_answers_like_that_of_the_model_with_the_factor_in_its_kernels(tmp_path):
    """ONNX Runtime writes this one, and its bytes differ from time to time."""
    weights, text = trained_like(tmp_path, DEEP), write_text(tmp_path)
    batch, found = batch_of(weights.model, [5, 9]), []
    for name, each in (("scaled", weights), ("folded", folded(weights))):
        place = tmp_path / f"{name}.ort"
        ort_format.write(each, place, [text], rows=16, length=TEXT_LENGTH, min_agreement=0)
        found.append(run_session(open_session(place), batch)["logits"])
    np.testing.assert_array_equal(*found)


def test_the_config_for_other_programs_has_nothing_of_ours(tmp_path):
    to_hf(trained_like(tmp_path, DEEP), tmp_path / "out")
    assert "residual" not in (tmp_path / "out" / "config.json").read_text()


def test_a_folder_of_our_own_keeps_parameters_and_factor_apart(tmp_path):
    """It is what a run starts from: nothing is rounded on the way."""
    weights = dataclasses.replace(drawn(DEEP), tokenizer=None)
    save_weights(weights, tmp_path / "out")
    read = sources.load(tmp_path / "out")
    assert read.model == DEEP
    wanted = parameters.flatten(weights.params)
    for path, value in parameters.flatten(read.params).items():
        np.testing.assert_array_equal(value, wanted[path])


def test_a_container_with_a_factor_beside_its_kernels_is_refused(tmp_path):
    """Nobody writes one: its integers would be multiplied twice, or never."""
    container = quantized.quantize(drawn(DEEP))
    assert container.model == DEEP.exported
    quantized.save(dataclasses.replace(container, model=DEEP), tmp_path / quantized.FILE)
    with pytest.raises(UserError, match=r"model.residual_scale = depth should be published$"):
        quantized.load(tmp_path / quantized.FILE)


# --- In --------------------------------------------------------------------------------------------------------------


def units_apart(back: dict, wanted: dict) -> int:
    """The most units in the last place between two sets of parameters."""
    ours, theirs = parameters.flatten(back), parameters.flatten(wanted)
    return max(int(np.testing.assert_array_max_ulp(ours[path], theirs[path], 1).max()) for path in theirs)


@pytest.mark.parametrize(("scale", "units"), [("published", 0), ("depth", 1), (0.25, 0), (0.3, 1)])
def test_an_imported_model_is_the_same_function_for_every_scale(scale, units, tmp_path):
    """In float32: the same logits, and back in transformers' form the same bits, or neighbours (1/3 and 0.3)."""
    published = drawn(dataclasses.replace(DEEP, residual_scale="published"))
    to_hf(published, tmp_path / "hf")
    adoption.import_hf(tmp_path / "hf", tmp_path / "ours", ImportOptions(residual_scale=scale))
    read = sources.load(tmp_path / "ours")
    assert read.model == dataclasses.replace(DEEP, residual_scale=scale)
    batch = batch_of(DEEP, [5, 9])
    np.testing.assert_allclose(flax_answer(read, batch)["logits"], flax_answer(published, batch)["logits"], atol=1e-5)
    assert units_apart(parameters.nest(parameters.exported(read.params, read.model)), published.params) == units


def test_a_checkpoint_of_google_research_is_imported_with_a_scale_too(tmp_path, monkeypatch):
    """Four applications, and 1/4 is a power of two: the kernels are four times those of the release."""
    variables = released("albert")
    reader = types.SimpleNamespace(
        get_variable_to_shape_map=lambda: {name: list(value.shape) for name, value in variables.items()},
        get_tensor=variables.__getitem__,
    )
    stub = types.SimpleNamespace(
        train=types.SimpleNamespace(load_checkpoint=lambda prefix: reader),
        errors=types.SimpleNamespace(OpError=ZeroDivisionError),
    )
    monkeypatch.setitem(sys.modules, "tensorflow", stub)
    (tmp_path / "model.ckpt.index").touch()
    (tmp_path / "albert_config.json").write_text(json.dumps(tensorflow_examples.ALBERT))
    plain = tensorflow.from_tf(tmp_path)
    adoption.import_tf(tmp_path, tmp_path / "ours", ImportOptions(residual_scale="depth"))
    read = sources.load(tmp_path / "ours")
    assert read.model == dataclasses.replace(plain.model, residual_scale="depth")
    assert units_apart(parameters.nest(parameters.exported(read.params, read.model)), plain.params) == 0
    kernels = [each.params["layers"]["ffn"]["down"]["kernel"] for each in (read, plain)]
    np.testing.assert_array_equal(kernels[0], 4 * kernels[1])


def test_the_command_takes_words_and_numbers_and_refuses_zero_in_one_line(tmp_path, capsys):
    to_hf(drawn(dataclasses.replace(DEEP, residual_scale="published")), tmp_path / "hf")
    for scale, read in (("depth", "depth"), ("0.5", 0.5)):
        out = tmp_path / scale
        assert main(["convert", "from-hf", str(tmp_path / "hf"), str(out), "--residual-scale", scale]) == 0
        assert sources.load(out).model.residual_scale == read
    capsys.readouterr()
    assert main(["convert", "from-hf", str(tmp_path / "hf"), str(tmp_path / "no"), "--residual-scale", "0"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == "convert: --residual-scale 0.0 must be published, depth, or a number from 1e-06 to 10"
    assert not (tmp_path / "no").exists()


# --- From one scale to another ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["published", "depth", 0.3])
@pytest.mark.parametrize("after", ["published", "depth", 2.0])
def test_weights_of_one_scale_are_those_of_another_with_other_kernels(before, after):
    first, second = (dataclasses.replace(DEEP, residual_scale=scale) for scale in (before, after))
    weights = drawn(first)
    other = Weights(parameters.rescaled(weights.params, first, second), second)
    batch = batch_of(DEEP, [5, 9])
    wanted = flax_answer(weights, batch)["logits"]
    np.testing.assert_allclose(flax_answer(other, batch)["logits"], wanted, atol=1e-5)
    assert (other.params is weights.params) == (before == after)


def test_the_factor_of_the_depth_goes_with_the_depth():
    """Three applications with a third and six with a sixth: as `run.depths` does it, the kernels stay."""
    three, six = DEEP, dataclasses.replace(DEEP, num_layers=6)
    params = drawn(three).params
    assert parameters.rescaled(params, three, six) is params


def test_a_task_head_is_scaled_with_its_encoder():
    """Fine-tuning starts from weights with their factor, and what it stores has it too."""
    head = Head("tag", ("O", "B"))
    model = dataclasses.replace(DEEP, pooler=False, pair_classes=0)
    weights = drawn(model, head)
    batch = batch_of(model, [5, 9])
    wanted = flax_answer(folded(weights), batch)["logits"]
    np.testing.assert_array_equal(flax_answer(weights, batch)["logits"], wanted)
