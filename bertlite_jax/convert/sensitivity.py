"""Which parts lose most as integers, and how one rounding error grows with depth: measured, in JAX.

Letters: B rows, L tokens, D hidden, N layers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.config import Head, Model
from bertlite_jax.convert import held_out, parameters, quantize
from bertlite_jax.convert.held_out import Batch
from bertlite_jax.convert.quantize import Container
from bertlite_jax.convert.weights import Weights
from bertlite_jax.model import integer

Params = dict[str, Any]


class Loss(NamedTuple):
    """What quantising one part alone, weights and activations, does.

    Attributes:
      part: as `leave_out` takes it: `layers.3`, `layers.ffn.down`, `pooler`, `embeddings.word`.
      divergence: nats, mean over what is answered; for a model without a head 1 - cosine of the states.
      metric: accuracy with that part quantised, or agreement with float32 without labels.
    """

    part: str
    divergence: float
    metric: float


class Depth(NamedTuple):
    """Integers against float32 after so many layers; 0 is the embeddings.

    Attributes:
      cosine, worst: of the hidden states of real tokens, mean and lowest.
      top1: share of tokens for which the head, put on these states, gives the same answer; None without a head.
    """

    layer: int
    cosine: float
    worst: float
    top1: float | None


# --- Parts -----------------------------------------------------------------------------------------------------------


def parts(container: Container) -> list[str]:
    """Everything that can be left out as a whole: kinds of product over all layers, single layers, and the rest."""
    found: dict[str, None] = {}
    layers: dict[str, None] = {}
    for path in container.integers:
        at = path.rsplit("/", 1)[0]
        if not at.startswith("layers/"):
            found[at.replace("/", ".")] = None
            continue
        _, number, rest = at.split("/", 2)
        found[f"layers.{rest.replace('/', '.')}"] = None
        layers[f"layers.{number}"] = None
    return [*found, *(layers if len(layers) > 1 else ())]


def by_part(
    weights: Weights, container: Container, batches: Sequence[Batch], among: Sequence[str] | None = None
) -> list[Loss]:
    """Quantises one part at a time and measures; the part that loses most first.

    One compiled program serves all parts: the rounding of activations is a number in the parameters.

    Args:
      weights: float.
      container: the same weights quantised.
      batches: all of one shape; with `labels` where there are any.
      among: parts to try; None: `parts(container)`.
    """
    flat = quantize.unstack(parameters.trim_vocabulary(parameters.flatten(weights.params), weights.model))
    rounded = quantize.unstack(parameters.flatten(quantize.restore(container)))

    def measured(part: str | None) -> held_out.Outcome:
        return _run(_simulated(flat, rounded, container, part), container.model, weights.head, batches)

    reference = measured(None)
    losses = []
    for part in parts(container) if among is None else among:
        found = measured(part)
        answers = weights.head is not None or found.labels is not None
        lost = held_out.divergence(found, reference) if answers else 1 - held_out.agreement(found, reference, None)
        losses.append(Loss(part, lost, held_out.metric(found, reference, weights.head)))
    return sorted(losses, key=lambda loss: -loss.divergence)


def _simulated(flat: parameters.Flat, rounded: parameters.Flat, container: Container, part: str | None) -> Params:
    """f32 parameters for `model/integer.py` in which `part` behaves as quantised."""
    single: dict[str, Any] = dict(flat)
    for path in container.integers:
        chosen = part is not None and quantize.belongs(path, part)
        if chosen:
            single[path] = rounded[path]
        at, leaf = path.rsplit("/", 1)
        if leaf == "kernel" or path == quantize.WORDS:
            zero = quantize.zero_point(quantize.anywhere(at), container.model.activation)
            single |= {f"{at}/zero": np.float32(zero), f"{at}/rounded": np.float32(chosen)}
    return parameters.nest(single)


def _run(params: Params, model: Model, head: Head | None, batches: Sequence[Batch]) -> held_out.Outcome:
    return held_out.outcome(functools.partial(jax_answer, params, model, head), batches, head)


def jax_answer(params: Params, model: Model, head: Head | None, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """`model/integer.py` on a batch, with the outputs of an ONNX file of the same model."""
    ids = (jnp.asarray(batch[name], jnp.int32) for name in ("input_ids", "attention_mask", "token_type_ids"))
    folded = (each.reshape(-1, each.shape[-1]) for each in ids)
    found = {name: np.asarray(value) for name, value in integer.answer(params, model, head, *folded).items()}
    if head and head.kind == "span":
        found |= {"start_logits": found["logits"][..., 0], "end_logits": found["logits"][..., 1]}
    return found


# --- Depth -----------------------------------------------------------------------------------------------------------


def by_depth(weights: Weights, container: Container, batches: Sequence[Batch]) -> list[Depth]:
    """Hidden states after each application of a layer, per-token integers against float32: N + 1 rows.

    A shared layer rounds in the same way every time, so its error could grow with each application; this shows
    whether it does.
    """
    flat = parameters.trim_vocabulary(parameters.flatten(weights.params), weights.model)
    exact = parameters.nest(quantize.unstack(flat))
    coarse = quantize.jax_params(container)
    cosines: list[list[np.ndarray]] = [[] for _ in range(container.model.num_layers + 1)]
    same: list[list[np.ndarray]] = [[] for _ in cosines]
    for batch in batches:
        real = batch["attention_mask"] > 0
        args = [jnp.asarray(batch[name], jnp.int32) for name in ("input_ids", "attention_mask", "token_type_ids")]
        theirs = _states_and_answers(exact, container.model, weights.head, *args)
        ours = _states_and_answers(coarse, container.model, weights.head, *args)
        for layer, ((x, x_top), (y, y_top)) in enumerate(zip(theirs, ours)):
            cosines[layer].append(_cosine(np.asarray(x)[real], np.asarray(y)[real]))
            if x_top is not None and y_top is not None:
                equal = np.asarray(x_top) == np.asarray(y_top)
                same[layer].append(equal[real] if equal.ndim == 2 else equal)
    rows = []
    for layer, (found, equal) in enumerate(zip(cosines, same)):
        values = np.concatenate(found)
        top1 = float(np.concatenate(equal).mean()) if equal else None
        rows.append(Depth(layer, float(values.mean()), float(values.min()), top1))
    return rows


@functools.partial(jax.jit, static_argnames=("model", "head"))
def _states_and_answers(
    params: Params, model: Model, head: Head | None, ids: jax.Array, mask: jax.Array, types: jax.Array
) -> list[tuple[jax.Array, jax.Array | None]]:
    """For each depth the states [B, L, D] and what the head answers on them: [B, L], [B], or None."""
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    states = integer.hidden_states(params, model, ids, mask, positions, types)

    def top(x: jax.Array) -> jax.Array | None:
        if head:
            return jnp.argmax(integer.task(params, head, x), -1)
        return jnp.argmax(integer.masked_lm(params, model, x), -1) if "mlm" in params else None

    return [(x, top(x)) for x in states]


def _cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sum(x * y, -1) / (np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1))
