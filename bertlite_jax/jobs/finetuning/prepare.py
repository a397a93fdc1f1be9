"""Determines task, encoder, examples, shapes and optimiser before a fine-tuning run writes anything."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from bertlite_jax.config.finetune import Finetune, Finetuned
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.convert.weights.reading import pairs_of
from bertlite_jax.data.examples import batches
from bertlite_jax.jobs.answering import task_splits
from bertlite_jax.jobs.answering.word_splits import learn_splits
from bertlite_jax.jobs.finetuning import own_data
from bertlite_jax.jobs.finetuning.examples import check_planned, check_training, describe, open_splits
from bertlite_jax.jobs.finetuning.few_labels import few_label_batches, few_label_inputs, masked_lm, teacher, unlabelled
from bertlite_jax.jobs.finetuning.setup import Extra, Setup
from bertlite_jax.jobs.finetuning.start import draw_params, take_over
from bertlite_jax.model.ops import choose_precision, precision
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.model.weight_noise import noised
from bertlite_jax.train import averaging, optim, schedules, sharding, state
from bertlite_jax.train.few_labels import loss
from bertlite_jax.train.step import Loss, make_step, with_noise
from bertlite_jax.train.tasks import layer_rates


def prepare(config: Finetune, weights: Weights, init: str) -> Setup:
    """Checks everything, reads the examples and determines the shapes. Writes nothing.

    Where a masked language model replaces words, the batches of unlabelled texts and copies are left to
    `masked_lm.complete`, which needs the work directory.

    Args:
      config: the recipe.
      weights: the model to start from.
      init: where the weights come from, for messages and the run's config.
    """
    mesh = sharding.make_mesh(config.run.devices)
    task = task_splits.task_of(config.data)
    start = take_over(config, task.head, init, weights)
    full, head, run = start.config, start.config.head, config.run
    compute = choose_precision.resolve(full.model.compute, mesh.devices.flat[0].platform, full.quantise.bits)
    train, valid = open_splits(task, config.data, head, start.tokenizer)
    check_training(train.encoded, head)
    few_label_inputs.check(full)
    counts = train.encoded.counts
    pairs = pairs_of(counts.get("pairs"), counts["examples"])
    models = teacher.check(full, start.tokenizer, pairs)
    models |= masked_lm.check(full.learn, init, weights)
    train, domain = few_label_inputs.join_domains(full, task, train, start.tokenizer)

    batch = config.data.batch_examples
    per_epoch = batches.batches_in_epoch(train.encoded.counts["examples"], batch)
    steps = run.steps or max(1, round(run.epochs * per_epoch))
    check_planned(steps, batch, train.encoded.counts["examples"])
    epochs = -(-steps // per_epoch)
    shape = batches.plan(train.encoded, batch, config.data.pack, config.data.row_length, epochs, run.seed)
    multiple = mesh.size * config.optim.micro_batches
    shape = shape._replace(rows=-(-shape.rows // multiple) * multiple)
    slots = per_epoch * shape.rows * shape.length
    notes = describe(train, valid, head) | {"real_share": train.encoded.counts["tokens"] / slots}
    notes |= own_data.baseline(task, train, valid, head) | own_data.columns_of_training(task)
    for line in (*own_data.warnings(task, train, valid, head), *_idle(full, steps, per_epoch)):
        print(f"finetune: {line}")
    model = TaskModel(full.model, head, compute)
    splits = learn_splits(task, config.data) if head.kind == "tag" else head.splits
    read_as = dataclasses.replace(head, splits=splits)
    texts = unlabelled.read_texts(full.learn.unlabelled, read_as) if full.learn.unlabelled else []
    if full.learn.teacher:
        unlabelled.check_pairs(texts, full.learn.unlabelled, pairs)
    unlabelled.check_count(full, len(texts), counts["examples"], steps)
    extra = Extra(domain=domain, texts=texts, digests=models)
    setup = Setup(start, task, model, mesh, train, valid, steps, per_epoch, shape, notes, extra, splits)
    return setup if full.learn.replaces_words else unlabelled.complete(setup)


def _idle(config: Finetuned, steps: int, per_epoch: int) -> list[str]:
    """A line for each setting that a run of so few steps leaves without its effect."""
    found = []
    if config.optim.warmup_steps >= steps:
        found.append(
            f"optim.warmup_steps = {config.optim.warmup_steps} is as long as the run of {steps}: it never reaches "
            "optim.learning_rate; pass --run.warmup-fraction 0.1"
        )
    if config.learn.temporal and steps <= per_epoch:
        found.append("learn.temporal has no effect in one epoch: there are no earlier predictions; train longer")
    return found


def digests(setup: Setup) -> dict[str, str]:
    """Digests of all data that a run is trained and evaluated on; a run resumes only with the same data."""
    data, learn = setup.start.config.data, setup.start.config.learn
    found = {f"{data.folder} ({split.name})": split.encoded.digest() for split in (setup.train, setup.valid)}
    if learn.unlabelled:
        encoded, texts = setup.extra.unlabelled, setup.extra.texts
        found[learn.unlabelled] = encoded.digest() if encoded else unlabelled.digest_of(texts)
    return found


def init_params(setup: Setup) -> Callable[[jax.Array], Any]:
    """Returns a function that draws the parameters: the model's, and those that only training needs."""
    draw = functools.partial(draw_params, setup.model)
    return few_label_inputs.with_domains(draw, setup.start.config, setup.model.compute)


