"""`bertlite bench predictions`: does `transformers` give the same answers from our export as we do?

The task model is written with `to_hf` and loaded by the class that its config.json names. Both answer the same tokens:
ours in the packed rows of an evaluation, theirs in padded batches. In float32 the two should agree on every example. In
the run's own arithmetic they may differ where two labels are almost equally likely, so each difference is listed with
its margin.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from bertlite_jax.config.files import read_json
from bertlite_jax.config.finetune import Examples, Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.config.pretrain import Optim
from bertlite_jax.convert import sources
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.weights import quantized
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.examples import batches
from bertlite_jax.data.scores import task_metrics
from bertlite_jax.data.tasks import Task
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, whole_files
from bertlite_jax.jobs.answering import outputs, task_splits
from bertlite_jax.jobs.answering.task_splits import Split
from bertlite_jax.jobs.benchmarks import finetune_peer
from bertlite_jax.jobs.benchmarks.finetune import peer_logits
from bertlite_jax.jobs.benchmarks.finetune_peer import PeerTask
from bertlite_jax.jobs.benchmarks.runtimes import process
from bertlite_jax.jobs.finetuning.examples import open_splits
from bertlite_jax.model.ops import choose_precision, precision
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train import sharding


def bench_predictions(
    run: Annotated[str, tyro.conf.arg(metavar="RUN")], /, *, data: str = "", out: str = ""
) -> dict[str, Any]:
    """Compares the answers of a fine-tuned run with those of transformers from its export, on the validation split.

    Args:
      run: Work directory of a fine-tuning run whose task classifies texts or pairs.
      data: Folder with the task's files; by default the one that the run was trained on.
      out: JSON file for the figures.

    Returns:
      {"task", "examples", "transformers": its figures, and for "float32" and the run's own arithmetic: {"figures",
      "largest_difference" (of the logits), "different": [{"id", "margin"}]}}. `margin`: in their logits, how far their
      answer is ahead of ours. Regression has no different answers.

    Raises:
      UserError: there is no such run, PyTorch is missing, or the model fits no class of transformers.
    """
    finetune_peer.check_installed()
    config: Finetuned = read_json(pathlib.Path(run) / "config.json", Finetuned)
    model = quantized.as_trained(sources.load(run, "bench"))
    files = dataclasses.replace(config.data, folder=data or config.data.folder)
    task = task_splits.task_of(files)
    if model.head is None or model.tokenizer is None or model.head.kind != "classify":
        raise UserError(f"bench: {run} is not a fine-tuning run whose task classifies texts or pairs")
    valid = open_splits(task, _without_training(files), model.head, model.tokenizer)[1]
    theirs = their_logits(model, valid)
    ids = [example.id for example in valid.examples]
    result: dict[str, Any] = {
        "task": task.name,
        "examples": len(valid.examples),
        "transformers": _score(task, model.head, valid, theirs),
    }
    chosen = choose_precision.resolve(model.model.compute, jax.default_backend())
    for compute in dict.fromkeys(("float32", chosen)):
        logits = our_logits(model, valid, compute, config.data)
        result[compute] = {"figures": _score(task, model.head, valid, logits)} | differences(
            model.head, ids, logits, theirs
        )
    if out:
        whole_files.write_json(out, result)
    _print(result)
    return result


def _without_training(data: Examples) -> Examples:
    """With a training split of one example, since only the validation split is needed."""
    return dataclasses.replace(data, train_examples=1)


def our_logits(model: Weights, valid: Split, compute: precision.Compute, data: Examples) -> np.ndarray:
    """Our logits, computed as in an evaluation: [M, C] float32."""
    assert model.head
    assert model.tokenizer
    mesh = sharding.make_mesh(1)
    forward = outputs.make_forward(TaskModel(model.model, model.head, compute), mesh)
    length = max(batches.round_up(data.length), data.row_length)
    layouts = batches.evaluation_batches(valid.encoded, length, data.pack, 1, model.head, model.tokenizer.pad_id)
    params = jax.device_put(model.params, sharding.replicated(mesh))
    return np.stack(outputs.outputs_of(forward, params, valid.encoded, layouts, model.head, mesh))


def their_logits(model: Weights, valid: Split) -> np.ndarray:
    """The logits of transformers, from the exported folder in float32: [M, C] float32."""
    assert model.tokenizer
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "model"
        to_hf(model, folder)
        peer_task = PeerTask(
            folder=str(folder),
            train=valid.encoded,
            valid=valid.encoded,
            optim=Optim(warmup_steps=0),
            steps=1,
            seed=0,
            pad_id=model.tokenizer.pad_id,
            precision="float32",
        )
        load = functools.partial(finetune_peer.load, peer_task)
        with process.start("PyTorch", load, cpu.cores()) as peer:
            return peer_logits(peer, valid.encoded.sizes)


def differences(head: Head, ids: Sequence[str], ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """`largest_difference` and `different`, as `bench_predictions` returns them.

    Args:
      head: of the model.
      ids: of the M examples.
      ours: [M, C] logits.
      theirs: [M, C] logits.
    """
    largest = float(np.abs(ours - theirs).max())
    if head.problem == "regression":
        return {"largest_difference": largest, "different": []}
    if head.problem == "multi_label":
        rows, margins = (ours > 0) != (theirs > 0), np.abs(theirs)
        different = [(int(row), float(margins[row][rows[row]].max())) for row in np.flatnonzero(rows.any(axis=1))]
    else:
        our_label, their_label = ours.argmax(axis=1), theirs.argmax(axis=1)
        rows = np.flatnonzero(our_label != their_label).tolist()
        different = [(row, float(theirs[row, their_label[row]] - theirs[row, our_label[row]])) for row in rows]
    return {
        "largest_difference": largest,
        "different": [{"id": ids[row], "margin": margin} for row, margin in different],
    }


def _score(task: Task, head: Head, valid: Split, logits: np.ndarray) -> dict[str, float]:
    predictions = outputs.predictions(head, list(logits), valid.examples)
    return task_metrics.score(task, valid.examples, predictions)


def _print(result: dict[str, Any]) -> None:
    def in_words(figures: dict[str, float]) -> str:
        return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())

    print(
        f"{result['task']}: {result['examples']:,} examples; transformers, float32: {in_words(result['transformers'])}"
    )
    for name, figures in result.items():
        if isinstance(figures, dict) and "different" in figures:
            margins = sorted((answer["margin"] for answer in figures["different"]), reverse=True)
            tail = f", margins up to {margins[0]:.2g}" if margins else ""
            print(
                f"bertlite_jax, {name}: {in_words(figures['figures'])}; {len(margins)} answers differ{tail}; logits "
                f"differ by at most {figures['largest_difference']:.2g}"
            )
