"""The logits of a teacher for the training examples, computed once and stored."""

from __future__ import annotations

import hashlib
import itertools
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert import adoption
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.answering.open_model import open_task_model
from bertlite_jax.jobs.runs import arrays


def check_teacher(teacher: str, head: Head) -> None:
    """Raises UserError if the teacher has other labels than the task; an empty name passes."""
    if not teacher:
        return
    with adoption.open_weights(teacher, "finetune") as loaded:
        teacher_head = loaded.head
    if teacher_head is None or teacher_head.kind != head.kind or sorted(teacher_head.labels) != sorted(head.labels):
        labels = f"has the labels {', '.join(teacher_head.labels)}" if teacher_head else "is no classifier"
        raise UserError(
            f"finetune: learn.teacher = {teacher} {labels}; the task has the labels {', '.join(head.labels)}"
        )


def teacher_logits(teacher: str, examples: Iterable[Example], head: Head, folder: pathlib.Path) -> np.ndarray:
    """The teacher's logits for the examples: [M, C] float32, C in the order of the labels of `head`.

    They are stored in the run's folder, under a hash of the texts and of the teacher's files.
    """
    texts = list(examples)
    path = folder / f"teacher-{_digest(teacher, texts)}.npy"
    if path.is_file():
        return arrays.load(path, (len(texts), len(head.labels)))
    with adoption.open_weights(teacher, "finetune") as loaded:
        model = open_task_model(teacher, loaded)
    print(f"finetune: computing the logits of the teacher {teacher} for {len(texts):,} texts, stored in {path}")
    outputs: list[np.ndarray] = []
    for chunk in _chunks(texts, 512):
        outputs += model.answer(chunk)[0]
    order = [model.head.labels.index(label) for label in head.labels]
    logits = np.stack(outputs)[:, order].astype(np.float32)
    with whole_files.new_file(path, overwrite=True, job="finetune") as temporary, open(temporary, "wb") as out:
        np.save(out, logits)
    return logits


def _digest(teacher: str, examples: list[Example]) -> str:
    """Digest of all texts, and of the names, sizes and times of the teacher's weight files."""
    digest = hashlib.sha256(str(pathlib.Path(teacher).absolute()).encode())
    for path in sorted(pathlib.Path(teacher).rglob("*.safetensors")):
        digest.update(f"{path}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}\0".encode())
    for example in examples:
        digest.update(f"{example.text}\0{example.pair}\0".encode())
    return digest.hexdigest()[:16]


def _chunks(examples: list[Example], size: int) -> Iterator[list[Example]]:
    stream = iter(examples)
    while chunk := list(itertools.islice(stream, size)):
        yield chunk
