"""Integers and scales are within half a step of the weights, and the file is the container."""

import dataclasses

import numpy as np
import pytest

from bertlite_jax.config import Head, Model, UserError
from bertlite_jax.convert import huggingface, parameters, quantize
from bertlite_jax.convert.weights import Weights

MODEL = Model(
    vocab_size=50,
    vocab_multiple=16,
    embed_size=8,
    hidden_size=16,
    num_layers=4,
    num_heads=2,
    ffn_size=32,
    max_positions=12,
    share_groups=2,
)


def weights_of(model: Model, head: Head | None = None, seed: int = 0) -> Weights:
    """Random parameters; every channel has a magnitude of its own, as trained weights do. Padded rows are zero."""
    rng = np.random.default_rng(seed)
    flat = {}
    for path, shape in parameters.shapes(model, head).items():
        value = rng.normal(size=shape) * np.exp(rng.normal(size=shape[-1]))
        flat[path] = value.astype(np.float32)
    for path in flat.keys() & {"embeddings/word/embedding", "mlm/bias"}:
        flat[path][model.vocab_size :] = 0
    return Weights(parameters.nest(flat), model, head)


def test_a_worked_example_of_seven_bits():
    """Scale max(6.3 / 63, 3.2 / 64) = 0.1: 6.3 is 63 steps, -3.2 is -32, 0.04 rounds to 0 and 0.06 to 1."""
    values = np.array([[6.3, -3.2, 0.04, 0.06]])
    integers, scale = quantize.quantize_tensor(values, -1, 7)
    np.testing.assert_allclose(scale, [0.1], rtol=1e-3)
    assert integers.tolist() == [[63, -32, 0, 1]]


def test_the_negative_end_reaches_one_step_further():
    """-6.4 alone sets the scale 6.4 / 64 = 0.1 where 6.4 / 63 would be coarser."""
    integers, scale = quantize.quantize_tensor(np.array([[-6.4, 1.0]]), -1, 7)
    np.testing.assert_allclose(scale, [0.1], rtol=1e-3)
    assert integers.tolist() == [[-64, 10]]


@pytest.mark.parametrize("bits", [7, 8])
def test_values_stay_in_range_and_errors_within_half_a_step(bits):
    values = np.random.default_rng(1).standard_cauchy(size=(3, 40, 7)).astype(np.float32)
    integers, scale = quantize.quantize_tensor(values, -2, bits)
    assert scale.shape == (3, 7)
    assert integers.min() >= -(2 ** (bits - 1)) and integers.max() <= 2 ** (bits - 1) - 1
    off = np.abs(integers.astype(np.float64) * scale[:, None, :] - values)
    # The division is rounded once to the f32 scale, hence the small margin.
    assert (off <= 0.5001 * scale[:, None, :]).all()


def test_products_of_unsigned_activations_cannot_overflow_sixteen_bits():
    """vpmaddubsw adds two u8 x s8 products in int16: 2 x 255 x 64 fits, which 2 x 255 x 127 does not."""
    integers, _ = quantize.quantize_tensor(np.random.default_rng(2).normal(size=(64, 64)), -2, 7)
    assert 2 * 255 * int(np.abs(integers.astype(int)).max()) <= np.iinfo(np.int16).max


def test_zeros_and_denormal_numbers_come_back_finite():
    values = np.zeros((3, 4), np.float32)
    values[1] = 1e-42
    integers, scale = quantize.quantize_tensor(values, -1, 7)
    assert (scale > 0).all() and np.isfinite(scale).all()
    assert not integers[[0, 2]].any()


def test_kernels_have_a_scale_a_column_and_tables_a_scale_a_row():
    container = quantize.quantize(weights_of(MODEL))
    assert container.scales["embeddings/word/embedding"].shape == (50,)
    assert container.scales["layers/1/ffn/up/kernel"].shape == (32,)
    assert container.scales["projection/kernel"].shape == (16,)


