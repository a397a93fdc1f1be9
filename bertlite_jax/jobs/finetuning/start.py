"""What a task's model takes over of given weights."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from bertlite_jax.config.finetune import Finetune, Finetuned, check_task_model
from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert import sources
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.model.task_heads import TaskModel


class Start(NamedTuple):
    """What a run starts from."""

    config: Finetuned
    params: dict[str, Any]
    """The encoder's, nested; the pooler's where it has one and the head reads it."""
    tokenizer: Tokenizer


def take_over(config: Finetune, head: Head, init: str, given: Weights | None = None) -> Start:
    """The encoder of a run or folder, without the heads of its pretraining or of another task.

    Of a model for another task the encoder is taken, and the pooler where the new head reads it, as Lan et al. do from
    MNLI to RTE, MRPC and STS-B. Its head is drawn anew: labels called 0 and 1 mean one thing in SST-2 and another in
    CoLA. With `adapt.keep_head` it is taken, too, and its outputs are put into the order of the task's labels.

    Args:
      config: the recipe; of its head `hidden` and `dropout` count.
      head: the task's `kind`, `labels` and `problem`.
      init: anything that `sources.load` reads.
      given: what stands there, if it has been opened.

    Raises:
      UserError: no weights there, no tokenizer with them, or the recipe does not fit them.
    """
    given = given or sources.load(init)
    if given.tokenizer is None:
        raise UserError(f"finetune: {init} comes without a tokenizer, and text cannot be read without one")
    model = dataclasses.replace(
        given.model, pooler=head.pooled, pair_classes=0, compute=config.adapt.compute, unroll=config.adapt.unroll
    )
    # What the encoder was trained with may not work here, as cuDNN's attention does not on a CPU.
    model = dataclasses.replace(model, attention="auto")
    if config.adapt.dropout is not None:
        model = dataclasses.replace(model, hidden_dropout=config.adapt.dropout, attention_dropout=config.adapt.dropout)
    built = dataclasses.replace(
        config.head,
        kind=head.kind,
        labels=head.labels,
        problem=head.problem,
        no_answer=head.no_answer,
        activation=_activation(given.head, given.model),
    )
    values: dict[str, Any] = {field.name: getattr(config, field.name) for field in dataclasses.fields(Finetune)}
    made = Finetuned(**values | {"head": built, "init": init, "model": model})
    check_task_model(made)
    kept = {name: part for name, part in given.params.items() if name not in _heads(head)}
    if config.adapt.keep_head:
        kept["head"] = _same_head(given, built, init)
    return Start(made, kept, given.tokenizer)


def _same_head(given: Weights, head: Head, init: str) -> dict[str, Any]:
    """The given head's parameters, its outputs in the order of the labels of `head`."""
    old = given.head
    if old is None:
        raise UserError(f"finetune: adapt.keep_head is set, and {init} has no task head")
    for name in ("kind", "problem", "hidden", "conditioned"):
        if getattr(old, name) != getattr(head, name):
            raise UserError(
                f"finetune: adapt.keep_head: the head of {init} has {name} = {getattr(old, name)}, the task wants "
                f"{getattr(head, name)}"
            )
    if sorted(old.labels) != sorted(head.labels):
        theirs, ours = ", ".join(old.labels), ", ".join(head.labels)
        raise UserError(f"finetune: adapt.keep_head: {init} knows the labels {theirs}, the task {ours}")
    if head.kind == "span":
        return given.params["head"]
    order = [old.labels.index(label) for label in head.labels] or slice(None)
    output = {name: leaf[..., order] for name, leaf in given.params["head"]["output"].items()}
    return {**given.params["head"], "output": output}


def _heads(head: Head) -> tuple[str, ...]:
    return ("mlm", "pair", "head") if head.pooled else ("mlm", "pair", "head", "pooler")


def _activation(given: Head | None, model: Model) -> Any:
    """Of the pooler: as it was trained. One that DistilBERT lacks is built as transformers builds it, with a ReLU."""
    if given:
        return given.activation
    return "relu" if not model.pooler and not model.token_types else "tanh"


def draw_params(model: TaskModel, key: jax.Array) -> Any:
    """Freshly drawn parameters."""
    ids = np.zeros((1, 8), np.int32)
    return model.init(key, ids, ids, ids, ids, ids[:, :1])["params"]
