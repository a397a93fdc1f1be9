"""A model with a tokenizer and text of its own words, for the tests of INT8 folders."""

import dataclasses
import pathlib

import numpy as np
import tiny

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.vocabulary.tokenizer import train_tokenizer

MODEL = tiny.model(vocab_size=60, share="none", pair_classes=0)


WORDS = [
    "the",
    "lamp",
    "on",
    "desk",
    "had",
    "been",
    "lit",
    "since",
    "five",
    "and",
    "nobody",
    "knew",
    "why",
    "it",
    "was",
    "so",
    "very",
    "dark",
    "in",
    "that",
    "old",
    "house",
]


def write_text(folder: pathlib.Path) -> str:
    """Sixty documents of random common words."""
    rng = np.random.default_rng(0)
    documents = ["\n".join(" ".join(rng.choice(WORDS, 12)) + "." for _ in range(3)) for _ in range(60)]
    (folder / "text.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return str(folder / "text.txt")


def trained_like(folder: pathlib.Path, model: Model, head: Head | None = None, std: float = 0.3) -> Weights:
    """Random weights with a tokenizer of `model.vocab_size` pieces, learnt from the words above."""
    tokenizer = train_tokenizer([" ".join(WORDS)] * 3, folder / "tokenizer", model.vocab_size, "wordpiece")
    model = dataclasses.replace(model, vocab_size=tokenizer.vocab_size, pooler=head is None or head.pooled)
    rng = np.random.default_rng(0)
    flat = {}
    for path, shape in parameters.shapes(model, head).items():
        value = rng.normal(size=shape) * std
        flat[path] = (value + 1 if path.endswith("/scale") else value).astype(np.float32)
    return Weights(parameters.nest(flat), model, head, tokenizer)
