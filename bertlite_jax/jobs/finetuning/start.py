"""The encoder that a fine-tuning run starts from."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from bertlite_jax.config.finetune import Finetune, Finetuned, check_task_model
from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert import sources
from bertlite_jax.convert.weights import label_order
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.model.task_heads import TaskModel


class Start(NamedTuple):
    """The config, weights and tokenizer that a run starts from."""

    config: Finetuned
    params: dict[str, Any]
    """Nested: the encoder's, and the pooler's if the model has one and the head reads it."""
    tokenizer: Tokenizer


def take_over(config: Finetune, head: Head, init: str, weights: Weights | None = None) -> Start:
    """Takes the encoder of a run or folder, without the heads of its pretraining or of another task.

    The pooler is taken if the new head reads it, as Lan et al. do from MNLI to RTE, MRPC and STS-B. The head is drawn
    at random: the labels 0 and 1 mean different things in SST-2 and in CoLA. With `adapt.keep_head` it is taken too,
    and its outputs are put into the order of the task's labels.

    Args:
      config: the recipe; of its head, `hidden` and `dropout` are used.
      head: the task's `kind`, `labels` and `problem`.
      init: anything that `sources.load` reads.
      weights: the weights at `init`, if they are loaded already.

    Raises:
      UserError: `init` holds no weights or no tokenizer, or the recipe does not fit the weights.
    """
    weights = weights or sources.load(init, "finetune")
    if weights.tokenizer is None:
        raise UserError(f"finetune: {init} comes without a tokenizer, and text cannot be read without one")
    model = dataclasses.replace(
        weights.model,
        pooler=head.pooled,
        pair_classes=0,
        replaced_head=False,
        compute=config.adapt.compute,
        unroll=config.adapt.unroll,
    )
    # The encoder's own attention may not work here: cuDNN's needs a GPU.
    model = dataclasses.replace(model, attention="auto")
    if config.adapt.dropout is not None:
        model = dataclasses.replace(model, hidden_dropout=config.adapt.dropout, attention_dropout=config.adapt.dropout)
    task_head = dataclasses.replace(
        config.head,
        kind=head.kind,
        labels=head.labels,
        problem=head.problem,
        no_answer=head.no_answer,
        activation=_activation(weights.head, weights.model),
    )
    values: dict[str, Any] = {field.name: getattr(config, field.name) for field in dataclasses.fields(Finetune)}
    run_config = Finetuned(**values | {"head": task_head, "init": init, "model": model})
    check_task_model(run_config)
    params = {name: part for name, part in weights.params.items() if name not in _dropped_parts(head)}
    if config.adapt.keep_head:
        params["head"] = _reordered_head(weights, task_head, init)
    return Start(run_config, params, weights.tokenizer)


def _reordered_head(weights: Weights, head: Head, init: str) -> dict[str, Any]:
    """The parameters of the loaded head, with its outputs in the order of the labels of `head`."""
    old = weights.head
    if old is None:
        raise UserError(f"finetune: adapt.keep_head is set, but {init} has no task head")
    for name in ("kind", "problem", "hidden", "conditioned"):
        if getattr(old, name) != getattr(head, name):
            raise UserError(
                f"finetune: adapt.keep_head: the head of {init} has {name} = {getattr(old, name)}, the task needs "
                f"{getattr(head, name)}"
            )
    if not head.labels:
        return weights.params["head"]
    fitting = label_order.reordered(weights, head.labels)
    if fitting is None:
        theirs, ours = ", ".join(old.labels), ", ".join(head.labels)
        raise UserError(
            f"finetune: adapt.keep_head: {init} has the labels {theirs}, the task has {ours}"
            + label_order.naming_hint(old, init)
        )
    return fitting.params["head"]


def _dropped_parts(head: Head) -> tuple[str, ...]:
    heads = ("mlm", "pair", "replaced", "head")
    return heads if head.pooled else (*heads, "pooler")


def _activation(loaded: Head | None, model: Model) -> Any:
    """The pooler's activation: as it was trained, and for DistilBERT, which has no pooler, transformers' ReLU."""
    if loaded:
        return loaded.activation
    return "relu" if not model.pooler and not model.token_types else "tanh"


def draw_params(model: TaskModel, key: jax.Array) -> Any:
    """Draws random parameters of a task model."""
    ids = np.zeros((1, 8), np.int32)
    return model.init(key, ids, ids, ids, ids, ids[:, :1])["params"]
