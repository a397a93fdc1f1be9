"""What losses read of the teachers, by name: computed in the step, or stored once and read with the rows.

| name | shape | what |
|---|---|---|
| `soft/log_probs` | [B, M, V] | `losses.log_probs` of all teachers at the M tokens that are compared |
| `pair_soft/log_probs` | [B, P, C] | the same of the pair task |
| `0/states/4` | [B, L, T] | of teacher 0: hidden states after layer 4; 0 are the embeddings |
| `0/query/4`, `0/key/4`, `0/value/4` | [B, L, T] | of teacher 0: in layer 4, all heads side by side |

A store has `soft/log_probs` [B, M, k] of the k likeliest pieces, with `soft/ids` [B, M, k] and `soft/tail` [B, M]
(`losses.Top`); of all pieces, without those two.

Letters: B rows, L tokens, K predictions, M is K or L, P windows, V vocabulary, C pair classes, T width of a teacher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from bertlite_jax.config.distillation.settings import Distill, learnt_layers, losses_of
from bertlite_jax.config.model import Model
from bertlite_jax.train.distillation import losses
from bertlite_jax.train.step import Batch

Seen = Mapping[str, Any]
"""What a model shows of rows, by the names of `model/observed.py`."""
Targets = Mapping[str, Array]
SOFT, IDS, TAIL = "soft/log_probs", "soft/ids", "soft/tail"
PAIR_SOFT = "pair_soft/log_probs"
_PREFIX = "taught/"
"""Of their names among the arrays of a batch."""


def names_of(config: Distill, teachers: Sequence[Model]) -> dict[str, tuple[str, ...]]:
    """What each loss reads, in the order that it reads it; losses without a teacher are left out.

    Attention has query and key of each layer in turn, relations the queries of all teachers, then keys, then values.

    Args:
      config: losses and layers.
      teachers: their shapes.
    """
    first = teachers[0]
    layers = learnt_layers(config, first)
    kinds = ("query", "key", "value")
    relation = [config.distill.relation_layer or teacher.num_layers for teacher in teachers]
    names = {
        "soft": (SOFT,),
        "pair_soft": (PAIR_SOFT,),
        "cosine": (_name(0, "states", first.num_layers),),
        "states": tuple(_name(0, "states", number) for number in (0, *layers)),
        "attention": tuple(_name(0, kind, layer) for layer in layers for kind in kinds[:2]),
        "relations": tuple(_name(place, kind, layer) for kind in kinds for place, layer in enumerate(relation)),
    }
    return {loss: names[loss] for loss in losses_of(config) if loss in names}


def _name(teacher: int, kind: str, layer: int) -> str:
    return f"{teacher}/{kind}/{layer}"


def of_teachers(seen: Sequence[Seen], teachers: Sequence[Model], config: Distill) -> dict[str, Array]:
    """The targets of rows, without gradient.

    They are computed apart from what reads them, so that XLA rounds them here as where they are stored.

    Args:
      seen: what each teacher shows of the rows.
      teachers: their shapes.
      config: losses, layers, temperature.
    """
    wanted, temperature = losses_of(config), config.distill.temperature
    found: dict[str, Array] = {}
    if "soft" in wanted:
        logits = "masked_logits" if config.distill.soft_tokens == "masked" else "all_logits"
        found[SOFT] = losses.log_probs([each[logits] for each in seen], temperature)
    if "pair_soft" in wanted:
        found[PAIR_SOFT] = losses.log_probs([each["pair_logits"] for each in seen], temperature)
    for place, (each, teacher) in enumerate(zip(seen, teachers, strict=True)):
        found |= _of_layers(each, place, teacher, config)
    return jax.lax.optimization_barrier(jax.lax.stop_gradient(found))


def _of_layers(seen: Seen, place: int, teacher: Model, config: Distill) -> dict[str, Array]:
    """Hidden states, queries, keys and values of one teacher, in the order of its request."""
    wanted, layers = losses_of(config), learnt_layers(config, teacher)
    found = {_name(place, "states", teacher.num_layers): seen["hidden"]} if "cosine" in wanted else {}
    if "states" in wanted:
        found |= {_name(place, "states", n): state for n, state in zip((0, *layers), seen["states"], strict=True)}
    if "attention" in wanted:
        for layer, (query, key, _) in zip(layers, seen["projections"][: len(layers)], strict=True):
            found |= {_name(place, "query", layer): query, _name(place, "key", layer): key}
    if "relations" in wanted:
        layer = config.distill.relation_layer or teacher.num_layers
        kinds = zip(("query", "key", "value"), seen["projections"][-1], strict=True)
        found |= {_name(place, kind, layer): value for kind, value in kinds}
    return found


# --- Stored ----------------------------------------------------------------------------------------------------------


def to_store(targets: Targets, rows: Batch, config: Distill, top_k: int) -> dict[str, Array]:
    """What a store has of the targets. Where nothing is compared, numbers are the same in all rows.

    Args:
      targets: of `of_teachers`.
      rows: as the objective prepares them.
      config: with all sizes.
      top_k: pieces of each distribution, less than V; or V.
    """
    places, pieces = soft_places(rows, config) > 0, config.model.vocab_size
    stored: dict[str, Array] = {}
    for name, value in targets.items():
        if name == SOFT and top_k < pieces:
            top = losses.top_of(value[..., :pieces], top_k)
            stored[SOFT] = jnp.where(places[..., None], top.log_probs, 0.0)
            ids = jnp.where(places[..., None], top.ids, jnp.arange(top_k, dtype=jnp.int32)[None, None])
            stored[IDS] = ids.astype(jnp.uint16 if pieces <= 1 << 16 else jnp.uint32)
            stored[TAIL] = jnp.where(places, top.tail, 0.0)
        elif name == SOFT:
            stored[SOFT] = jnp.where(places[..., None], value[..., :pieces], 0.0)
        else:
            kept = rows["pair_weights"] if name == PAIR_SOFT else rows["segments"]
            stored[name] = jnp.where((kept > 0)[..., None], value, jnp.zeros((), value.dtype))
    return stored


def soft_places(rows: Batch, config: Distill) -> Real[Array, "B M"]:
    """Where predictions are compared: 1 there, else 0."""
    return rows["weights"] if config.distill.soft_tokens == "masked" else losses.token_weights(rows["segments"])


def in_batch(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Targets from a store by the names that a batch has them under."""
    return {_PREFIX + name: value for name, value in stored.items()}


def of_batch(rows: Batch) -> dict[str, Array]:
    """The targets that a batch brought from a store."""
    return {name.removeprefix(_PREFIX): value for name, value in rows.items() if name.startswith(_PREFIX)}


def soft_term(
    logits: Float[Array, "B M V"], targets: Targets, places: Real[Array, "B M"], temperature: float
) -> losses.Term:
    """The loss of predictions, whichever form the target has.

    Args:
      logits: of the student.
      targets: of all pieces, of the k likeliest, or of all but those that only fill up the vocabulary.
      places: of `soft_places`.
      temperature: T.
    """
    given = targets[SOFT]
    if IDS in targets:
        top = losses.Top(given, targets[IDS], targets[TAIL])
        return losses.top_cross_entropy(logits, top, places, temperature)
    return losses.soft_cross_entropy(logits, losses.widened(given, logits.shape[-1]), places, temperature)
