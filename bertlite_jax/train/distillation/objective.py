"""The distillation objective over one device's rows: the teacher's view, the student's, and the losses between them.

Teacher and student read the same masked rows. The teacher's forward pass is part of the step, without dropout and
without gradient; or the rows bring what a store has of it (`targets.py`).

Letters: B rows, L tokens, S the student's width, T the teacher's, N layers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from bertlite_jax.config.distillation.settings import OWN, Distill, losses_of
from bertlite_jax.config.model import Model
from bertlite_jax.train.distillation import losses, targets
from bertlite_jax.train.distillation.targets import Seen, Targets
from bertlite_jax.train.pretraining import objective
from bertlite_jax.train.step import Batch, Loss, Prepare

Observe = Callable[[Any, Batch, Key[Array, " B"] | None], Seen]
"""(params, rows, dropout keys) -> what its model shows."""


def init_own(key: Key[Array, ""], student: int, teacher: int, std: float) -> dict[str, Any]:
    """The projection W [S, T] of hidden states, one for all layers; nothing where the widths are equal.

    Args:
      key: of the draw.
      student: S.
      teacher: T.
      std: deviation of the normal distribution.

    Source: Jiao et al. 2020 (arXiv 1909.10351), equation 8.
    """
    return {} if student == teacher else {OWN: {"width": {"kernel": std * jax.random.normal(key, (student, teacher))}}}


def projects(config: Distill) -> bool:
    """Whether hidden states are compared, so that different widths need a projection."""
    return bool({"cosine", "states"} & losses_of(config).keys())


def make_prepare(config: Distill, special_ids: Mapping[str, int]) -> Prepare:
    """Draws the masks as in pretraining, and counts what each loss divides by."""
    masks = objective.make_prepare(config, special_ids)
    wanted = losses_of(config)

    def prepare(key: Key[Array, ""], batch: Batch, updates: Int[Array, ""]) -> tuple[Batch, dict[str, Array]]:
        batch, weights = masks(key, batch, updates)
        masked_only = config.distill.soft_tokens == "masked"
        counts = {
            "soft": weights["mlm_weight"] if masked_only else weights["real_tokens"],
            "cosine": weights["real_tokens"],
            "states": weights["real_tokens"],
            "attention": pairs(batch["segments"], config.data.window_slots),
            "relations": weights["real_tokens"],
            "pair_soft": weights["pair_weight"],
        }
        return batch, weights | {f"{name}_weight": count for name, count in counts.items() if name in wanted}

    return prepare


def pairs(segments: Int[Array, "B L"], windows: int) -> Float[Array, ""]:
    """The pairs of tokens that see each other: the sum of squares of the windows' sizes."""
    sizes = jnp.sum(segments[:, None] == jnp.arange(1, windows + 1)[None, :, None], axis=-1, dtype=jnp.float32)
    return jnp.sum(sizes * sizes)


