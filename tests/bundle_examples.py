"""Models of every kind that a bundle can hold, tiny and random."""

import dataclasses

import numpy as np
import tiny

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer

MODEL = tiny.model(vocab_size=300, max_positions=96, pair_classes=0)
POOLERLESS = dataclasses.replace(MODEL, pooler=False)
HEADS = {
    "fill_mask": None,
    "classify": Head(labels=("bad", "good", "so-so")),
    "labels": Head(labels=("rude", "short"), problem="multi_label"),
    "regress": Head(labels=("similarity",), problem="regression"),
    "choose": Head(kind="choose", labels=()),
    "tag": Head(kind="tag", labels=("O", "B-place", "I-place")),
    "span": Head(kind="span", labels=()),
}


def weights_of(prepared, kind: str) -> Weights:
    """Random weights with the head of `HEADS`."""
    head = HEADS[kind]
    return drawn(prepared, MODEL if head is None or head.pooled else POOLERLESS, head)


def drawn(prepared, model: Model, head: Head | None, seed: int = 0) -> Weights:
    """Random weights with a head and the tokenizer of the fixture `prepared`."""
    rng = np.random.default_rng(seed)
    shapes = parameters.shapes(model, head)
    flat = {path: rng.normal(size=shape, scale=0.3).astype(np.float32) for path, shape in shapes.items()}
    return Weights(parameters.nest(flat), model, head, load_tokenizer(prepared.tokenizer))
