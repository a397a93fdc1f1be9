"""A student beside its teacher, both measured when the report is written: size, cost, latency, scores, agreement.

Letters: B rows, L tokens, K predictions in a row, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.convert import adoption, sources
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.rows import batches, source, stages
from bertlite_jax.data.tasks import Task
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import task_splits
from bertlite_jax.jobs.compressing import agreement
from bertlite_jax.jobs.compressing.agreement import Judged
from bertlite_jax.jobs.reports import validation
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.report.cost import flops
from bertlite_jax.report.run.comparison import Comparison, Side, section
from bertlite_jax.train.pretraining import objective

ROWS, _BATCH = 32, 8
"""Rows of the validation split in which both predict masked tokens, and rows in a batch."""
ACCURACY = "MLM_accuracy"


def section_of_task(workdir: pathlib.Path, config: Finetuned) -> str:
    """The section of a fine-tuning run; "" where it has no teacher."""
    return _section(lambda: _of_task(workdir, config)) if config.learn.teacher else ""


def section_of_pretraining(workdir: pathlib.Path, config: Pretrain) -> str:
    """The section of a run of distillation; "" for other runs."""
    return _section(lambda: _of_pretraining(workdir, config)) if isinstance(config, Distill) else ""


def _section(compare: Callable[[], Comparison]) -> str:
    try:
        return section(compare())
    except UserError as error:  # Teacher or data may be on another machine; everything else is shown.
        return section(None, str(error))


# --- Fine-tuning -----------------------------------------------------------------------------------------------------


def _of_task(workdir: pathlib.Path, config: Finetuned) -> Comparison:
    student, examples = sources.load(workdir, "report"), validation.examples_of(config)
    task, length = task_splits.task_of(config.data), config.data.length
    with adoption.open_weights(config.learn.teacher, "report") as teacher:
        judged = [
            _judged(place, loaded, task, config, examples)
            for place, loaded in ((config.learn.teacher, teacher), (str(workdir), student))
        ]
        compared = _compared(config.learn.teacher, teacher, str(workdir), student, length)
    return dataclasses.replace(
        compared,
        teacher=dataclasses.replace(compared.teacher, scores=judged[0].figures),
        student=dataclasses.replace(compared.student, scores=judged[1].figures),
        agreement=agreement.agreement(judged[1], judged[0], config.head),
        answers=f"{len(examples):,} examples of the validation split",
    )


def _judged(place: str, loaded: Weights, task: Task, config: Finetuned, examples: list[Example]) -> Judged:
    """A model's answers, with outputs in the order of the run's labels."""
    head, theirs = config.head, loaded.head
    if theirs is None or theirs.kind != head.kind or sorted(theirs.labels) != sorted(head.labels):
        raise UserError(f"report: {place} is a model of another task now")
    if head.kind == "span":
        return agreement.judge_spans(task, head, examples, validation.spans_of(place, loaded, examples))
    order = [theirs.labels.index(label) for label in head.labels] or slice(None)
    outputs = validation.outputs_of(place, loaded, examples)
    return agreement.judge(task, head, examples, outputs if head.kind == "choose" else [x[..., order] for x in outputs])


# --- Pretraining -----------------------------------------------------------------------------------------------------


def _of_pretraining(workdir: pathlib.Path, config: Distill) -> Comparison:
    place, *others = config.distill.teachers
    student = sources.load(workdir, "report")
    with adoption.open_weights(place, "report") as teacher:
        compared = _compared(place, teacher, str(workdir), student, config.data.length)
    notes = [f"Of {len(others) + 1} teachers the first is shown"] if others else []
    if "mlm" not in teacher.params:
        notes.append("The teacher has no masked-LM head, so its predictions cannot be compared")
        return dataclasses.replace(compared, notes=(*compared.notes, *notes))
    assert student.tokenizer is not None
    guesses, labels = _guesses((teacher, student), config, student.tokenizer)
    right = [float(np.mean(each == labels)) for each in guesses]
    return dataclasses.replace(
        compared,
        teacher=dataclasses.replace(compared.teacher, scores={ACCURACY: right[0]}),
        student=dataclasses.replace(compared.student, scores={ACCURACY: right[1]}),
        agreement=float(np.mean(guesses[0] == guesses[1])),
        answers=f"{len(labels):,} masked tokens of the validation split",
        notes=(*compared.notes, *notes),
    )


def _guesses(models: tuple[Weights, ...], config: Distill, tokenizer: Tokenizer) -> tuple[list[np.ndarray], np.ndarray]:
    """The likeliest piece in place of each masked token by each model, and the pieces that were there."""
    data = dataclasses.replace(stages.of_length(config), weights=())
    split = source.open_source(data, "validation", objective.EVALUATION_SEED, tokenizer)
    found: list[list[np.ndarray]] = [[] for _ in models]
    labels: list[np.ndarray] = []
    guess = [_make_guess(loaded, split.special_ids) for loaded in models]
    for batch in batches.evaluation_rows(split, ROWS, _BATCH):
        answered = [tuple(map(np.asarray, of_model(batch))) for of_model in guess]
        for pieces, (guessed, _, counted) in zip(found, answered, strict=True):
            pieces.append(guessed[counted > 0])
        _, right, counted = answered[0]
        labels.append(right[counted > 0])
    if not sum(map(len, labels)):
        raise UserError("report: the validation split has no token to predict")
    return [np.concatenate(pieces) for pieces in found], np.concatenate(labels)


def _make_guess(loaded: Weights, special_ids: dict[str, int]) -> Callable[[Any], Any]:
    """Returns (rows) -> likeliest pieces, pieces that were there, weights, each [B, K]."""
    shape = dataclasses.replace(loaded.model, attention="auto", pair_classes=0, pooler=False, replaced_head=False)
    compute = choose_precision.resolve(shape.compute, jax.default_backend(), loaded.trained_bits)
    model = PretrainingModel(shape, compute)
    read = {name: part for name, part in loaded.params.items() if name not in ("pooler", "pair", "replaced")}
    params = jax.device_put(read)

    @jax.jit
    def guess(params: Any, batch: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        rows = objective.masked_for_evaluation(batch, special_ids)
        logits = objective.logits_of(model.apply, params, rows, None)[0]
        return jnp.argmax(logits[..., : shape.vocab_size], axis=-1), rows["labels"], rows["weights"]

    return lambda batch: guess(params, batch)


# --- What both cost --------------------------------------------------------------------------------------------------


def _compared(theirs: str, teacher: Weights, ours: str, student: Weights, length: int) -> Comparison:
    length = min(length, teacher.model.max_positions, student.model.max_positions)
    milliseconds, note = _milliseconds(teacher, student, length)
    sides = [
        Side(
            name=place,
            shape=f"{loaded.model.num_layers} layers of width {loaded.model.hidden_size}",
            parameters=sum(value.size for value in parameters.flatten(loaded.params).values()),
            flops=flops.forward_flops_per_row(loaded.model, length, 0, 0),
            milliseconds=time,
        )
        for place, loaded, time in zip((theirs, ours), (teacher, student), milliseconds, strict=True)
    ]
    return Comparison(sides[0], sides[1], length, notes=(note,) if note else ())


def _milliseconds(teacher: Weights, student: Weights, length: int) -> tuple[tuple[float | None, ...], str]:
    """Of one text in ONNX Runtime, in float32 on one thread; None twice, and why, where it cannot be timed."""
    try:
        from bertlite_jax.config.compression.prune import Prune
        from bertlite_jax.jobs.compressing import latency  # Raises where onnx or onnxruntime is not installed.

        seconds = latency.seconds_of([lambda: teacher, lambda: student], Prune(), length)
    except UserError as error:
        return (None, None), f"Latencies are missing: {error}"
    return tuple(1e3 * each for each in seconds), ""
