"""Integer products in ONNX: how many, that they are right, and what a row depends on."""

import dataclasses

import numpy as np
import pytest

from bertlite_jax.config import Head, Model
from bertlite_jax.convert import onnx_float, onnx_graph, onnx_integer, onnx_model, onnx_session, parameters, quantize
from bertlite_jax.convert.weights import Weights

TINY = Model(
    vocab_size=50,
    embed_size=8,
    hidden_size=16,
    num_layers=12,
    num_heads=2,
    ffn_size=32,
    max_positions=64,
    activation="gelu_erf",
    share="none",
    pair_classes=0,
)
ALBERT = dataclasses.replace(TINY, share="all", activation="gelu_tanh")
BERT = dataclasses.replace(TINY, embed_size=16)
DISTILBERT = dataclasses.replace(BERT, num_layers=6, token_types=0)
TWO_LABELS = Head()


def weights_of(model: Model, head: Head | None = None, seed: int = 0, std: float = 0.2) -> Weights:
    rng = np.random.default_rng(seed)
    flat = {}
    for path, shape in parameters.shapes(model, head).items():
        value = rng.normal(size=shape) * std
        flat[path] = (value + 1 if path.endswith("/scale") else value).astype(np.float32)
    return Weights(parameters.nest(flat), model, head)


def batch_of(model: Model, lengths: tuple[int, ...], width: int | None = None, seed: int = 1) -> dict[str, np.ndarray]:
    """Rows of random tokens of these lengths, padded to the longest or to `width`."""
    rng = np.random.default_rng(seed)
    width = width or max(lengths)
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    ids = rng.integers(5, model.vocab_size, mask.shape) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}


def run(model, batch: dict[str, np.ndarray]) -> np.ndarray:
    session = onnx_session.open_session(model.SerializeToString(), threads=1)
    return next(iter(onnx_session.answer(session, batch).values()))


@pytest.mark.parametrize(
    ("model", "head", "count"),
    [
        (BERT, TWO_LABELS, 74),  # 12 x 6, pooler, classifier
        (DISTILBERT, dataclasses.replace(TWO_LABELS, activation="relu"), 38),  # 6 x 6, pre-classifier, classifier
        (ALBERT, TWO_LABELS, 75),  # and the projection of the embeddings
    ],
)
@pytest.mark.parametrize("kind", [onnx_integer.per_tensor, onnx_integer.per_token])
def test_every_product_with_weights_is_one_of_integers(model, head, count, kind):
    weights = weights_of(model, head)
    built = onnx_model.build(weights, kind(quantize.quantize(weights)))
    assert onnx_integer.integer_products(built) == count


def test_per_tensor_products_become_the_operators_of_onnx_runtime():
    """12 x (q, k, v) share one quantised input; the other 38 quantise theirs themselves."""
    weights = weights_of(BERT, TWO_LABELS)
    built = onnx_model.build(weights, onnx_integer.per_tensor(quantize.quantize(weights)))
    fused = onnx_session.fused(built.SerializeToString())
    assert (fused["MatMulIntegerToFloat"], fused["DynamicQuantizeMatMul"]) == (36, 38)
    assert "MatMulInteger" not in fused
