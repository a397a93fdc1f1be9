"""Trains the student that every other one must beat: a mean of word vectors, which learns from the teacher too.

Letters: M examples, B texts in a batch, L tokens, C outputs.
"""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from bertlite_jax.convert.onnx.graph import save_onnx
from bertlite_jax.convert.onnx.word_mean import build_word_mean
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.examples.features import Encoded
from bertlite_jax.data.scores import task_metrics
from bertlite_jax.jobs.answering.outputs import predictions
from bertlite_jax.jobs.finetuning.few_labels import teacher, unlabelled
from bertlite_jax.jobs.finetuning.prepare import class_weights
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.train.compression import word_mean
from bertlite_jax.train.compression.word_mean import WordMean
from bertlite_jax.train.few_labels import teaching
from bertlite_jax.train.optimizers import adam
from bertlite_jax.train.tasks import task_loss

MODEL = "model.onnx"
_BATCH, _RATE = 512, 3e-3
_EPOCHS, _LEAST_STEPS = 10, 200
"""So many epochs, and more where they have few batches."""


def is_for(teacher: Weights) -> bool:
    """Whether there is such a student: of teachers that classify texts or pairs, or give them numbers."""
    return teacher.head is not None and teacher.head.kind == "classify"


def train(teacher_weights: Weights, setup: Setup, path: pathlib.Path) -> int:
    """Trains it and writes it as an ONNX file.

    Its words are the teacher's at the start. Of all epochs, the model with the best validation score is written.

    Args:
      teacher_weights: of the teacher.
      setup: of the task; `learn` says how much the teacher and each label count. Its texts without labels are not read.
      path: of the file.

    Returns:
      Its parameters: those of the file, in which the linear layer is applied to each word beforehand.
    """
    print("compress: training the mean of word vectors that every student must beat", flush=True)
    config, pad_id = setup.start.config, setup.start.tokenizer.pad_id
    arrays = _padded(setup.train.encoded, pad_id) | {"labels": setup.train.encoded.labels}
    if config.learn.teacher:
        assert setup.extra.answers is not None
        texts, digest = list(unlabelled.examples_of_training(setup)), setup.extra.digests[config.learn.teacher]
        taught = teacher.answers_to(config.learn.teacher, digest, texts, config.head, setup.extra.answers)
        arrays["teacher"] = taught.outputs
    words = teacher_weights.params["embeddings"]["word"]["embedding"][: teacher_weights.model.vocab_size]
    params = word_mean.drawn(np.asarray(words, np.float32), config.head.outputs, jax.random.key(config.run.seed))
    best = _best(setup, arrays, _padded(setup.valid.encoded, pad_id), params)
    table, bias = word_mean.folded(best), np.asarray(best.bias)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_onnx(build_word_mean(table, bias), path, overwrite=True)
    return table.size + bias.size


def _best(setup: Setup, arrays: dict[str, np.ndarray], valid: dict[str, np.ndarray], params: WordMean) -> WordMean:
    head, count = setup.start.config.head, len(arrays["tokens"])
    step, state = _make_step(setup)
    moments, generator = state(params), np.random.default_rng(setup.start.config.run.seed)
    batch = min(_BATCH, count)
    logits_of = jax.jit(word_mean.logits)
    best, most = params, -np.inf
    for _ in range(max(_EPOCHS, -(-_LEAST_STEPS * batch // count))):
        order = generator.permutation(count)
        for first in range(0, count - batch + 1, batch):
            rows = {name: values[order[first : first + batch]] for name, values in arrays.items()}
            params, moments = step(params, moments, rows)
        outputs = _in_batches(logits_of, params, valid)
        answers = predictions(head, outputs, setup.valid.examples)
        score = task_metrics.score(setup.task, setup.valid.examples, answers)[setup.task.metrics[0]]
        if score > most:
            best, most = params, score
    return best


def _make_step(setup: Setup) -> tuple[Any, Any]:
    """An update with Adam, and the function that makes its first state."""
    head, learn = setup.start.config.head, setup.start.config.learn
    share = learn.teacher_weight if learn.teacher else 0.0
    by_class = jnp.asarray(class_weights(setup)) if learn.class_weights == "balanced" else None
    optimizer = optax.chain(adam.scale_by_adam_corrected(0.9, 0.999, 1e-8), optax.scale(-_RATE))

    def loss(params: WordMean, rows: dict[str, Array]) -> Float[Array, ""]:
        logits = word_mean.logits(params, rows["tokens"], rows["mask"])[:, None]
        placed = {name: values[:, None] for name, values in rows.items() if name in ("labels", "teacher")}
        placed["weights"] = jnp.ones(logits.shape[:2])
        weighted = placed if by_class is None else placed | {"weights": by_class[placed["labels"]]}
        total = (1 - share) * task_loss.sum_of(head, logits, weighted)[0]
        if share:
            total = total + share * teaching.sum_of(head, logits, placed, learn.temperature)
        return total / len(logits)

    @jax.jit
    def step(params: WordMean, moments: Any, rows: dict[str, Array]) -> tuple[WordMean, Any]:
        updates, moments = optimizer.update(jax.grad(loss)(params, rows), moments)
        return optax.apply_updates(params, updates), moments  # pyright: ignore[reportReturnType]

    return step, optimizer.init


def _padded(encoded: Encoded, pad_id: int) -> dict[str, np.ndarray]:
    """All texts of a split: `tokens` and `mask`, [M, L]."""
    sizes = encoded.sizes
    mask = (np.arange(int(sizes.max())) < sizes[:, None]).astype(np.int32)
    tokens = np.full(mask.shape, pad_id, np.int32)
    tokens[mask > 0] = encoded.tokens
    return {"tokens": tokens, "mask": mask}


def _in_batches(logits_of: Any, params: WordMean, texts: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The logits of each text, [C]."""
    found: list[np.ndarray] = []
    for first in range(0, len(texts["tokens"]), _BATCH):
        found += list(
            np.asarray(logits_of(params, *(texts[name][first : first + _BATCH] for name in ("tokens", "mask"))))
        )
    return found
