"""Causal steps: tokens see only earlier tokens of their window, and each predicts the next one.

The encoder and the head of the masked language model are those of the other steps; only the attention mask and what is
predicted differ. Every token has a prediction, and not one in seven.

- A window ends where the next one begins: the last token of a window predicts nothing.
- Special tokens are no labels, as under masks, so that the head never has to give them probability. They may predict:
  [CLS] the first token of A, the [SEP] before B the first token of B.
- There is no pair loss: [CLS] comes first and sees nothing.

Letters: B rows, L tokens, D hidden.

Source: Charpentier and Samuel 2024 (arXiv 2410.24159), with one causal batch for fifteen masked ones. There a masked
token is predicted one place before it too; here by its own state, as in BERT.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from bertlite_jax.config.pretrain import Pretrain, causal_slots
from bertlite_jax.train import losses
from bertlite_jax.train.pretraining import objective
from bertlite_jax.train.step import Batch, Loss, Prepare


def make_prepare(special_ids: Mapping[str, int]) -> Prepare:
    """Finds what each token of a step predicts, and counts what the loss divides by.

    Args:
      special_ids: by name; none of them is ever predicted.
    """

    def prepare(key: Key[Array, ""], batch: Batch, updates: Int[Array, ""]) -> tuple[Batch, dict[str, Array]]:
        del key, updates
        labels, weights = next_tokens(batch, special_ids)
        return batch | {"labels": labels, "weights": weights}, {
            "causal_weight": jnp.sum(weights),
            "real_tokens": jnp.sum(batch["segments"] > 0).astype(jnp.float32),
        }

    return prepare


def next_tokens(batch: Batch, special_ids: Mapping[str, int]) -> tuple[Int[Array, "B L"], Float[Array, "B L"]]:
    """The token that follows each token in its window, and 1 where it is to be predicted; both are 0 elsewhere."""
    tokens, segments = batch["tokens"], batch["segments"]
    same = segments[:, 1:] == segments[:, :-1]
    counts = jnp.where(same, objective.counted_tokens(batch, special_ids)[:, 1:], 0.0)
    labels = jnp.where(counts > 0, tokens[:, 1:], 0)
    return jnp.pad(labels, ((0, 0), (0, 1))), jnp.pad(counts, ((0, 0), (0, 1)))


def make_loss(apply: objective.Apply, config: Pretrain) -> Loss:
    """The mean cross-entropy of the next token.

    The head is applied to a few places of all rows at a time, and again in the backward pass: the logits of a step need
    no more memory than those of masked tokens do.
    """
    length, size = config.data.length, causal_slots(config)

    def loss(
        params: Any, rows: Batch, weights: dict[str, Array], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        hidden = apply(
            {"params": params},
            rows["tokens"],
            rows["segments"],
            rows["positions"],
            rows["token_types"],
            objective.dropout_keys(config.model, key, rows),
            method="causal_states",
        )

        @jax.checkpoint
        def some_places(
            places: tuple[Float[Array, "B n D"], Int[Array, "B n"], Float[Array, "B n"]],
        ) -> tuple[Array, Array]:
            hidden, labels, counts = places
            total, _, correct = losses.masked_lm(
                apply({"params": params}, hidden, method="word_logits"), labels, counts
            )
            return total, correct

        def cut(array: Array) -> Array:
            return jnp.swapaxes(array.reshape(len(array), length // size, size, *array.shape[2:]), 0, 1)

        totals, correct = jax.lax.map(some_places, jax.tree.map(cut, (hidden, rows["labels"], rows["weights"])))
        causal_sum = jnp.sum(totals)
        value = causal_sum / jnp.maximum(weights["causal_weight"], 1.0)
        return value, {"causal_sum": causal_sum, "causal_correct": jnp.sum(correct)}

    return loss
