"""A model with a head for masked tokens, opened to say how likely tokens are."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any, NamedTuple

import jax

from bertlite_jax.config import files
from bertlite_jax.config.model import Model
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.ops import choose_precision


class OpenMaskedLM(NamedTuple):
    """An opened model. `params` are those of `network`, with the vocabulary padded as in `model`."""

    model: Model
    network: PretrainingModel
    params: Any
    tokenizer: Tokenizer


def refuse_task_run(run: str, job: str) -> None:
    """Raises UserError for the work directory of a fine-tuning run, and names the job that asks its model."""
    config = pathlib.Path(run) / "config.json"
    if config.is_file() and files.kind_of_run(json_files.read_object(config, job)) == "fine-tuning":
        files.read_json(config, job=job)


def open_masked_lm(weights: Weights, run: str, job: str) -> OpenMaskedLM:
    """Opens weights on this machine: the attention that a run was trained with may not work here.

    Args:
      weights: with a head for masked tokens, and a tokenizer.
      run: where they were loaded from.
      job: that the user started; begins messages.

    Raises:
      UserError: they have no such head, or no tokenizer.
    """
    if "mlm" not in weights.params:
        raise UserError(f"{job}: {run} has no head for masked tokens, so it cannot say how likely a token is")
    if weights.tokenizer is None:
        raise UserError(f"{job}: {run} comes without a tokenizer, and text cannot be read without one")
    model = dataclasses.replace(weights.model, attention="auto")
    compute = choose_precision.resolve(model.compute, jax.default_backend(), weights.trained_bits)
    network = PretrainingModel(model, compute)
    params = jax.device_put(parameters.pad_vocabulary(weights.params, weights.model))
    return OpenMaskedLM(model, network, params, weights.tokenizer)
