"""A file within its budget that ONNX Runtime loads, with the answers of the float32 model."""

import pytest
from int8_examples import MODEL, trained_like, write_text

from bertlite_jax.config import presets
from bertlite_jax.config.model import Head
from bertlite_jax.convert.int8 import measuring_text, ort_format
from bertlite_jax.convert.onnx.session import open_session
from bertlite_jax.errors import UserError

LABELS = measuring_text.Scored("auto", Head())


def test_the_file_loads_and_gives_the_answers_of_float32(tmp_path):
    weights = trained_like(tmp_path, MODEL, Head(kind="tag", labels=("O", "B", "I")))
    figures = ort_format.write(weights, tmp_path / "m.ort", [write_text(tmp_path)], max_mb=1, rows=32, length=16)
    assert figures["bytes"] == (tmp_path / "m.ort").stat().st_size < 1e6
    assert figures["integer_products"] == 1 + 2 * 6 + 1  # projection, layers, head
    assert figures["top1_agreement"] >= 0.98
    assert [each.name for each in open_session(tmp_path / "m.ort").get_outputs()] == ["logits"]


def test_what_is_too_large_is_refused_with_what_would_fit(tmp_path):
    weights = trained_like(tmp_path, MODEL, Head())
    with pytest.raises(UserError, match=r"MB is more than --max-mb 0.01"):
        ort_format.write(weights, tmp_path / "m.ort", [write_text(tmp_path)], max_mb=0.01)
    assert not (tmp_path / "m.ort").exists()


def test_for_bert_base_fewer_layers_or_a_preset_are_suggested():
    """BERT-base has 109 MB in bytes; its embeddings alone 23.8 MB, so no depth fits 15 MB but ALBERT does."""
    suggestion = ort_format.what_fits(presets.BERT_BASE, LABELS, 15e6)
    assert "layers" not in suggestion
    assert "the preset" in suggestion
    suggestion = ort_format.what_fits(presets.BERT_BASE, LABELS, 60e6)
    # 23.8 MB of embeddings, 0.6 MB of pooler, and 7.1 MB a layer: (60 - 24.4) / 7.1 = 5.0, less the scales and nodes.
    assert "4 layers" in suggestion


def test_the_estimate_of_albert_base_is_its_size():
    """11.7 million parameters; the file of a two-label classifier was measured to have 12.1 MB."""
    assert ort_format.estimate_bytes(presets.ALBERT_BASE, LABELS) == pytest.approx(12.1e6, rel=0.02)
    assert ort_format.estimate_bytes(presets.ALBERT_BASE, LABELS) < 15e6


def test_another_suffix_is_refused(tmp_path):
    weights = trained_like(tmp_path, MODEL, Head())
    with pytest.raises(UserError, match=r"must end in .ort"):
        ort_format.write(weights, tmp_path / "m.onnx", ["text"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_mb": float("nan")}, "--max-mb nan must be a number above 0"),
        ({"max_mb": 0}, "--max-mb 0 must be a number above 0"),
        ({"max_mb": float("inf")}, "--max-mb inf"),
        ({"min_agreement": float("nan")}, "--min-agreement nan must be a number from 0 to 1"),
        ({"min_agreement": 1.5}, "--min-agreement 1.5"),
        ({"bits": 16}, "--bits 16 must be 7 or 8"),
    ],
)
def test_options_out_of_their_range_are_named_before_anything_is_read(options, message, tmp_path):
    weights = trained_like(tmp_path, MODEL, Head())
    with pytest.raises(UserError, match=f"^convert: {message}"):
        ort_format.write(weights, tmp_path / "m.ort", ["no such text"], **options)


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    weights = trained_like(tmp_path, MODEL, Head())
    (tmp_path / "m.ort").mkdir()
    with pytest.raises(UserError, match=r"m.ort is a folder and is not replaced; name a file"):
        ort_format.write(weights, tmp_path / "m.ort", ["text"], overwrite=True)


@pytest.mark.parametrize("output", ["states", "sentence"])
def test_vectors_are_compared_by_their_cosine_whatever_the_head(output, tmp_path):
    weights = trained_like(tmp_path, MODEL, Head())
    text = [write_text(tmp_path)]
    figures = ort_format.write(weights, tmp_path / "m.ort", text, output=output, rows=32, length=16)
    # Half of 32 windows of at most 16 tokens.
    assert figures["answers"] == 16 if output == "sentence" else 16 < figures["answers"] <= 16 * 16
    assert figures["top1_agreement"] is None
    assert 0.99 < figures["lowest_cosine"] < figures["cosine"] < 1
    assert f"cosine with float32: {figures['cosine']:.5f}, lowest" in ort_format.report(figures)
    with pytest.raises(UserError, match=r"the cosine with float32 is 0\.\d+, less than --min-agreement 1"):
        ort_format.write(weights, tmp_path / "n.ort", text, output=output, rows=32, length=16, min_agreement=1)


def test_the_estimate_is_of_what_the_file_holds():
    """ALBERT-base: 30,000 biases of the decoder in f32, its dense layer of 768 x 128; the pooler of 768 x 768."""
    sizes = {
        output: ort_format.estimate_bytes(presets.ALBERT_BASE, measuring_text.Scored(output, None))
        for output in ("fill-mask", "states", "sentence")
    }
    # kernel, its scales, biases and the norm; vocabulary biases.
    assert sizes["fill-mask"] - sizes["sentence"] == 768 * 128 + 4 * 128 + 3 * 4 * 128 + 4 * 30_000
    assert sizes["states"] - sizes["sentence"] == 768 * 768 + 2 * 4 * 768
