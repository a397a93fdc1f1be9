"""What of a model becomes integers of how many bits, and the file is the container."""

import dataclasses

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import tiny

from bertlite_jax.config.int8 import Bits
from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.huggingface import folder
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.errors import UserError
from bertlite_jax.model.ops.integer_grid import quantize_weights

MODEL = tiny.model(vocab_multiple=16, num_layers=4, max_positions=12, share_groups=2)


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


def test_kernels_have_a_scale_a_column_and_tables_a_scale_a_row():
    container = quantized.quantize(weights_of(MODEL))
    assert container.scales["embeddings/word/embedding"].shape == (50,)
    assert container.scales["layers/1/ffn/up/kernel"].shape == (32,)
    assert container.scales["projection/kernel"].shape == (16,)


def test_norms_and_biases_stay_as_they_are():
    weights = weights_of(MODEL)
    container = quantized.quantize(weights)
    trimmed = quantized.unstack(parameters.trim_vocabulary(parameters.flatten(weights.params), MODEL))
    kinds = {path.rsplit("/", 1)[-1] for path in container.floats}
    assert kinds == {"bias", "scale"}
    for path, value in container.floats.items():
        np.testing.assert_array_equal(value, trimmed[path])


def test_every_parameter_stands_once_and_padded_rows_not_at_all():
    container = quantized.quantize(weights_of(MODEL))
    shapes = parameters.shapes(dataclasses.replace(MODEL, vocab_multiple=1))
    found = {path: value.shape for path, value in quantized.stack(container.integers | container.floats, MODEL).items()}
    assert found == shapes


def test_the_file_gives_the_container_back(tmp_path):
    container = quantized.quantize(weights_of(MODEL), leave_out=("pooler", "pair"))
    size = quantized.save(container, tmp_path / "model.int8.safetensors")
    assert size == (tmp_path / "model.int8.safetensors").stat().st_size
    read = quantized.load(tmp_path / "model.int8.safetensors")
    assert (read.model, read.bits) == (container.model, 7)
    for part in ("integers", "scales", "floats"):
        before, after = getattr(container, part), getattr(read, part)
        assert before.keys() == after.keys()
        for path in before:
            np.testing.assert_array_equal(before[path], after[path])
            assert before[path].dtype == after[path].dtype
    assert [path.name for path in tmp_path.iterdir()] == ["model.int8.safetensors"]


def test_integers_of_four_bits_are_stored_two_to_a_byte(tmp_path):
    """5 x 5 of a tiny head do not fit in pairs; it has 7 bits anyway. The kernels of layers have half a byte each."""
    weights = weights_of(MODEL)
    container = quantized.quantize(weights, bits=4)
    whole, packed = quantized.quantize(weights), tmp_path / "four"
    kernels = [path for path in container.integers if path.startswith(("layers/", "pooler"))]
    saved = quantized.save(whole, tmp_path / "seven") - quantized.save(container, packed)
    assert abs(saved - sum(container.integers[path].size for path in kernels) / 2) < 2000  # The manifest says which.
    read = quantized.load(packed)
    assert read.bits == 4
    for path, integers in container.integers.items():
        np.testing.assert_array_equal(read.integers[path], integers)
    for path in kernels:
        assert (container.integers[path].min(), container.integers[path].max()) in {(-8, 7), (-8, 6), (-7, 7)}


def test_a_packed_tensor_of_another_size_is_named(tmp_path):
    quantized.save(quantized.quantize(weights_of(MODEL), bits=4), tmp_path / "weights")
    tensors, facts = {}, {}
    with safetensors.safe_open(tmp_path / "weights", framework="numpy") as file:
        tensors, facts = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    tensors["pooler/kernel"] = tensors["pooler/kernel"][:-1]
    safetensors.numpy.save_file(tensors, tmp_path / "weights", facts)
    with pytest.raises(UserError, match="wrong shape: pooler/kernel"):
        quantized.load(tmp_path / "weights")


def test_dequantized_weights_are_close_and_quantizing_them_again_moves_them_by_a_step_at_most(tmp_path):
    weights = weights_of(MODEL)
    container = quantized.quantize(weights)
    quantized.save(container, tmp_path / "weights")
    restored = quantized.to_weights(quantized.load(tmp_path / "weights"))
    for largest, mean in quantized.errors(weights, container).values():
        assert 0 < largest <= 0.501 / 63  # two equal neighbours; a scale is rounded up by at most 1 / 1024
        assert 0 < mean < 0.02
    again = quantized.quantize(restored)
    for path, integers in container.integers.items():
        assert np.abs(integers.astype(int) - again.integers[path]).max() <= 1


def test_albert_base_fits_in_twelve_megabytes(tmp_path):
    """11,813,810 parameters at a byte each, and scales and biases at four: below 12.2 MB."""
    model = Model()
    rng = np.random.default_rng(0)
    flat = {path: rng.normal(size=shape).astype(np.float32) for path, shape in parameters.shapes(model).items()}
    size = quantized.save(quantized.quantize(Weights(parameters.nest(flat), model)), tmp_path / "weights")
    assert 11_813_810 < size < 12_200_000


def test_parts_that_are_left_out_stay_float():
    weights = weights_of(MODEL)
    container = quantized.quantize(weights, leave_out=("pooler", "layers.ffn"))
    for group in (0, 1):
        np.testing.assert_array_equal(
            container.floats[f"layers/{group}/ffn/up/kernel"], weights.params["layers"]["ffn"]["up"]["kernel"][group]
        )
    assert "pooler/kernel" in container.floats
    assert "pair/kernel" in container.integers


