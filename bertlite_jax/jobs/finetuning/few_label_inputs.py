"""What `learn` brings to a fine-tuning run beside its labelled examples: domains, unlabelled text, what goes with it.

Letters: M examples, C labels, K domains.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.data import tasks
from bertlite_jax.data.examples import augment, batches, features, joining
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import task_splits
from bertlite_jax.jobs.answering.task_splits import in_words
from bertlite_jax.jobs.answering.text_lines import read_examples
from bertlite_jax.jobs.finetuning.setup import Extra
from bertlite_jax.model.domain_encoder import PrivateEncoder, narrowed
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train.few_labels import domains

UNLABELLED_ORDER = 1
"""Added to the seed for the order of unlabelled texts: where their batches are planned, and where they are dealt."""
DOMAINS = "domains"
"""Where the parameters lie that a run has and a kept model has not."""


def check(config: Finetuned) -> None:
    """Raises UserError where `learn` does not fit the task, the encoder or the batches."""
    learn, head, model = config.learn, config.head, config.model
    if learn == Learn():
        return
    if head.kind == "span":
        raise UserError("config: learn is not for tasks that ask for spans")
    if dataclasses.replace(learn, fgm=0.0) != Learn() and (head.kind, head.problem) != ("classify", "single_label"):
        raise UserError("config: learn, but for learn.fgm, wants a task with one label a text")
    if learn.mix == "hidden" and config.data.pack:
        raise UserError("config: learn.mix = hidden mixes rows of one text each; pass --data.no-pack")
    if learn.mix == "hidden" and not 0 <= learn.mix_layer < model.num_layers:
        raise UserError(f"config: learn.mix_layer = {learn.mix_layer} must be at least 0 and below {model.num_layers}")
    if learn.mix != "none" and (learn.teacher or learn.temporal or learn.domains):
        raise UserError("config: learn.mix does not go with learn.teacher, learn.temporal or learn.domains")
    if learn.domains and learn.teacher:
        raise UserError("config: learn.teacher does not go with learn.domains")
    if not 0 <= learn.private_layers <= model.num_layers:
        raise UserError(f"config: learn.private_layers = {learn.private_layers}; the encoder has {model.num_layers}")


# --- Reading ---------------------------------------------------------------------------------------------------------


def join_domains(
    config: Finetuned, task: tasks.Task, train: task_splits.Split, tokenizer: Tokenizer
) -> tuple[task_splits.Split, np.ndarray | None]:
    """Puts the further domains behind the training examples; [M] int32 says whose each is, None without domains."""
    if not config.learn.domains:
        return train, None
    encoded, owners = train.encoded, [np.zeros(len(train.encoded.sizes), np.int32)]
    for number, place in enumerate(config.learn.domains, start=1):
        noted: Counter[str] = Counter()
        examples = _domain(config, task, place, noted)
        more = features.encode(examples, tokenizer, config.head, config.data.length, place)
        owners.append(np.full(len(more.sizes), number, np.int32))
        encoded = joining.behind(encoded, more)
        labelled = more.counts["examples"] - more.counts["unlabelled"]
        said = f"{more.counts['examples']:,} examples, {labelled:,} with a label"
        print(f"finetune: domain {number}: {place}: " + "; ".join(filter(None, (said, in_words(noted)))))
    return train._replace(encoded=encoded), np.concatenate(owners)


def _domain(config: Finetuned, task: tasks.Task, place: str, noted: Counter[str]) -> Any:
    if place.endswith(".txt"):
        return read_texts(place, config.head)
    if not config.data.task:
        other = task_splits.task_of(dataclasses.replace(config.data, folder=place, validation_file=""))
        if other.head.labels != task.head.labels:
            raise UserError(
                f"finetune: {place} has the labels {', '.join(other.head.labels)}, and {config.data.folder} "
                f"{', '.join(task.head.labels)}; domains share their labels"
            )
        return tasks.read(other, "", "train", noted)
    return tasks.read(task, place, "train", noted)


def read_texts(path: str, head: Head) -> list[Example]:
    """One text a line, or JSON objects; labels are not read."""
    try:
        with open(path, "rb") as lines:
            found = list(read_examples(lines, head, path))
    except OSError as error:
        raise UserError(f"finetune: {path} cannot be read: {error.strerror}") from error
    if not found:
        raise UserError(f"finetune: {path} holds no text")
    return found


def read_unlabelled(config: Finetuned, tokenizer: Tokenizer, steps: int, unit: int) -> Extra:
    """Reads and augments what `learn.unlabelled` names; settles the shape of its batches, whole multiples of `unit`."""
    learn, data, head = config.learn, config.data, config.head
    if not learn.unlabelled:
        return Extra()
    texts = read_texts(learn.unlabelled, head)
    encoded = features.encode(texts, tokenizer, head, data.length, learn.unlabelled)
    if learn.augments:
        changed = augmented(texts, learn, config.run.seed)
        encoded = joining.beside(encoded, features.encode(changed, tokenizer, head, data.length, learn.unlabelled))
    batch = min(learn.unlabelled_batch, len(texts))
    epochs = -(-steps // batches.batches_in_epoch(len(texts), batch))
    shape = batches.plan(encoded, batch, True, 0, epochs, config.run.seed + UNLABELLED_ORDER)
    shape = shape._replace(rows=-(-shape.rows // unit) * unit)
    print(f"finetune: {len(texts):,} unlabelled texts, {batch} a step in {shape.rows} rows of {shape.length} tokens")
    return Extra(texts=texts, unlabelled=encoded, shape=shape)


def augmented(texts: Sequence[Example], learn: Learn, seed: int) -> list[Example]:
    """Each text changed, both texts of a pair."""
    if learn.augment == "tfidf":
        counted = [text for example in texts for text in (example.text, example.pair) if text]
        change = augment.make_tfidf(counted, learn.augment_rate, seed)
    else:
        change = augment.make_edits(learn.augment_rate, seed)
    found = []
    for number, example in enumerate(texts):
        pair = example.pair and change(example.pair, 2 * number + 1)
        found.append(dataclasses.replace(example, text=change(example.text, 2 * number), pair=pair))
    return found


# --- Parameters of domains -------------------------------------------------------------------------------------------


def with_domains(init: Callable[[jax.Array], Any], config: Finetuned, compute: Any) -> Callable[[jax.Array], Any]:
    """Also draws what tells domains apart, and their private encoders, under `DOMAINS`."""
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
    """A domain's own encoder as a function of its parameters."""
    if not learn.private_layers:
        return None
    encoder = PrivateEncoder(narrowed(model.config, learn.private_layers), model.compute)
    return lambda one, *inputs: encoder.apply({"params": one}, *inputs)


def start_private(params: Any, learn: Learn) -> Any:
    """Private encoders begin as the lowest layers of the shared one."""
    if not learn.private_layers:
        return params
    own = params[DOMAINS]["private"]
    taken = {"layers": params["layers"], "pooler": params["pooler"]}
    if "final_norm" in own:
        taken["final_norm"] = params["final_norm"]

    def lowest(private: Any, shared: Any) -> Any:
        shared = shared[: private.shape[1]] if shared.shape != private.shape[1:] else shared
        return np.broadcast_to(np.asarray(shared), private.shape).copy()

    return {**params, DOMAINS: {**params[DOMAINS], "private": jax.tree.map(lowest, own, taken)}}


def kept(params: Any) -> Any:
    """Without what only training needs: the parameters of a task model like any other."""
    return {name: part for name, part in params.items() if name != DOMAINS}


def folder_of(run: pathlib.Path) -> pathlib.Path:
    """Where a run holds a teacher's logits and averages of predictions."""
    return run / "learning"