def test_norms_and_biases_stay_as_they_are():
    weights = weights_of(MODEL)
    container = quantize.quantize(weights)
    trimmed = quantize.unstack(parameters.trim_vocabulary(parameters.flatten(weights.params), MODEL))
    kinds = {path.rsplit("/", 1)[-1] for path in container.floats}
    assert kinds == {"bias", "scale"}
    for path, value in container.floats.items():
        np.testing.assert_array_equal(value, trimmed[path])


def test_every_parameter_stands_once_and_padded_rows_not_at_all():
    container = quantize.quantize(weights_of(MODEL))
    shapes = parameters.shapes(dataclasses.replace(MODEL, vocab_multiple=1))
    found = {path: value.shape for path, value in quantize.stack(container.integers | container.floats).items()}
    assert found == shapes


def test_the_file_gives_the_container_back(tmp_path):
    container = quantize.quantize(weights_of(MODEL), leave_out=("pooler", "pair"))
    size = quantize.save(container, tmp_path / "model.int8.safetensors")
    assert size == (tmp_path / "model.int8.safetensors").stat().st_size
    read = quantize.load(tmp_path / "model.int8.safetensors")
    assert (read.model, read.bits) == (container.model, 7)
    for part in ("integers", "scales", "floats"):
        before, after = getattr(container, part), getattr(read, part)
        assert before.keys() == after.keys()
        for path in before:
            np.testing.assert_array_equal(before[path], after[path])
            assert before[path].dtype == after[path].dtype
    assert [path.name for path in tmp_path.iterdir()] == ["model.int8.safetensors"]


def test_dequantized_weights_are_close_and_quantizing_them_again_changes_nothing(tmp_path):
    weights = weights_of(MODEL)
    container = quantize.quantize(weights)
    quantize.save(container, tmp_path / "weights")
    restored = quantize.to_weights(quantize.load(tmp_path / "weights"))
    for largest, mean in quantize.errors(weights, container).values():
        assert 0 < largest <= 0.501 / 63  # a scale is rounded up by at most 1 / 1024
        assert 0 < mean < 0.02
    again = quantize.quantize(restored)
    for path, integers in container.integers.items():
        np.testing.assert_array_equal(integers, again.integers[path])


def test_eight_bits_are_about_twice_as_exact_as_seven():
    """Half the step; tables of a few numbers are left out, where chance decides."""
    weights = weights_of(MODEL)
    seven = quantize.errors(weights, quantize.quantize(weights))
    container = quantize.quantize(weights, bits=8)
    eight = quantize.errors(weights, container)
    large = [path for path in seven if path.endswith("kernel") and container.integers[path].size >= 128]
    assert len(large) >= 10
    assert all(1.6 < seven[path][1] / eight[path][1] < 2.4 for path in large)


def test_albert_base_fits_in_twelve_megabytes(tmp_path):
    """11,813,810 parameters at a byte each, and scales and biases at four: below 12.2 MB."""
    model = Model()
    rng = np.random.default_rng(0)
    flat = {path: rng.normal(size=shape).astype(np.float32) for path, shape in parameters.shapes(model).items()}
    size = quantize.save(quantize.quantize(Weights(parameters.nest(flat), model)), tmp_path / "weights")
    assert 11_813_810 < size < 12_200_000


def test_parts_that_are_left_out_stay_float():
    weights = weights_of(MODEL)
    container = quantize.quantize(weights, leave_out=("pooler", "layers.ffn"))
    for group in (0, 1):
        np.testing.assert_array_equal(
            container.floats[f"layers/{group}/ffn/up/kernel"], weights.params["layers"]["ffn"]["up"]["kernel"][group]
        )
    assert "pooler/kernel" in container.floats and "pair/kernel" in container.integers


def test_one_layer_or_one_product_of_it_can_be_left_out(tmp_path):
    container = quantize.quantize(weights_of(MODEL), leave_out=("layers.1.ffn.down", "layers/0/attention"))
    quantize.save(container, tmp_path / "weights")
    read = quantize.load(tmp_path / "weights")
    kernels = {path.removesuffix("/kernel") for path in read.floats if path.endswith("kernel")}
    of_attention = {f"layers/0/attention/{part}" for part in ("query", "key", "value", "output")}
    assert kernels == {"layers/1/ffn/down"} | of_attention