def test_what_was_trained_rounded_stays_so_where_a_part_is_left_out_or_has_other_bits():
    """Only the rounded numbers were trained to answer: float parts hold them, and 8 bits are within half a step."""
    weights = dataclasses.replace(weights_of(MODEL), trained_bits=4)
    trained = quantized.restore(quantized.quantize(weights, bits=4))["layers"]["ffn"]["up"]["kernel"]
    left_out = quantized.quantize(weights, bits=4, leave_out=("layers.1.ffn.up",))
    np.testing.assert_array_equal(left_out.floats["layers/1/ffn/up/kernel"], trained[1])
    finer = quantized.quantize(weights, bits=8)
    off = quantized.restore(finer)["layers"]["ffn"]["up"]["kernel"][1] - trained[1]
    assert (np.abs(off) <= 0.501 * finer.scales["layers/1/ffn/up/kernel"]).all()


def test_one_layer_or_one_product_of_it_can_be_left_out(tmp_path):
    container = quantized.quantize(weights_of(MODEL), leave_out=("layers.1.ffn.down", "layers/0/attention"))
    quantized.save(container, tmp_path / "weights")
    read = quantized.load(tmp_path / "weights")
    kernels = {path.removesuffix("/kernel") for path in read.floats if path.endswith("kernel")}
    of_attention = {f"layers/0/attention/{part}" for part in ("query", "key", "value", "output")}
    assert kernels == {"layers/1/ffn/down"} | of_attention


def test_layers_ten_and_one_are_told_apart():
    assert quantized.belongs("layers/1/ffn/up/kernel", "layers.1")
    assert not quantized.belongs("layers/10/ffn/up/kernel", "layers.1")


def test_tables_that_nothing_is_multiplied_with_have_all_eight_bits():
    """The word table is part of a product if the masked-LM head decodes with it, and not under a task head."""
    word, position = "embeddings/word/embedding", "embeddings/position/embedding"
    pretrained = weights_of(MODEL)
    task = weights_of(dataclasses.replace(MODEL, pair_classes=0), Head())
    cases: tuple[tuple[Weights, Bits], ...] = ((pretrained, 7), (task, 8))
    for weights, bits in cases:
        container = quantized.quantize(weights)
        flat = parameters.trim_vocabulary(parameters.flatten(weights.params), weights.model)
        np.testing.assert_array_equal(container.integers[word], quantize_weights(flat[word], -1, bits)[0])
        np.testing.assert_array_equal(container.integers[position], quantize_weights(flat[position], -1, 8)[0])
        assert (quantize_weights(flat[word], -1, 7)[0] != quantize_weights(flat[word], -1, 8)[0]).any()


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
    quantized.save(quantized.quantize(weights), tmp_path / "weights")
    read = quantized.to_weights(quantized.load(tmp_path / "weights"))
    assert read.head == head
    trimmed = parameters.shapes(dataclasses.replace(model, vocab_multiple=1), head)
    assert {path: value.shape for path, value in parameters.flatten(read.params).items()} == trimmed


def test_transformers_reads_the_integers_times_their_scales(tmp_path):
    """The dequantised weights as a folder of transformers, read by PyTorch: the same numbers, bit for bit."""
    transformers = pytest.importorskip("transformers")
    model = dataclasses.replace(MODEL, embed_size=16, share="none", share_groups=1, activation="gelu_erf")
    container = quantized.quantize(weights_of(model))
    quantized.save(container, tmp_path / "weights")
    folder.to_hf(quantized.to_weights(quantized.load(tmp_path / "weights")), tmp_path / "hf")
    theirs = transformers.AutoModelForPreTraining.from_pretrained(tmp_path / "hf").state_dict()
    ours = container.integers["layers/3/ffn/up/kernel"] * container.scales["layers/3/ffn/up/kernel"]
    np.testing.assert_array_equal(theirs["bert.encoder.layer.3.intermediate.dense.weight"].numpy(), ours.T)
    words = container.integers["embeddings/word/embedding"] * container.scales["embeddings/word/embedding"][:, None]
    np.testing.assert_array_equal(theirs["bert.embeddings.word_embeddings.weight"].numpy(), words)


def test_a_misspelt_part_is_refused():
    with pytest.raises(UserError, match="no parameter starts with poler"):
        quantized.quantize(weights_of(MODEL), leave_out=("poler",))


def test_broken_weights_are_named():
    weights = weights_of(MODEL)
    weights.params["pooler"]["kernel"][0, 0] = np.nan
    with pytest.raises(UserError, match="NaN or infinity in pooler/kernel"):
        quantized.quantize(weights)


def test_an_existing_file_is_kept_unless_asked(tmp_path):
    container = quantized.quantize(weights_of(MODEL))
    quantized.save(container, tmp_path / "weights")
    with pytest.raises(UserError, match="exists; pass --overwrite"):
        quantized.save(container, tmp_path / "weights")
    quantized.save(container, tmp_path / "weights", overwrite=True)


def test_a_truncated_or_foreign_file_is_one_clear_line(tmp_path):
    quantized.save(quantized.quantize(weights_of(MODEL)), tmp_path / "weights")
    whole = (tmp_path / "weights").read_bytes()
    (tmp_path / "short").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="short is damaged"):
        quantized.load(tmp_path / "short")
    with pytest.raises(UserError, match="does not exist"):
        quantized.load(tmp_path / "nothing")


@pytest.mark.parametrize("share", [0.7, 0.85, 0.999])
def test_four_changed_bytes_are_found(share, tmp_path):
    """The file is what people serve from; a changed integer is still an integer."""
    path = tmp_path / "weights"
    size = quantized.save(quantized.quantize(weights_of(MODEL)), path)
    with path.open("r+b") as file:
        file.seek(int(size * share) - 4)
        file.write(b"ZZZZ")
    with pytest.raises(UserError, match="is damaged: the SHA-256 of its tensors is not the stated one"):
        quantized.load(path)
