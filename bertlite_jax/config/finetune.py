"""Settings of fine-tuning, beside those of the model, the head and the optimiser."""

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
    check_track,
)
from bertlite_jax.config.few_labels import Learn, problem_of
from bertlite_jax.config.int8 import Quantise, check_quantise
from bertlite_jax.config.model import Head, Model
from bertlite_jax.config.pretrain import Optim, Tracker
from bertlite_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Examples:
    """Which examples the task is learnt from, and how rows are made from them."""

    task: str = ""
    """Name of the task; the option --task sets it too."""
    folder: str = ""
    """Folder with the task's files, in the official layout; or, without a task, a file of your own: CSV, TSV, JSON,
    Parquet or CoNLL columns. The option --data sets it too."""
    length: int = 128
    """Most tokens of an example, special tokens included. Longer ones are cut at the end, and counted."""
    batch_examples: int = 32
    """Examples in a batch, over all devices and micro-batches."""
    pack: bool = True
    """Put several examples into a row, so that little of it is padding; otherwise each has its own row."""
    row_length: int = 0
    """Tokens in a row; 0: the length that leaves least padding with these examples."""
    train_examples: int = 0
    """Use only the first examples of the training split, this many; 0: all."""
    added_file: str = ""
    """File of further training examples with labels, in any form that `bertlite predict` reads. They follow on those of
    the training split, are not counted in train_examples, and none of them is held out. Not for questions about a
    text."""
    validation_examples: int = 0
    """Use only the first examples of the validation split, this many; 0: all."""
    validation_file: str = ""
    """For your own data: file of the examples that decide which model is best. Without it, part of the training file is
    held out."""
    validation_fraction: float = 0.1
    """Share of the training file that is held out if there is no validation file."""
    held_out: Literal["auto", "stratified", "by_hash"] = "auto"
    """Which texts of the training file are held out. stratified: the same share of each label, at least one text of
    each that has two; texts that differ only in case, accents or white space stay together. by_hash: each text by a
    hash of its own, so that equal texts stay together. auto: stratified; by_hash in a run of an older version."""
    metric: Literal["auto", "accuracy", "f1_macro", "f1_micro", "exact", "mcc", "pearson", "spearman", "span_f1"] = (
        "auto"
    )
    """Metric that decides which model is best; one of the task's. auto: the task's first; f1_macro for your own data if
    one label has more than nine tenths of the examples. Of several models with the same score, the earliest is best."""
    kind: Literal["auto", "classify", "multi_label", "regression", "choose", "tag"] = "auto"
    """For your own data: what is predicted. classify: one label. multi_label: any number of labels. regression: a
    number. choose: one of several choices. tag: a label for each word. auto: tag for lists of words and CoNLL columns,
    multi_label for lists of labels, otherwise classify."""
    text_column: str = ""
    """For your own data: column or field of the (first) text. Without it, the first of the usual names, such as text or
    sentence1."""
    pair_column: str = ""
    """For your own data: column or field of the second text. Without it, the first of the usual names; if there is
    none, texts are single."""
    label_column: str = ""
    """For your own data: column or field of the label. Without it, the first of the usual names, or UPOS of CoNLL-U.
    Several columns of 0 and 1, with commas between their names, are several labels."""
    id_column: str = ""
    """For your own data: column or field of the id. Without it, the first of id, idx and index, or the number of
    the example from 1; in JSON lines, of the line; in CoNLL columns, of the line where the sentence begins."""
    choice_columns: tuple[str, ...] = ()
    """For your own data and kind choose: field with the list of choices, or one column each. Without it, choices."""
    label_names: tuple[str, ...] = ()
    """For your own data: names of all labels in the order of the outputs, or a file with one on each line. Your data
    may have their numbers from 0 instead. Labels that no example has are allowed. The option --head.labels sets it
    too."""
    separator: str = "|"
    """For your own data and kind multi_label: what stands between the labels of an example in CSV and TSV."""
    delimiter: str = ""
    """For your own data: what stands between the columns of a table, such as ; or tab. Without it, it is recognised."""
    decimal: Literal["auto", ".", ","] = "auto"
    """For your own data and kind regression: the decimal sign, where it could stand between thousands too, as in a
    column of 1.234 and 12.345. auto: recognised, and refused in such a column."""
    skip_unlabelled: bool = False
    """For your own data: leave out training and validation examples that have no label. Without it, they are
    refused."""
    window_step: int = 128
    """For questions about a text that is longer than a row: tokens from the start of one window on the text to the
    next."""
    question_length: int = 64
    """For questions about a text: most tokens of the question. Longer ones are cut."""
    answer_length: int = 30
    """For questions about a text: most tokens of the answer."""


