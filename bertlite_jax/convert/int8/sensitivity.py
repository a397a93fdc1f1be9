"""Which parts lose most when quantised, and how a rounding error grows with depth: measured, in JAX.

Letters: B rows, L tokens, D hidden, N layers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.int8 import measuring_text
from bertlite_jax.convert.int8.measuring_text import Batch, Scored
from bertlite_jax.convert.onnx.model import Output
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.convert.weights.quantized import Container
from bertlite_jax.model import int8_encoder

Params = dict[str, Any]


class Loss(NamedTuple):
    """The effect of quantising one part alone, weights and activations.

    Attributes:
      part: as `leave_out` takes it: `layers.3`, `layers.ffn.down`, `pooler`, `embeddings.word`.
      divergence: `measuring_text.loss`: mean nats over the answers; 1 - cosine for vectors and amounts.
      metric: accuracy at masks with that part quantised; for other outputs, agreement with float32.
    """

    part: str
    divergence: float
    metric: float


class Depth(NamedTuple):
    """Integers against float32 after one application of a layer.

    Attributes:
      layer: how many layers were applied; 0 is the embeddings.
      cosine: mean over the hidden states of real tokens, or over the texts' vectors that are made of them.
      worst: the lowest of these cosines.
      top1: share of answers that stay the same when the head reads these states; None where the file has no head,
        or one that gives amounts.
    """

    layer: int
    cosine: float
    worst: float
    top1: float | None


# --- Parts -----------------------------------------------------------------------------------------------------------


def parts(container: Container, scored: Scored) -> list[str]:
    """The parts that can be left out as a whole: kinds of product over all layers, single layers, and the rest.

    Parts that the scored answers do not depend on are not among them.
    """
    kinds: dict[str, None] = {}
    layers: dict[str, None] = {}
    for path in filter(scored.uses, container.integers):
        at = path.rsplit("/", 1)[0]
        if not at.startswith("layers/"):
            kinds[at.replace("/", ".")] = None
            continue
        _, number, rest = at.split("/", 2)
        kinds[f"layers.{rest.replace('/', '.')}"] = None
        layers[f"layers.{number}"] = None
    return [*kinds, *(layers if len(layers) > 1 else ())]


def by_part(
    weights: Weights,
    container: Container,
    batches: Sequence[Batch],
    among: Sequence[str] | None = None,
    output: Output = "auto",
) -> list[Loss]:
    """Quantises one part at a time and measures; the part that loses most comes first.

    One compiled program serves all parts: the rounding of activations is a number in the parameters.

    Args:
      weights: float.
      container: the same weights quantised.
      batches: with `labels` where there are any. Best all of one shape, since each shape is compiled.
      among: parts to try; None: all of `parts`.
      output: as for `build_onnx`; what is scored.
    """
    scored = measuring_text.scored_output(weights, output)
    flat = quantized.unstack(parameters.exported(weights.params, weights.model))
    rounded = quantized.unstack(parameters.flatten(quantized.restore(container)))

    def measured(part: str | None) -> measuring_text.Outcome:
        return _run(simulate(flat, rounded, container, part), container.model, scored, batches)

    reference = measured(None)
    losses = []
    for part in parts(container, scored) if among is None else among:
        candidate = measured(part)
        divergence = measuring_text.loss(candidate, reference, scored)
        losses.append(Loss(part, divergence, measuring_text.metric(candidate, reference, scored)))
    return sorted(losses, key=lambda loss: -loss.divergence)


def simulate(flat: parameters.Flat, rounded: parameters.Flat, container: Container, part: str | None) -> Params:
    """f32 parameters for `model/int8_encoder.py` in which one part behaves as quantised.

    Args:
      flat: the exact parameters by stored name (`quantized.unstack`).
      rounded: the container's, restored to f32, by stored name.
      container: says which tensors are integers.
      part: as `leave_out` takes it; None: nothing is quantised.
    """
    single: dict[str, Any] = dict(flat)
    for path in container.integers:
        chosen = part is not None and quantized.belongs(path, part)
        if chosen:
            single[path] = rounded[path]
        at, leaf = path.rsplit("/", 1)
        if leaf == "kernel" or path == quantized.WORDS:
            zero = quantized.zero_point(quantized.anywhere(at), container.model.activation)
            single |= {f"{at}/zero": np.float32(zero), f"{at}/rounded": np.float32(chosen)}
    return parameters.nest(single)


def _run(params: Params, model: Model, scored: Scored, batches: Sequence[Batch]) -> measuring_text.Outcome:
    used = {part: value for part, value in params.items() if scored.uses(part)}

    def answer(batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        outputs = jax_answer(used, model, scored.head, batch)
        if scored.output == "sentence":
            states, mask = outputs["last_hidden_state"], batch["attention_mask"]
            outputs["sentence_embedding"] = measuring_text.sentence_vectors(states, mask, scored.sentence)
        return outputs

    return measuring_text.outcome(answer, batches, scored)


def jax_answer(params: Params, model: Model, head: Head | None, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Runs `model/int8_encoder.py` on a batch; the outputs have the names that an ONNX file of the model has."""
    ids = (jnp.asarray(batch[name], jnp.int32) for name in ("input_ids", "attention_mask", "token_type_ids"))
    folded = (each.reshape(-1, each.shape[-1]) for each in ids)
    outputs = {name: np.asarray(value) for name, value in int8_encoder.answer(params, model, head, *folded).items()}
    if head and head.kind == "span":
        outputs |= {"start_logits": outputs["logits"][..., 0], "end_logits": outputs["logits"][..., 1]}
    return outputs


