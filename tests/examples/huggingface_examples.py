"""Small models with drawn parameters, for the tests of folders of transformers."""

import dataclasses

import numpy as np

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.weights import parameters

SHARED = Model(
    vocab_size=211,
    embed_size=16,
    hidden_size=32,
    num_layers=4,
    num_heads=4,
    ffn_size=48,
    max_positions=96,
    norm_epsilon=1e-12,
)
UNSHARED = dataclasses.replace(SHARED, embed_size=32, share="none", activation="gelu_erf")
HEADLESS = dataclasses.replace(UNSHARED, token_types=0, pooler=False, pair_classes=0)


def random_params(model: Model, seed: int = 0, head: Head | None = None) -> dict:
    """Far from the initialisation, so that every bias, norm and activation matters. Padded rows are zero."""
    rng = np.random.default_rng(seed)
    flat = {}
    for path, shape in parameters.shapes(model, head).items():
        flat[path] = (rng.normal(size=shape) * 0.15 + path.endswith("scale")).astype(np.float32)
    for path in flat.keys() & {"embeddings/word/embedding", "mlm/bias"}:
        flat[path][model.vocab_size :] = 0
    return parameters.nest(flat)
