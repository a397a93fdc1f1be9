"""Settings of fine-tuning: a recipe, beside those of the model, the head and the optimiser."""

from __future__ import annotations

import dataclasses
from typing import Literal

from bertlite_jax.config.checks import (
    check_head,
    check_model,
    check_not_negative,
    check_numbers,
    check_positive,
    check_share,
)
from bertlite_jax.config.few_labels import Learn, problem_of
from bertlite_jax.config.model import Head, Model
from bertlite_jax.config.pretrain import Optim
from bertlite_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Examples:
    """Which examples a task is learnt from, and how they become rows."""

    task: str = ""
    """Name of the task; `--task`."""
    folder: str = ""
    """Where its files lie, in the official layout; without a task a file of your own, CSV, TSV or JSONL; `--data`."""
    length: int = 128
    """Tokens of an example at most, specials included; longer ones lose their end and are counted."""
    batch_examples: int = 32
    """Examples that an update learns from, over all devices and micro-batches."""
    pack: bool = True
    """Put several examples into a row, so that padding costs next to nothing; else one a row."""
    row_length: int = 0
    """Tokens in a row; 0: what needs the fewest slots for these examples."""
    train_examples: int = 0
    """Only the first so many of the training examples; 0: all."""
    validation_examples: int = 0
    """Only the first so many of the validation examples; 0: all."""
    validation_file: str = ""
    """Of your own data: what decides which model is best; without it a part of the training file is held out."""
    validation_fraction: float = 0.1
    """Share of the training file that is held out where there is no validation file."""
    kind: Literal["classify", "multi_label", "regression", "choose", "tag"] = "classify"
    """Of your own data: what is predicted."""
    text_column: str = ""
    """Column or field of the (first) text; empty: the first of the usual names, such as text or sentence1."""
    pair_column: str = ""
    """Column or field of the second text; empty: the first of the usual names, or single texts."""
    label_column: str = ""
    """Column or field of the label; empty: the first of the usual names."""
    window_step: int = 128
    """Of questions about a text that is longer than a row: tokens from one window on it to the next."""
    question_length: int = 64
    """Tokens of such a question that are kept."""
    answer_length: int = 30
    """Tokens of an answer at most."""


@dataclasses.dataclass(frozen=True)
class Adapt:
    """What changes in the encoder that is taken over."""

    dropout: float | None = None
    """Probability of both kinds of dropout in the encoder; None: as it was pretrained. The head has its own."""
    compute: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the products, as for pretraining."""
    unroll: bool = False
    """Write the layers out instead of scanning: faster steps, slower compilation."""
    layer_decay: float = 1.0
    """Each layer learns at this multiple of the rate of the layer above it; 1: all alike. Not with shared layers."""
    keep_head: bool = False
    """Start with the head of `--init` too, which must have the same labels in any order; else only with its encoder."""
    freeze_layers: int = 0
    """Embeddings and this many of the lowest layers stay as they are; -1: the whole encoder, only the head learns."""


@dataclasses.dataclass(frozen=True)
class TuneRun:
    """How long, how often, where."""

    epochs: float = 3.0
    """Passes over the training examples."""
    steps: int = 0
    """Updates; 0: as `epochs` says."""
    warmup_fraction: float = 0.1
    """Share of the updates that warm up, where `optim.warmup_steps` is 0."""
    seed: int = 0
    """Of the head, the order of the examples and the dropout."""
    devices: int = 0
    """Devices to use; 0: all. On a CPU more than one splits the cores."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    eval_every: int = 0
    """Steps between two evaluations; 0: once an epoch. After each the run can go on from there."""
    checkpoint_every: int = 0
    """Steps between two further checkpoints; 0: only after evaluations."""
    patience: int = 0
    """Stop after so many evaluations without a better one; 0: never."""
    keep_last: int = 1
    """Newest checkpoints that are kept, beside the best model."""
    tensorboard: bool = False
    """Write event files beside metrics.jsonl."""
    average: Literal["none", "ema", "tail"] = "none"
    """Score and keep an average of the weights: exponential moving, or the mean of the last updates' (`tail`)."""
    average_decay: float = 0.99
    """Of `ema`: how much of the average stays in an update."""
    average_steps: int = 0
    """Of `tail`: so many updates at the end; 0: a quarter of them all. Before them the weights are the last ones."""


