"""Small models with random parameters, batches for them, and Flax's answers; for the tests of ONNX."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.task_heads import TaskModel

TINY = Model(
    vocab_size=45,
    vocab_multiple=16,
    embed_size=16,
    hidden_size=32,
    num_layers=4,
    num_heads=4,
    ffn_size=48,
    max_positions=512,
    share_groups=2,
)
"""An ALBERT of two groups, with three padded rows in its table."""


def drawn(model: Model = TINY, head: Head | None = None, seed: int = 0) -> Weights:
    """Weights with random values in every parameter, biases and norms included, so that a missing one shows."""
    generator = np.random.default_rng(seed)
    flat = {}
    for path, shape in parameters.shapes(model, head).items():
        value = 0.2 * generator.standard_normal(shape, dtype=np.float32)
        flat[path] = value + 1 if path.endswith("scale") else value
    for path in ("embeddings/word/embedding", "mlm/bias"):
        if path in flat:
            flat[path][model.vocab_size :] = 0
    return Weights(parameters.nest(flat), model, head)


def batch_of(model: Model, lengths: list[int], longest: int | None = None, pair: bool = False) -> dict[str, np.ndarray]:
    """Rows with these numbers of tokens, padded to `longest`; with `pair`, the second half has token type 1."""
    wide = longest or max(lengths)
    place = np.arange(wide)[None, :]
    rows = np.array(lengths)[:, None]
    mask = (place < rows).astype(np.int64)
    # The tokens of a row depend only on its length and their position.
    ids = (7 + 13 * place + 5 * rows + place * rows) % model.vocab_size * mask
    types = (place >= rows // 2) * mask if pair else np.zeros_like(mask)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def flax_answer(weights: Weights, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Hidden states, pooled state and logits [B, L, V], or of the task head, computed by the Flax modules."""
    ids, mask, types = (jnp.asarray(batch[name], jnp.int32) for name in batch)
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    cls = jnp.zeros((len(ids), 1), jnp.int32)
    params = jax.tree.map(jnp.asarray, weights.params)
    return jax.tree.map(np.asarray, _run(weights.model, weights.head)(params, ids, mask, positions, types, cls))


@functools.cache
def _run(model: Model, head: Head | None):
    module = TaskModel(model, head, "float32") if head else PretrainingModel(model, "float32")

    @jax.jit
    def run(params, ids, mask, positions, types, cls):
        variables, inputs = {"params": params}, (ids, mask, positions, types)
        hidden = module.apply(variables, *inputs, method=lambda m, *given: m.encoder(*given))
        found = {"hidden": hidden}
        if model.pooler:
            pooled: Any = module.apply(variables, hidden, cls, method="pooled")
            found["pooled"] = pooled[:, 0]
        if head:
            return found | {"logits": module.apply(variables, *inputs, cls)}
        logits, _ = module.apply(variables, *inputs, cls, positions)
        return found | {"logits": logits[..., : model.vocab_size]}

    return run
