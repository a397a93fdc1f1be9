"""The pretraining objective over one device's rows: masks, logits, sums. Evaluation uses the same pieces.

Letters: B rows, L tokens, K predictions a row, P windows a row, V vocabulary, C pair classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from bertlite_jax.config.batch import prediction_slots
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Pretrain, predictions_per_row
from bertlite_jax.config.schedule import mask_rates
from bertlite_jax.train import losses
from bertlite_jax.train.pretraining import masking, replaced
from bertlite_jax.train.step import Batch, Loss, Prepare, row_keys

Apply = Callable[..., Any]
"""`model.apply` with `{"params": params}` and the inputs of `PretrainingModel.__call__`."""

# What a step's key is folded with, so that masks, dropout, drawn pieces and the dropout of their pass draw apart.
_MASKS, _DROPOUT, _PIECES, _SECOND_DROPOUT = 0, 1, 2, 3

EVALUATION_SEED = 20_200_209
"""Of the validation masks and pairs; the same for every run, so that their losses compare."""
EVALUATION_RATE = 0.15
"""Share of the real tokens that is predicted in an evaluation, whatever the training masks."""


def masked_inputs(masked: masking.Masked) -> Batch:
    """The names under which a batch carries what was masked."""
    return {
        "inputs": masked.inputs,
        "predict_positions": masked.positions,
        "labels": masked.labels,
        "weights": masked.weights,
    }


def make_prepare(config: Pretrain, special_ids: Mapping[str, int]) -> Prepare:
    """Draws the masks of a step and counts what its losses divide by.

    Args:
      config: `mask`, the sizes that follow from it, the steps of the run that its rate changes over, `data.isolate`.
      special_ids: by name, `mask` among them; none of them is ever masked.
    """
    slots = predictions_per_row(config)
    never = tuple(special_ids.values())
    firsts, rates = zip(*mask_rates(config), strict=True)
    # Made on the host, so that a rate that changes rounds as one that does not: on any number of devices the same.
    tables = np.stack([masking.budget_table(rate, config.data.length) for rate in rates])

    def prepare(key: Key[Array, ""], batch: Batch, updates: Int[Array, ""]) -> tuple[Batch, dict[str, Array]]:
        key = jax.random.fold_in(key, _MASKS)
        stair = jnp.sum(updates + 1 >= np.asarray(firsts[1:], np.int32), dtype=jnp.int32)
        budgets = jnp.asarray(tables)[stair]
        masked = masking.mask_batch(
            key, batch, config.mask, slots, config.model.vocab_size, never, special_ids["mask"], budgets
        )
        batch = batch | masked_inputs(masked)
        weights = {
            "mlm_weight": jnp.sum(batch["weights"]),
            "pair_weight": jnp.sum(batch["pair_weights"]).astype(jnp.float32),
            "real_tokens": jnp.sum(batch["segments"] > 0).astype(jnp.float32),
        }
        if config.objective.replaced_weight:
            batch["counted"] = counted_tokens(batch, special_ids)
            weights["replaced_weight"] = jnp.sum(batch["counted"])
        return batch if config.data.isolate else batch | as_one_text(batch), weights

    return prepare


def as_one_text(batch: Batch) -> Batch:
    """`segments` and `positions` of rows whose windows see each other, as after plain concatenation."""
    segments = jnp.minimum(batch["segments"], 1)
    return {"segments": segments, "positions": segments * jax.lax.broadcasted_iota(segments.dtype, segments.shape, 1)}


def counted_tokens(batch: Batch, special_ids: Mapping[str, int]) -> Float[Array, "B L"]:
    """1 for a token that is neither special nor padding, else 0."""
    never = tuple(special_ids.values())
    ordinary = jax.vmap(lambda tokens, segments: masking.ordinary_tokens(tokens, segments, never))(
        batch["tokens"], batch["segments"]
    )
    return ordinary.astype(jnp.float32)


def dropout_keys(model: Model, key: Key[Array, ""], rows: Batch, fold: int = _DROPOUT) -> Key[Array, " B"] | None:
    """One a row of a step, folded from the step's key; None where the model drops nothing."""
    drops = model.hidden_dropout > 0 or model.attention_dropout > 0
    return row_keys(jax.random.fold_in(key, fold), rows["rows"]) if drops else None


def logits_of(
    apply: Apply, params: Any, rows: Batch, dropout_keys: Key[Array, " B"] | None
) -> tuple[Float[Array, "B K V"], Float[Array, "B P C"] | None]:
    """Masked-LM logits and pair logits (None: the model has no pair head) of prepared rows."""
    return apply(
        {"params": params},
        rows["inputs"],
        rows["segments"],
        rows["positions"],
        rows["token_types"],
        rows["cls"],
        rows["predict_positions"],
        dropout_keys,
    )


def mlm_sums(logits: Float[Array, "B K V"], rows: Batch) -> dict[str, Array]:
    """Loss and hits of the masked language model."""
    total, _, correct = losses.masked_lm(logits, rows["labels"], rows["weights"])
    return {"mlm_sum": total, "mlm_correct": correct}


def pair_sums(logits: Float[Array, "B P C"], rows: Batch) -> dict[str, Array]:
    """Loss and hits of the pair task."""
    total, _, correct = losses.pair(logits, rows["pair_labels"], rows["pair_weights"])
    return {"pair_sum": total, "pair_correct": correct}