@dataclasses.dataclass(frozen=True)
class Adapt:
    """What changes in the pretrained encoder."""

    dropout: float | None = None
    """Dropout probability in the encoder. None: as in pretraining. The head has its own, head.dropout."""
    compute: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix products. auto: bfloat16 on TPU and GPU, and on CPUs that are faster with it; otherwise
    float32."""
    unroll: bool = False
    """Compile the layers one after the other instead of a loop over them: faster steps, slower compilation."""
    layer_decay: float = 1.0
    """Learning rate of each layer, as a multiple of that of the layer above it; 1: all are the same. Not for shared
    layers."""
    keep_head: bool = False
    """Take over the head of --init too, not only its encoder. It must have the same labels, in any order."""
    freeze_layers: int = 0
    """Freeze the embeddings and this many of the lowest layers. 0: nothing is frozen. -1: the whole encoder; only the
    head is trained."""


@dataclasses.dataclass(frozen=True)
class TuneRun:
    """How long to train, on which devices, and when to evaluate and save."""

    epochs: float = 3.0
    """Number of passes over the training examples."""
    steps: int = 0
    """Number of updates; 0: as many as epochs gives."""
    warmup_fraction: float = 0.1
    """Share of the updates that are warm-up, if optim.warmup_steps is 0."""
    seed: int = 0
    """Seed of the head, the order of the examples and the dropout."""
    devices: int = 0
    """Number of devices to use; 0: all. On a CPU, several devices divide the cores among them."""
    log_every: int = 10
    """Steps from one line of metrics.jsonl to the next."""
    eval_every: int = 0
    """Steps from one evaluation to the next; 0: once in each epoch. A run that was stopped resumes from the last
    one."""
    checkpoint_every: int = 0
    """Steps from one additional checkpoint to the next; 0: only those after evaluations."""
    patience: int = 0
    """Stop after this many evaluations without improvement; 0: never."""
    keep_last: int = 1
    """Number of newest checkpoints to keep, beside the best model."""
    tensorboard: bool = False
    """Also write TensorBoard event files."""
    track: tuple[Tracker, ...] = ()
    """Also send the metrics to these trackers. Each needs the extra of its name: pip install "bertlite_jax[mlflow]"."""
    track_project: str = ""
    """Name of the project in the trackers; in MLflow, of the experiment. Without it, what the tracker's own environment
    variable names, else bertlite."""
    average: Literal["none", "ema", "tail"] = "none"
    """Evaluate and keep an average of the weights. ema: an exponential moving average. tail: the mean over the last
    updates."""
    average_decay: float = 0.99
    """For ema: share of the old average that each update keeps."""
    average_steps: int = 0
    """For tail: number of updates at the end to average over; 0: a quarter of all. Before them, the newest weights are
    used."""


@dataclasses.dataclass(frozen=True)
class Finetune:
    """Everything that a fine-tuning run depends on, beside the weights that it starts from."""

    data: Examples = Examples()
    adapt: Adapt = Adapt()
    head: Head = Head()
    """Only hidden, dropout and span can be set; task and encoder decide the rest."""
    optim: Optim = Optim(name="adamw", learning_rate=2e-5, warmup_steps=0, bias_correction=True)
    run: TuneRun = TuneRun()
    learn: Learn = Learn()
    quantise: Quantise = Quantise()


@dataclasses.dataclass(frozen=True)
class Finetuned(Finetune):
    """What a work directory of fine-tuning stores: the recipe with everything that was decided at the start."""

    init: str = ""
    """Where the encoder came from."""
    model: Model = Model()
    """The encoder, as the task model has it."""


OWN_OF_HEAD = ("hidden", "dropout", "span")


def check_finetune(config: Finetune) -> None:
    """Raises UserError, one line, for the first setting that cannot work with any task and encoder."""
    data, adapt, optim, run = config.data, config.adapt, config.optim, config.run
    for group in ("data", "adapt", "head", "optim", "run", "learn", "quantise"):
        check_numbers(getattr(config, group), group)
    if problem := problem_of(config.learn):
        raise UserError(f"config: {problem}")
    check_quantise(config.quantise)
    if config.quantise.bits and adapt.compute == "bfloat16":
        raise UserError(
            "config: adapt.compute = bfloat16 does not go with quantise.bits: products are of integers, and what lies "
            "between them is float32; leave it out"
        )
    check_positive(data, "data", ("length", "batch_examples", "window_step", "question_length", "answer_length"))
    check_positive(optim, "optim", ("learning_rate", "micro_batches", "epsilon"))
    check_positive(run, "run", ("log_every", "keep_last"))
    check_not_negative(data, "data", ("row_length", "train_examples", "validation_examples"))
    check_not_negative(optim, "optim", ("warmup_steps", "decay_steps", "weight_decay", "clip_norm", "update_clip"))
    counts = ("epochs", "steps", "devices", "eval_every", "checkpoint_every", "patience", "average_steps")
    check_not_negative(run, "run", counts)
    check_track(run.track)
    check_share(run, "run", ("average_decay",))
    check_share(optim, "optim", ("beta1", "beta2", "momentum", "neuron_decay"))
    check_share(run, "run", ("warmup_fraction",))
    check_share(config.head, "head", ("dropout",))
    if not 0 <= optim.end_fraction <= 1:
        raise UserError(f"config: optim.end_fraction = {optim.end_fraction} must lie between 0 and 1")
    if dataclasses.replace(config.head, **{name: getattr(Head(), name) for name in OWN_OF_HEAD}) != Head():
        raise UserError(f"config: only {', '.join(OWN_OF_HEAD)} of head can be set; the task decides the rest")
    if not run.steps and not run.epochs:
        raise UserError("config: run.epochs = 0 and run.steps = 0 leave nothing to train; set one of them")
    if optim.schedule == "wsd" or optim.reference_batch:
        raise UserError("config: fine-tuning needs optim.schedule = linear or reference, and optim.reference_batch = 0")
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
        raise UserError(
            f"config: data.length = {data.length} is too short for a text with its special tokens; at least 8"
        )
    if data.row_length and data.row_length < data.length:
        raise UserError(f"config: data.row_length = {data.row_length} is less than data.length = {data.length}")


def check_task_model(config: Finetuned) -> None:
    """Raises UserError if recipe, task head and encoder do not fit together."""
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
            f"config: adapt.layer_decay and adapt.freeze_layers need layers that share no parameters, and those of "
            f"{config.init} do; leave both out (freeze_layers = -1 freezes the whole encoder)"
        )
    if adapt.freeze_layers > model.num_layers:
        raise UserError(
            f"config: adapt.freeze_layers = {adapt.freeze_layers} exceeds the encoder's {model.num_layers} layers"
        )
    if config.quantise.bits and model.low_rank:
        raise UserError(
            f"config: quantise.bits is not for models with low-rank pairs, and {config.init} has model.low_rank = "
            f"{model.low_rank}"
        )
    if config.quantise.bits and config.head.conditioned:
        raise UserError("config: quantise.bits needs a head that can be exported; pass --head.span independent")