def make_loss(
    student: Observe, teachers: Sequence[Observe], models: Sequence[Model], config: Distill, relation_heads: int
) -> Loss:
    """The sum of the mean losses, each with its weight of the config and over the weights of the global batch.

    Args:
      student: shows what the losses need.
      teachers: the same; their parameters are the last arguments of the loss. None: the rows bring it.
      models: shapes of the teachers.
      config: losses, weights, temperature.
      relation_heads: R.
    """
    wanted = losses_of(config)

    def loss(
        params: Any, rows: Batch, weights: dict[str, Array], key: Key[Array, ""], *of_teachers: Any
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        shown = [teacher(frozen, rows, None) for teacher, frozen in zip(teachers, of_teachers, strict=True)]
        taught = targets.of_teachers(shown, models, config) if shown else targets.of_batch(rows)
        seen = student(params, rows, objective.dropout_keys(config.model, key, rows))
        names = targets.names_of(config, models)
        sums = _label_sums(seen, rows, wanted)
        sums |= _teacher_sums(seen, taught, names, rows, params, config, relation_heads)
        value = jnp.float32(0.0)
        for name, weight in wanted.items():
            value = value + weight * sums[f"{name}_sum"] / jnp.maximum(weights[f"{name}_weight"], 1.0)
        return value, sums

    return loss


def _label_sums(seen: Seen, rows: Batch, wanted: Mapping[str, float]) -> dict[str, Array]:
    """What is learnt from the text itself."""
    sums = objective.mlm_sums(seen["masked_logits"], rows) if "mlm" in wanted else {}
    return sums | (objective.pair_sums(seen["pair_logits"], rows) if "pair" in wanted else {})


def _teacher_sums(
    seen: Seen,
    taught: Targets,
    names: Mapping[str, Sequence[str]],
    rows: Batch,
    params: Any,
    config: Distill,
    relation_heads: int,
) -> dict[str, Array]:
    """What is learnt from the teachers; `names` of `targets.names_of`."""
    temperature, weights = config.distill.temperature, losses.token_weights(rows["segments"])
    read = {loss: [taught[name] for name in each] for loss, each in names.items()}
    sums = {}
    if "soft" in read:
        logits = "masked_logits" if config.distill.soft_tokens == "masked" else "all_logits"
        sums["soft_sum"], _ = targets.soft_term(seen[logits], taught, targets.soft_places(rows, config), temperature)
    if "pair_soft" in read:
        sums["pair_soft_sum"], _ = losses.soft_cross_entropy(
            seen["pair_logits"], read["pair_soft"][0], rows["pair_weights"], temperature
        )
    if "cosine" in read:
        sums["cosine_sum"], _ = losses.cosine(_widened(seen["hidden"], params), read["cosine"][0], weights)
    if "states" in read:
        states = zip(seen["states"], read["states"], strict=True)
        each = [losses.squared_states(_widened(ours, params), theirs, weights)[0] for ours, theirs in states]
        sums["states_sum"] = jnp.sum(jnp.stack(each))
    if "attention" in read:
        theirs = zip(read["attention"][::2], read["attention"][1::2], strict=True)
        layers = zip(seen["projections"][: config.model.num_layers], theirs, strict=True)
        each = [_attention_sum(ours[:2], other, config.model.num_heads, rows["segments"]) for ours, other in layers]
        sums["attention_sum"] = jnp.sum(jnp.stack(each))
    if "relations" in read:
        count = len(read["relations"]) // 3
        theirs = [read["relations"][kind * count : (kind + 1) * count] for kind in range(3)]
        kinds = zip(seen["projections"][-1], theirs, strict=True)  # Queries, keys, values.
        each = [_relations_sum(ours, each, relation_heads, rows["segments"]) for ours, each in kinds]
        sums["relations_sum"] = jnp.sum(jnp.stack(each))
    return sums


# Scores are [B, H, L, L] in float32, more than the rest of a layer, so the backward pass computes them again.


@functools.partial(jax.checkpoint, static_argnums=2)
def _attention_sum(
    ours: Sequence[Float[Array, "B L S"]],
    theirs: Sequence[Float[Array, "B L T"]],
    heads: int,
    segments: Int[Array, "B L"],
) -> Float[Array, ""]:
    """Of queries and keys of one layer."""
    student, teacher = (losses.head_scores(query, key, heads) for query, key in (ours, theirs))
    return losses.squared_attention(student, teacher, losses.pairs_seen(segments))[0]


@functools.partial(jax.checkpoint, static_argnums=2)
def _relations_sum(
    ours: Float[Array, "B L S"], theirs: Sequence[Float[Array, "B L _"]], heads: int, segments: Int[Array, "B L"]
) -> Float[Array, ""]:
    """Of queries, keys or values."""
    return losses.relations(ours, theirs, heads, segments)[0]


def _widened(hidden: Float[Array, "B L S"], params: Any) -> Float[Array, "B L T"]:
    """Through the run's projection, where it has one."""
    if OWN not in params:
        return hidden
    return hidden.astype(jnp.float32) @ params[OWN]["width"]["kernel"]
