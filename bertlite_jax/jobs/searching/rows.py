"""The rows that all trials see: batches with their masks, and held-out rows under the one evaluation masking.

A batch is a function of the step alone, so a trial of 50 steps sees the first 50 batches of one of 200.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.config.search.settings import Search, trained_as
from bertlite_jax.data.rows import batches, source, stages
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining.evaluate import evaluation_batch_rows
from bertlite_jax.train.pretraining import objective
from bertlite_jax.train.step import Batch, step_key

MOST_BYTES = 2**30
"""Of prepared batches that are kept for the next trial; with more of them, all are made anew."""


class Rows(NamedTuple):
    """What trials are trained and scored on."""

    training: Callable[[int], tuple[Batch, dict[str, Array]]]
    """Step, from 1, to its masked rows and what the losses divide by."""
    held_out: tuple[Batch, ...]
    """Masked rows of the validation split."""


def open_rows(config: Search, tokenizer: Tokenizer) -> Rows:
    """Opens the corpora of a search.

    Args:
      config: with all sizes.
      tokenizer: of `data.tokenizer`.

    Raises:
      UserError: there is no corpus, it does not fit, or nothing of its validation split can be predicted.
    """
    common = trained_as(config)
    data = stages.of_length(config, common.data)
    text = source.open_source(data, "train", config.run.seed, tokenizer)
    held_out = _held_out(config, source.open_source(data, "validation", objective.EVALUATION_SEED, tokenizer))
    if not any(jnp.any(rows["weights"]) for rows in held_out):
        raise UserError("search: the validation split has no token to predict; build the corpus from more text")
    return Rows(_training(common, text), held_out)


def _training(common: Pretrain, text: source.Source) -> Callable[[int], tuple[Batch, dict[str, Array]]]:
    prepare = objective.make_prepare(common, text.special_ids)

    @jax.jit
    def masked(batch: Batch, updates: Int[Array, ""]) -> tuple[Batch, dict[str, Array]]:
        return prepare(step_key(common.run.seed, updates), batch, updates)

    def rows_of(step: int) -> tuple[Batch, dict[str, Array]]:
        return masked(_on_device(batches.batch_at(text, step, common.data.batch_rows)), jnp.int32(step - 1))

    size = sum(array.nbytes for array in jax.tree.leaves(rows_of(1)))
    return functools.lru_cache(maxsize=MOST_BYTES // size)(rows_of)


def _held_out(config: Search, validation: source.Source) -> tuple[Batch, ...]:
    masked = jax.jit(functools.partial(objective.masked_for_evaluation, special_ids=validation.special_ids))
    rows = batches.evaluation_rows(validation, config.run.eval_rows, evaluation_batch_rows(config, 1))
    return tuple(masked(_on_device(batch)) for batch in rows)


def _on_device(batch: dict[str, np.ndarray]) -> Any:
    return {name: jnp.asarray(array) for name, array in batch.items()}
