"""Models of 12 layers of 16 with random weights, and rows of random tokens, for the tests of integer products."""

import dataclasses

import numpy as np
import tiny

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights

TINY = tiny.model(num_layers=12, max_positions=64, activation="gelu_erf", share="none", pair_classes=0)


ALBERT = dataclasses.replace(TINY, share="all", activation="gelu_tanh")


BERT = dataclasses.replace(TINY, embed_size=16)


DISTILBERT = dataclasses.replace(BERT, num_layers=6, token_types=0)


TWO_LABELS = Head()


def weights_of(model: Model, head: Head | None = None, seed: int = 0, std: float = 0.2) -> Weights:
    """Random weights; the scales of norms are around 1."""
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