def announcement(setup: Setup, params: Any) -> str:
    """The lines that are printed before the first step."""
    batch, shape, encoded = setup.start.config.data.batch_examples, setup.shape, setup.train.encoded
    kind = setup.mesh.devices.flat[0].device_kind
    return (
        f"finetune: {setup.task.name} from {setup.start.config.init}: {state.count_parameters(params):,} parameters, "
        f"{setup.mesh.size} x {kind}, products in {setup.model.compute}\n"
        f"finetune: {setup.steps:,} steps of {batch} of {encoded.counts['examples']:,} examples (an epoch is "
        f"{setup.per_epoch:,} steps), in {shape.rows} rows of {shape.length} tokens, {setup.notes['real_share']:.0%} "
        "filled"
    )


def layout_of(setup: Setup) -> sharding.Layout:
    """The layout of the parameters: all of them on every device."""
    return sharding.layout(jax.eval_shape(init_params(setup), jax.random.key(0)), setup.mesh)


def make_optimizer_and_step(setup: Setup) -> tuple[optax.GradientTransformation, Callable[..., Any]]:
    """The optimiser, with layer rates and averaging if the recipe has them, and the jitted step."""
    config, steps = setup.start.config, setup.steps
    shapes = jax.eval_shape(init_params(setup), jax.random.key(0))
    schedule_optim = schedules.with_warmup(config.optim, config.run.warmup_fraction, steps)
    batch = config.data.batch_examples
    parts = [optim.make_optimizer(schedule_optim, steps, batch, shapes)]
    if config.adapt.layer_decay != 1.0 or config.adapt.freeze_layers:
        parts.append(layer_rates.scale_by_depth(config.adapt, config.model.num_layers, shapes))
    if config.run.average != "none":
        parts.append(averaging.average(config.run, steps))
    optimizer = optax.chain(*parts)
    step_fn = make_step(
        prepare=loss.make_prepare(),
        loss=_loss(setup),
        optimizer=optimizer,
        learning_rate=schedules.schedule(schedule_optim, steps, batch),
        layout=layout_of(setup),
        micro_batches=config.optim.micro_batches,
        seed=config.run.seed,
        unroll=config.model.unroll,
    )
    return optimizer, step_fn


def _loss(setup: Setup) -> Loss:
    config, model = setup.start.config, setup.model
    if config.quantise.noise:
        model = TaskModel(config.model, config.head, precision.noisy(model.compute))
    private, slots = few_label_inputs.private_of(setup.model, config.learn), few_label_batches.slots_of(setup)
    weights = class_weights(setup) if config.learn.class_weights == "balanced" else ()
    made = loss.make_loss(model.apply, config.head, config.model, config.learn, slots, private, weights)
    if not config.quantise.noise:
        return made
    return with_noise(made, lambda params, key: noised(params, config.model, config.quantise, key))


def class_weights(setup: Setup) -> tuple[float, ...]:
    """N / (C n) for each of the C labels that n of N training examples have; 1 for a label that none has."""
    labels, classes = setup.train.encoded.labels, len(setup.start.config.head.labels)
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    used = int((counts > 0).sum())
    return tuple(float(counts.sum() / (used * count)) if count else 1.0 for count in counts)