@dataclasses.dataclass(frozen=True)
class Finetune:
    """Everything that a fine-tuning run depends on, beside the weights it starts from: a recipe."""

    data: Examples = Examples()
    adapt: Adapt = Adapt()
    head: Head = Head()
    """`hidden`, `dropout` and `span` count here; the task and the encoder decide the rest."""
    optim: Optim = Optim(name="adamw", learning_rate=2e-5, warmup_steps=0, bias_correction=True)
    run: TuneRun = TuneRun()
    learn: Learn = Learn()


@dataclasses.dataclass(frozen=True)
class Finetuned(Finetune):
    """What a work directory of fine-tuning stores: the recipe as it was carried out."""

    init: str = ""
    """Where the encoder came from."""
    model: Model = Model()
    """The encoder, as the task model has it."""


OWN_OF_HEAD = ("hidden", "dropout", "span")


def check_finetune(config: Finetune) -> None:
    """Raises UserError, one line, for the first setting that cannot work, whatever the task and the encoder."""
    data, adapt, optim, run = config.data, config.adapt, config.optim, config.run
    for group in ("data", "adapt", "head", "optim", "run", "learn"):
        check_numbers(getattr(config, group), group)
    if problem := problem_of(config.learn):
        raise UserError(f"config: {problem}")
    check_positive(data, "data", ("length", "batch_examples", "window_step", "question_length", "answer_length"))
    check_positive(optim, "optim", ("learning_rate", "micro_batches", "epsilon"))
    check_positive(run, "run", ("log_every", "keep_last"))
    check_not_negative(data, "data", ("row_length", "train_examples", "validation_examples"))
    check_not_negative(optim, "optim", ("warmup_steps", "weight_decay", "clip_norm"))
    counts = ("epochs", "steps", "devices", "eval_every", "checkpoint_every", "patience", "average_steps")
    check_not_negative(run, "run", counts)
    check_share(run, "run", ("average_decay",))
    check_share(optim, "optim", ("beta1", "beta2"))
    check_share(run, "run", ("warmup_fraction",))
    check_share(config.head, "head", ("dropout",))
    if dataclasses.replace(config.head, **{name: getattr(Head(), name) for name in OWN_OF_HEAD}) != Head():
        raise UserError(f"config: of head only {', '.join(OWN_OF_HEAD)} can be set; the task decides the rest")
    if not run.steps and not run.epochs:
        raise UserError("config: run.epochs = 0 and run.steps = 0 leave nothing to learn; set one of them")
    if optim.schedule == "wsd" or optim.reference_batch:
        raise UserError("config: fine-tuning has optim.schedule = linear or reference and optim.reference_batch = 0")
    if not 0 <= run.seed < 2**32:
        raise UserError(f"config: run.seed = {run.seed} must be at least 0 and less than 2**32")
    if adapt.dropout is not None:
        check_share(adapt, "adapt", ("dropout",))
    if not 0 < adapt.layer_decay <= 1:
        raise UserError(f"config: adapt.layer_decay = {adapt.layer_decay} must be greater than 0 and at most 1")
    if adapt.freeze_layers < -1:
        raise UserError(f"config: adapt.freeze_layers = {adapt.freeze_layers} must be at least -1")
    if not 0 < data.validation_fraction < 1:
        raise UserError(f"config: data.validation_fraction = {data.validation_fraction} must lie between 0 and 1")
    if data.length < 8:
        raise UserError(f"config: data.length = {data.length} is too short for a text with its specials; at least 8")
    if data.row_length and data.row_length < data.length:
        raise UserError(f"config: data.row_length = {data.row_length} is less than data.length = {data.length}")


def check_task_model(config: Finetuned) -> None:
    """Raises UserError where recipe, task head and encoder do not fit together."""
    check_model(config.model)
    check_head(config.head, config.model)
    model, data, adapt = config.model, config.data, config.adapt
    if data.length > model.max_positions:
        raise UserError(
            f"config: data.length = {data.length} exceeds the {model.max_positions} positions of {config.init}; "
            f"pass --data.length {model.max_positions}"
        )
    if (adapt.layer_decay < 1 or adapt.freeze_layers > 0) and model.shared_parts:
        raise UserError(
            f"config: adapt.layer_decay and adapt.freeze_layers want layers of their own, and {config.init} shares "
            "them; leave both out (freeze_layers = -1 freezes the whole encoder)"
        )
    if adapt.freeze_layers > model.num_layers:
        raise UserError(f"config: adapt.freeze_layers = {adapt.freeze_layers} of {model.num_layers} layers")
