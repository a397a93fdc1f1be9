"""What benchmarks run on: bundled text, random weights of a preset, and rows of ids without padding."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

import bertlite_jax
from bertlite_jax.config import presets
from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.errors import UserError, fields_close_to
from bertlite_jax.jobs.benchmarks.runtimes.process import Batch
from bertlite_jax.jobs.benchmarks.runtimes.runtime import CHOICES, task_of

TEXT = pathlib.Path(bertlite_jax.__file__).parent / "quickstart_text"
"""The public-domain text that comes with the package."""


def known_preset(name: str, option: str = "bench: --preset") -> Model:
    """The preset of that name, in lower case. Raises UserError, which begins with `option`, if there is none."""
    known = {other.lower(): value for other, value in vars(presets).items() if isinstance(value, Model)}
    if name not in known:
        raise UserError(f"{option} {name} is unknown; {fields_close_to(name, list(known))}")
    return known[name]


def random_weights(model: Model, head: Head | None = None, seed: int = 0) -> Weights:
    """An untrained task model on an encoder of that shape; by default a classifier with two labels and a pooler.

    Kernels and tables are normal with the deviation that training starts from. Norms and biases scatter by as much, so
    that a runtime that forgets a bias or a scale is noticed.
    """
    plain = model.token_types == 0 and not model.pooler and model.norm_epsilon == 1e-12  # DistilBERT pools with a ReLU.
    head = head or Head("classify", ("negative", "positive"), activation="relu" if plain else "tanh")
    model = dataclasses.replace(model, pooler=head.pooled, pair_classes=0)
    generator = np.random.default_rng(seed)
    flat = {}
    for path, shape in parameters.shapes(model, head).items():
        values = generator.standard_normal(shape, dtype=np.float32) * np.float32(model.init_std)
        flat[path] = values + 1 if path.endswith("/scale") else values
    return Weights(parameters.nest(flat), model, head)


def make_rows(weights: Weights, length: int, count: int) -> np.ndarray:
    """Ids without padding, [count, length] int64: bundled text if the model has a tokenizer, else random ids."""
    if not weights.tokenizer:
        return np.random.default_rng(0).integers(5, weights.model.vocab_size, (count, length))
    from bertlite_jax.data.text import documents

    tokenizer, room = weights.tokenizer, length - 2  # [CLS] and [SEP] take two.
    ids: list[int] = []
    for sentence in documents.read_sentences([str(TEXT)]):
        ids += tokenizer.encode(sentence).tolist()
        if len(ids) >= count * room:
            break
    inner = np.resize(np.asarray(ids, np.int64), (count, room))
    cls, sep = (np.full((count, 1), special, np.int64) for special in (tokenizer.cls_id, tokenizer.sep_id))
    return np.concatenate([cls, inner, sep], axis=1)


def batches_of(weights: Weights, rows: np.ndarray, number: int) -> list[Batch]:
    """The rows in batches of `number`; a head that chooses gets each row beside its neighbour."""
    batches = []
    for start in range(0, len(rows) - number + 1, number):
        ids = rows[start : start + number]
        if task_of(weights) == "choose":
            ids = np.stack([np.roll(ids, shift, axis=-1) for shift in range(CHOICES)], axis=1)
        ids = np.ascontiguousarray(ids)
        batches.append({"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)})
    return batches