# --- Depth -----------------------------------------------------------------------------------------------------------


def by_depth(weights: Weights, container: Container, batches: Sequence[Batch], output: Output = "auto") -> list[Depth]:
    """Hidden states after each application of a layer, per-token integers against float32: N + 1 rows.

    A shared layer rounds in the same way every time, so its error could grow with each application; this shows
    whether it does. For the output `sentence`, the vectors made from these states are compared.
    """
    scored = measuring_text.scored_output(weights, output)
    exact = parameters.nest(quantized.unstack(parameters.exported(weights.params, weights.model)))
    coarse = quantized.jax_params(container)
    cosines: list[list[np.ndarray]] = [[] for _ in range(container.model.num_layers + 1)]
    same: list[list[np.ndarray]] = [[] for _ in cosines]
    for batch in batches:
        args = [jnp.asarray(batch[name], jnp.int32) for name in ("input_ids", "attention_mask", "token_type_ids")]
        theirs = _states_and_answers(exact, container.model, scored, *args)
        ours = _states_and_answers(coarse, container.model, scored, *args)
        for layer, ((x, x_top), (y, y_top)) in enumerate(zip(theirs, ours, strict=True)):
            cosines[layer].append(measuring_text.cosines(*(_compared(each, batch, scored) for each in (x, y))))
            if x_top is not None and y_top is not None:
                equal = np.asarray(x_top) == np.asarray(y_top)
                # Answers for tokens are [B, L]; answers for texts have other shapes and no padding.
                per_token = scored.head is None or scored.head.kind == "tag"
                same[layer].append(equal[batch["attention_mask"] > 0] if per_token else equal.reshape(-1))
    rows = []
    for layer, (parts_of_layer, equal) in enumerate(zip(cosines, same, strict=True)):
        values = np.concatenate(parts_of_layer)
        top1 = float(np.concatenate(equal).mean()) if equal else None
        rows.append(Depth(layer, float(values.mean()), float(values.min()), top1))
    return rows


def _compared(states: jax.Array, batch: Batch, scored: Scored) -> np.ndarray:
    """The rows that are compared: states [B, L, D] of real tokens as [N, D], or the texts' vectors [B, D]."""
    if scored.output == "sentence":
        return measuring_text.sentence_vectors(np.asarray(states), batch["attention_mask"], scored.sentence)
    return np.asarray(states)[batch["attention_mask"] > 0]


@functools.partial(jax.jit, static_argnames=("model", "scored"))
def _states_and_answers(
    params: Params, model: Model, scored: Scored, ids: jax.Array, mask: jax.Array, types: jax.Array
) -> list[tuple[jax.Array, jax.Array | None]]:
    """For each depth the states [B, L, D] and the head's answers on them: [B, L], [B], [B, C], [B, 2] or None."""
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    states = int8_encoder.hidden_states(params, model, ids, mask, positions, types)
    return [(x, _top(params, model, scored, x, mask)) for x in states]


def _top(params: Params, model: Model, scored: Scored, x: jax.Array, mask: jax.Array) -> jax.Array | None:
    """The answer: the best piece or label, each label's yes or no, or where a span starts and ends."""
    if scored.vectors or scored.numbers:
        return None
    if scored.head is None:
        return jnp.argmax(int8_encoder.masked_lm(params, model, x), -1)
    logits = int8_encoder.task(params, scored.head, x)
    if scored.head.kind == "span":
        return jnp.argmax(jnp.where(mask[..., None] > 0, logits, -jnp.inf), 1)
    return logits > 0 if scored.head.problem == "multi_label" else jnp.argmax(logits, -1)
