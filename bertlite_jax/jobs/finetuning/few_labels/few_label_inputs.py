"""Whether `learn` fits a task, and its domains: their examples and their parameters.

Letters: M examples, C labels, K domains.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.config.compression.pruned import refuse_pruned
from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.data import tasks
from bertlite_jax.data.examples import features, joining
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import task_splits
from bertlite_jax.jobs.answering.task_splits import in_words
from bertlite_jax.jobs.finetuning.few_labels import unlabelled
from bertlite_jax.model.domain_encoder import PrivateEncoder, narrowed
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train.few_labels import domains

DOMAINS = "domains"
"""Name of the parameters that a run has and the stored model has not."""
FOR_EVERY_TASK = (
    "fgm", "teacher", "teacher_weight", "temperature", "unlabelled", "unlabelled_batch", "copies", "augment",
    "augment_rate", "augment_model", "candidates",
)  # fmt: skip
"""Fields of `learn` that do not need one label for each text."""


def check(config: Finetuned) -> None:
    """Raises UserError if `learn` does not fit the task, the encoder or the batches."""
    learn, head, model = config.learn, config.head, config.model
    if learn == Learn():
        return
    without = dataclasses.replace(learn, **{name: getattr(Learn(), name) for name in FOR_EVERY_TASK})
    if without != Learn() and (head.kind, head.problem) != ("classify", "single_label"):
        raise UserError(
            "config: of learn.*, only fgm, the teacher, and unlabelled texts and copies for a teacher fit this task; "
            "all others need one label per text"
        )
    if head.kind == "span" and learn.fgm:
        raise UserError("config: learn.fgm does not apply to tasks that ask for spans")
    if head.conditioned and learn.teacher:
        raise UserError(
            "config: learn.teacher needs --head.span independent; a conditioned head has other ends for each start"
        )
    if head.problem == "regression" and learn.temperature != Learn().temperature:
        raise UserError("config: learn.temperature has no effect on numbers; leave it out")
    if learn.mix == "hidden" and config.data.pack:
        raise UserError("config: learn.mix = hidden needs rows of one text each; pass --data.no-pack")
    if learn.mix == "hidden" and not 0 <= learn.mix_layer < model.num_layers:
        raise UserError(f"config: learn.mix_layer = {learn.mix_layer} must be at least 0 and below {model.num_layers}")
    if learn.mix != "none" and (learn.teacher or learn.temporal or learn.domains):
        raise UserError("config: learn.mix cannot be combined with learn.teacher, learn.temporal or learn.domains")
    if learn.domains:
        refuse_pruned(model, "config: learn.domains")
    if learn.domains and learn.teacher:
        raise UserError("config: learn.teacher cannot be combined with learn.domains")
    if not 0 <= learn.private_layers <= model.num_layers:
        raise UserError(f"config: learn.private_layers = {learn.private_layers}; the encoder has {model.num_layers}")


# --- Reading ---------------------------------------------------------------------------------------------------------


def join_domains(
    config: Finetuned, task: tasks.Task, train: task_splits.Split, tokenizer: Tokenizer
) -> tuple[task_splits.Split, np.ndarray | None]:
    """Appends the examples of `learn.domains`.

    Returns:
      The training split, and the domain of each example, [M] int32, or None without domains.
    """
    if not config.learn.domains:
        return train, None
    encoded, owners = train.encoded, [np.zeros(len(train.encoded.sizes), np.int32)]
    for number, path in enumerate(config.learn.domains, start=1):
        counts: Counter[str] = Counter()
        examples = _read_domain(config, task, path, counts)
        more = features.encode(examples, tokenizer, config.head, config.data.length, path)
        owners.append(np.full(len(more.sizes), number, np.int32))
        encoded = joining.behind(encoded, more)
        labelled = more.counts["examples"] - more.counts["unlabelled"]
        summary = f"{more.counts['examples']:,} examples, {labelled:,} with a label"
        print(f"finetune: domain {number}: {path}: " + "; ".join(filter(None, (summary, in_words(counts)))))
    return train._replace(encoded=encoded), np.concatenate(owners)


def _read_domain(config: Finetuned, task: tasks.Task, path: str, counts: Counter[str]) -> Iterable[Example]:
    if path.endswith(".txt"):
        return unlabelled.read_texts(path, config.head)
    if not config.data.task:
        other = task_splits.task_of(dataclasses.replace(config.data, folder=path, validation_file=""))
        if other.head.labels != task.head.labels:
            raise UserError(
                f"finetune: {path} has the labels {', '.join(other.head.labels)}, but {config.data.folder} has "
                f"{', '.join(task.head.labels)}; all domains need the same labels"
            )
        return tasks.read(other, "", "train", counts)
    return tasks.read(task, path, "train", counts)


# --- Parameters of domains -------------------------------------------------------------------------------------------


def with_domains(init: Callable[[jax.Array], Any], config: Finetuned, compute: Any) -> Callable[[jax.Array], Any]:
    """Makes `init` draw the domain classifier and the private encoders too, under `DOMAINS`."""
    learn, model = config.learn, config.model
    if not learn.domains:
        return init
    count = 1 + len(learn.domains)

    def init_all(key: jax.Array) -> Any:
        first, second = jax.random.split(jax.random.fold_in(key, 1))
        added = domains.init(first, model.hidden_size, count, config.head.outputs)
        if learn.private_layers:
            x, ids = jnp.zeros((1, 8, model.hidden_size)), jnp.zeros((1, 8), jnp.int32)
            encoder = PrivateEncoder(narrowed(model, learn.private_layers), compute)
            draw = jax.vmap(lambda one: encoder.init(one, x, ids, ids[:, :1], None)["params"])
            added["private"] = draw(jax.random.split(second, count))
        else:
            del added["private_output"]
        return {**init(key), DOMAINS: added}

    return init_all


def private_of(model: TaskModel, learn: Learn) -> Callable[..., Any] | None:
    """The forward pass of a domain's private encoder, as a function of its parameters; None without private layers."""
    if not learn.private_layers:
        return None
    encoder = PrivateEncoder(narrowed(model.config, learn.private_layers), model.compute)
    return lambda one, *inputs: encoder.apply({"params": one}, *inputs)


def start_private(params: Any, learn: Learn) -> Any:
    """Initialises the private encoders with the lowest layers of the shared one."""
    if not learn.private_layers:
        return params
    private_params = params[DOMAINS]["private"]
    shared_params = {"layers": params["layers"], "pooler": params["pooler"]}
    if "final_norm" in private_params:
        shared_params["final_norm"] = params["final_norm"]

    def lowest(private: Any, shared: Any) -> Any:
        shared = shared[: private.shape[1]] if shared.shape != private.shape[1:] else shared
        return np.broadcast_to(np.asarray(shared), private.shape).copy()

    return {**params, DOMAINS: {**params[DOMAINS], "private": jax.tree.map(lowest, private_params, shared_params)}}


def without_domains(params: Any) -> Any:
    """The parameters of a plain task model, without those that only training needs."""
    return {name: part for name, part in params.items() if name != DOMAINS}


def folder_of(run: pathlib.Path) -> pathlib.Path:
    """The folder of a run for a teacher's logits and averages of predictions."""
    return run / "learning"
