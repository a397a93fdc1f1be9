"""A model in a mode of integers computes what `int8_encoder.py` computes from its quantised weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from integer_examples import ALBERT, BERT, DISTILBERT, batch_of, weights_of

from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.model import int8_encoder
from bertlite_jax.model.ops.precision import Compute, of_bits
from bertlite_jax.model.task_heads import TaskModel

SHARED = dataclasses.replace(ALBERT, num_layers=4, share_groups=2)
CASES = {
    "bert": (dataclasses.replace(BERT, num_layers=2), Head(labels=("no", "yes", "maybe"))),
    "albert": (SHARED, Head()),
    "distilbert": (
        dataclasses.replace(DISTILBERT, num_layers=2, activation="relu", pooler=False),
        Head(kind="tag", labels=("O", "B", "I"), activation="relu"),
    ),
    "albert_zh": (dataclasses.replace(SHARED, embedding_order="project_then_sum"), Head(kind="span")),
    "albert_deep": (dataclasses.replace(SHARED, residual_scale="depth", norm="pre", own_norms=True), Head(hidden=(6,))),
    "albert_own_ends": (dataclasses.replace(ALBERT, num_layers=5, own_first=1, own_last=2, depth_vector=True), Head()),
}


@pytest.mark.parametrize("bits", [4, 7, 8])
@pytest.mark.parametrize("case", CASES)
def test_it_answers_as_its_file(case, bits):
    model, head = CASES[case]
    weights = weights_of(dataclasses.replace(model, pooler=head.pooled), head)
    batch = {name: jnp.asarray(value, jnp.int32) for name, value in batch_of(model, (7, 3, 5, 6, 4, 8, 3, 6)).items()}
    ids, mask, types = (batch[name] for name in ("input_ids", "attention_mask", "token_type_ids"))
    positions, cls = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape), jnp.zeros((len(ids), 1), jnp.int32)
    trained = TaskModel(weights.model, head, of_bits(bits))
    ours = jax.jit(trained.apply)({"params": weights.params}, ids, mask, positions, types, cls)
    container = quantized.quantize(weights, bits=bits)
    served = int8_encoder.answer(quantized.jax_params(container), container.model, head, ids, mask, types)["logits"]
    ours = ours[:, 0] if head.pooled else ours
    real = np.ones(len(ids), bool) if head.pooled else np.asarray(mask) > 0
    off = np.abs(np.asarray(ours)[real] - np.asarray(served)[real]).max(-1)
    # Norms and activations between the products differ in their last bit, and once in 100,000 values that decides
    # between two steps, which changes all that follows in that text.
    assert np.median(off) < 1e-5
    assert off.max() < 0.2


def test_rounding_hardly_turns_the_gradients():
    """Straight through the whole model: what training follows is within a few degrees of the gradients of floats.

    The bias of the keys has none: it adds the same number to all scores of a query.
    """
    model, head = CASES["albert"]
    weights = weights_of(model, head, std=0.1)
    batch = {name: jnp.asarray(value, jnp.int32) for name, value in batch_of(model, (7, 9, 13, 12)).items()}
    ids, mask, types = (batch[name] for name in ("input_ids", "attention_mask", "token_type_ids"))
    positions, cls = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape), jnp.zeros((len(ids), 1), jnp.int32)

    def gradients(compute: Compute) -> dict[str, np.ndarray]:
        task = TaskModel(weights.model, head, compute)

        def loss(params):
            logits = jnp.asarray(task.apply({"params": params}, ids, mask, positions, types, cls))[:, 0]
            return -jnp.mean(jax.nn.log_softmax(logits)[:, 0])

        return parameters.flatten(jax.device_get(jax.jit(jax.grad(loss))(weights.params)))

    exact, found = gradients("float32"), gradients("integers_7")
    for path in exact.keys() - {"layers/attention/key/bias"}:
        cosine = np.vdot(exact[path], found[path]) / np.linalg.norm(exact[path]) / np.linalg.norm(found[path])
        assert cosine > 0.99, path
