"""`bertlite bench predictions`: does `transformers` answer a validation split from our export as we do?

The task model is written with `to_hf`, loaded by the class that its config.json names, and both answer the same tokens:
ours in the packed rows of an evaluation, theirs in padded batches. In float32 the two should agree on every example;
in the run's own arithmetic they may differ where two labels are nearly as likely, so each difference is listed with
its margin.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np

from bertlite_jax.config.files import read_json
from bertlite_jax.config.finetune import Examples, Finetuned
from bertlite_jax.config.pretrain import Optim
from bertlite_jax.convert import sources
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.examples import batches
from bertlite_jax.data.scores import task_metrics
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, whole_files
from bertlite_jax.jobs.answering import outputs, task_splits
from bertlite_jax.jobs.answering.task_splits import Split
from bertlite_jax.jobs.benchmarks import finetune_peer, runtime_process
from bertlite_jax.jobs.benchmarks.finetune import answers_of
from bertlite_jax.jobs.benchmarks.finetune_peer import Lesson
from bertlite_jax.jobs.finetuning.examples import open_splits
from bertlite_jax.model.ops import choose_precision, precision
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train import sharding


def bench_predictions(run: str, /, *, data: str = "", out: str = "") -> dict[str, Any]:
    """Compares the answers of a fine-tuned run with those of transformers from its export, on the validation split.

    Args:
      run: Work directory of a fine-tuning run of a task that classifies texts or pairs.
      data: Folder with the task's files; by default the one that it was trained on.
      out: File for the figures as JSON.

    Returns:
      {"task", "examples", "transformers": its figures, and for "float32" and the run's own arithmetic: {"figures",
      "largest_difference" (of the logits), "different": [{"id", "margin"}]}}. `margin`: by how much the logit of their
      answer beats that of ours, in their logits; for numbers an answer is never different.

    Raises:
      UserError: no such run, PyTorch is missing, or the model fits no class of transformers.
    """
    finetune_peer.check_installed()
    config: Finetuned = read_json(pathlib.Path(run) / "config.json", Finetuned)
    model = sources.load(run)
    files = dataclasses.replace(config.data, folder=data or config.data.folder)
    task = task_splits.task_of(files)
    if model.head is None or model.tokenizer is None or model.head.kind != "classify":
        raise UserError(f"bench: {run} is no run of a task that classifies texts or pairs")
    valid = open_splits(task, _without_training(files), model.head, model.tokenizer)[1]
    theirs = their_logits(model, valid)
    found: dict[str, Any] = {
        "task": task.name,
        "examples": len(valid.examples),
        "transformers": _score(task, model, valid, theirs),
    }
    chosen = choose_precision.resolve(model.model.compute, jax.default_backend())
    for compute in dict.fromkeys(("float32", chosen)):
        logits = our_logits(model, valid, compute, config.data)
        found[compute] = {"figures": _score(task, model, valid, logits)} | differences(model, valid, logits, theirs)
    if out:
        whole_files.write_json(out, found)
    _print(found)
    return found


def _without_training(data: Examples) -> Examples:
    """A training split of one example, as only the validation split is needed."""
    return dataclasses.replace(data, train_examples=1)


def our_logits(model: Weights, valid: Split, compute: precision.Compute, data: Examples) -> np.ndarray:
    """[M, C] float32, computed as an evaluation computes them."""
    assert model.head
    assert model.tokenizer
    mesh = sharding.make_mesh(1)
    forward = outputs.make_forward(TaskModel(model.model, model.head, compute), mesh)
    length = max(batches.round_up(data.length), data.row_length)
    layouts = batches.evaluation_batches(valid.encoded, length, data.pack, 1, model.head, model.tokenizer.pad_id)
    params = jax.device_put(model.params, sharding.replicated(mesh))
    return np.stack(outputs.outputs_of(forward, params, valid.encoded, layouts, model.head, mesh))


def their_logits(model: Weights, valid: Split) -> np.ndarray:
    """[M, C] float32, of the exported folder in float32."""
    assert model.tokenizer
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "model"
        to_hf(model, folder)
        lesson = Lesson(
            folder=str(folder),
            train=valid.encoded,
            valid=valid.encoded,
            optim=Optim(warmup_steps=0),
            steps=1,
            seed=0,
            pad_id=model.tokenizer.pad_id,
            precision="float32",
        )
        load = functools.partial(finetune_peer.load, lesson)
        with runtime_process.start("PyTorch", load, cpu.cores()) as process:
            return answers_of(process, valid.encoded.sizes)


def differences(model: Weights, valid: Split, ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """`largest_difference` and `different`, as `bench_predictions` returns them."""
    assert model.head
    largest = float(np.abs(ours - theirs).max())
    if model.head.problem == "regression":
        return {"largest_difference": largest, "different": []}
    if model.head.problem == "multi_label":
        rows, margins = (ours > 0) != (theirs > 0), np.abs(theirs)
        listed = [(int(row), float(margins[row][rows[row]].max())) for row in np.flatnonzero(rows.any(axis=1))]
    else:
        chosen, wanted = ours.argmax(axis=1), theirs.argmax(axis=1)
        rows = np.flatnonzero(chosen != wanted).tolist()
        listed = [(row, float(theirs[row, wanted[row]] - theirs[row, chosen[row]])) for row in rows]
    different = [{"id": valid.examples[row].id, "margin": margin} for row, margin in listed]
    return {"largest_difference": largest, "different": different}


def _score(task: Any, model: Weights, valid: Split, logits: np.ndarray) -> dict[str, float]:
    assert model.head
    given = outputs.predictions(model.head, list(logits), valid.examples)
    return task_metrics.score(task, valid.examples, given)


def _print(found: dict[str, Any]) -> None:
    def shown(figures: dict[str, float]) -> str:
        return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())

    print(f"{found['task']}: {found['examples']:,} examples; transformers, float32: {shown(found['transformers'])}")
    for name, figures in found.items():
        if isinstance(figures, dict) and "different" in figures:
            margins = sorted((each["margin"] for each in figures["different"]), reverse=True)
            tail = f", margins up to {margins[0]:.2g}" if margins else ""
            print(
                f"bertlite_jax, {name}: {shown(figures['figures'])}; {len(margins)} answers differ{tail}; logits by "
                f"at most {figures['largest_difference']:.2g}"
            )