def make_loss(apply: Apply, config: Pretrain) -> Loss:
    """The sum of the mean losses, each over the weights of the global batch; that of replaced tokens has a factor.

    Source: google-research/albert:run_pretraining.py (masked tokens and pairs count equally); Clark et al. 2020 (arXiv
    2003.10555), section 2, for the factor.
    """

    def loss(
        params: Any, rows: Batch, weights: dict[str, Array], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        logits, pair_logits = logits_of(apply, params, rows, dropout_keys(config.model, key, rows))
        sums = mlm_sums(logits, rows)
        value = sums["mlm_sum"] / jnp.maximum(weights["mlm_weight"], 1.0)
        if config.data.pair_task != "none" and pair_logits is not None:
            sums |= pair_sums(pair_logits, rows)
            value = value + sums["pair_sum"] / jnp.maximum(weights["pair_weight"], 1.0)
        if config.objective.replaced_weight:
            piece_keys = row_keys(jax.random.fold_in(key, _PIECES), rows["rows"])
            second_keys = dropout_keys(config.model, key, rows, _SECOND_DROPOUT)
            sums |= replaced.sums(apply, params, rows, logits, piece_keys, second_keys)
            mean = sums["replaced_sum"] / jnp.maximum(weights["replaced_weight"], 1.0)
            value = value + config.objective.replaced_weight * mean
        return value, sums

    return loss


def readable(metrics: Mapping[str, float]) -> dict[str, float]:
    """Sums and weights of a step as means: `mlm_loss`, `mlm_accuracy`, the same of other objectives, and the rest.

    `replaced_share` is the share of tokens that were replaced: to call none replaced has the accuracy 1 less that.
    """
    means = {name: metrics[name] for name in ("loss", "grad_norm", "learning_rate", "real_tokens") if name in metrics}
    for name in metrics:
        task, _, kind = name.rpartition("_")
        weight = metrics.get(f"{task}_weight", 0.0)
        if kind == "sum" and weight > 0:
            means[f"{task}_loss"] = metrics[name] / weight
            if f"{task}_correct" in metrics:
                means[f"{task}_accuracy"] = metrics[f"{task}_correct"] / weight
            if task == "replaced":
                means["replaced_share"] = metrics["replaced_changed"] / weight
    return means


# --- Evaluation ----------------------------------------------------------------------------------------------------


def masked_for_evaluation(batch: Batch, special_ids: Mapping[str, int]) -> Batch:
    """Rows of an evaluation under the one masking that runs are compared by; see `masking.mask_for_evaluation`."""
    length, windows = batch["tokens"].shape[1], batch["cls"].shape[1]
    slots = min(length, prediction_slots(EVALUATION_RATE, length, windows))
    never = tuple(special_ids.values())
    masked = masking.mask_for_evaluation(batch, EVALUATION_RATE, slots, special_ids["mask"], never, EVALUATION_SEED)
    return batch | masked_inputs(masked)


def make_evaluation(
    apply: Apply, model: Model, special_ids: Mapping[str, int], pair_classes: int
) -> Callable[[Any, Num[Array, " V"], Batch], dict[str, Array]]:
    """Sums over a batch under the one masking that runs are compared by: single tokens, all replaced by [MASK].

    Args:
      apply: of the model.
      model: its shape.
      special_ids: by name.
      pair_classes: labels of the pair task that is scored; 0: none.

    Returns:
      `sums(params, unigram_counts, batch)`: weights, losses and hits of both tasks; at the masked positions also
      the cross-entropy of the training split's unigram (add-one) and the hits of its most frequent piece; the
      number of pairs of each label; and of a model that has the head, the sums of `replaced.sums`, whose pieces the
      model draws itself, always with the same numbers.
    """

    def sums(params: Any, counts: Num[Array, " V"], batch: Batch) -> dict[str, Array]:
        rows = masked_for_evaluation(batch, special_ids)
        logits, pair_logits = logits_of(apply, params, rows, None)
        mlm_sum, mlm_weight, mlm_correct = losses.masked_lm(logits, rows["labels"], rows["weights"])
        smoothed = counts.astype(jnp.float32) + 1.0
        log_share = jnp.log(smoothed) - jnp.log(jnp.sum(smoothed))
        totals = {
            "mlm_sum": mlm_sum,
            "mlm_weight": mlm_weight,
            "mlm_correct": mlm_correct,
            "unigram_sum": -jnp.sum(log_share[rows["labels"]] * rows["weights"]),
            "majority_correct": jnp.sum((rows["labels"] == jnp.argmax(counts)).astype(jnp.float32) * rows["weights"]),
            "real_tokens": jnp.sum(batch["segments"] > 0).astype(jnp.float32),
        }
        if pair_classes and pair_logits is not None:
            pair_sum, pair_weight, pair_correct = losses.pair(pair_logits, rows["pair_labels"], rows["pair_weights"])
            paired = rows["pair_weights"][..., None].astype(jnp.float32)
            of_label = jax.nn.one_hot(rows["pair_labels"], pair_classes) * paired
            totals |= {
                "pair_sum": pair_sum,
                "pair_weight": pair_weight,
                "pair_correct": pair_correct,
                "pair_labels": jnp.sum(of_label, axis=(0, 1)),
            }
        if model.replaced_head:
            rows["counted"] = counted_tokens(rows, special_ids)
            piece_keys = row_keys(jax.random.fold_in(jax.random.key(EVALUATION_SEED), _PIECES), rows["rows"])
            totals |= replaced.sums(apply, params, rows, logits, piece_keys)
            totals["replaced_weight"] = jnp.sum(rows["counted"])
        return totals

    return sums