def test_layers_ten_and_one_are_told_apart():
    assert quantize.belongs("layers/1/ffn/up/kernel", "layers.1")
    assert not quantize.belongs("layers/10/ffn/up/kernel", "layers.1")


def test_tables_that_nothing_is_multiplied_with_have_all_eight_bits():
    """The word table is multiplied with where the masked-LM head decodes with it, and not under a task head."""
    pretrained = quantize.quantize(weights_of(MODEL))
    task = quantize.quantize(weights_of(dataclasses.replace(MODEL, pair_classes=0), Head()))
    for container, steps in ((pretrained, 64), (task, 128)):
        assert np.abs(container.integers["embeddings/word/embedding"].astype(int)).max() in (steps, steps - 1)
        assert np.abs(container.integers["embeddings/position/embedding"].astype(int)).max() in (127, 128)


@pytest.mark.parametrize(
    "head",
    [
        Head(labels=("no", "yes"), hidden=(5,)),
        Head(kind="choose"),
        Head(kind="tag", labels=("O", "B", "I")),
        Head(kind="span"),
    ],
    ids=lambda head: head.kind,
)
def test_a_task_head_travels_with_the_weights(head, tmp_path):
    model = dataclasses.replace(MODEL, pooler=head.pooled, pair_classes=0)
    weights = weights_of(model, head)
    quantize.save(quantize.quantize(weights), tmp_path / "weights")
    read = quantize.to_weights(quantize.load(tmp_path / "weights"))
    assert read.head == head
    trimmed = parameters.shapes(dataclasses.replace(model, vocab_multiple=1), head)
    assert {path: value.shape for path, value in parameters.flatten(read.params).items()} == trimmed


def test_transformers_reads_the_integers_times_their_scales(tmp_path):
    """The dequantised weights as a folder of transformers, read by PyTorch: the same numbers, bit for bit."""
    transformers = pytest.importorskip("transformers")
    model = dataclasses.replace(MODEL, embed_size=16, share="none", share_groups=1, activation="gelu_erf")
    container = quantize.quantize(weights_of(model))
    quantize.save(container, tmp_path / "weights")
    huggingface.to_hf(quantize.to_weights(quantize.load(tmp_path / "weights")), tmp_path / "hf")
    theirs = transformers.AutoModelForPreTraining.from_pretrained(tmp_path / "hf").state_dict()
    ours = container.integers["layers/3/ffn/up/kernel"] * container.scales["layers/3/ffn/up/kernel"]
    np.testing.assert_array_equal(theirs["bert.encoder.layer.3.intermediate.dense.weight"].numpy(), ours.T)
    words = container.integers["embeddings/word/embedding"] * container.scales["embeddings/word/embedding"][:, None]
    np.testing.assert_array_equal(theirs["bert.embeddings.word_embeddings.weight"].numpy(), words)


def test_a_misspelt_part_is_refused():
    with pytest.raises(UserError, match="no parameter starts with poler"):
        quantize.quantize(weights_of(MODEL), leave_out=("poler",))


def test_broken_weights_are_named():
    weights = weights_of(MODEL)
    weights.params["pooler"]["kernel"][0, 0] = np.nan
    with pytest.raises(UserError, match="not finite: pooler/kernel"):
        quantize.quantize(weights)


def test_an_existing_file_is_kept_unless_asked(tmp_path):
    container = quantize.quantize(weights_of(MODEL))
    quantize.save(container, tmp_path / "weights")
    with pytest.raises(UserError, match="exists; pass --overwrite"):
        quantize.save(container, tmp_path / "weights")
    quantize.save(container, tmp_path / "weights", overwrite=True)


def test_a_truncated_or_foreign_file_is_one_clear_line(tmp_path):
    quantize.save(quantize.quantize(weights_of(MODEL)), tmp_path / "weights")
    whole = (tmp_path / "weights").read_bytes()
    (tmp_path / "short").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="short is damaged"):
        quantize.load(tmp_path / "short")
    with pytest.raises(UserError, match="does not exist"):
        quantize.load(tmp_path / "nothing")
