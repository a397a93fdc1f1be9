"""What a teacher says of the training examples, computed once and kept."""

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


def check_teacher(teacher: str, head: Head) -> None:
    """Raises UserError for a teacher of other labels; without a teacher there is nothing to check."""
    if not teacher:
        return
    with adoption.open_weights(teacher) as loaded:
        known = loaded.head
    if known is None or known.kind != head.kind or sorted(known.labels) != sorted(head.labels):
        raise UserError(
            f"finetune: learn.teacher = {teacher} has the labels "
            f"{', '.join(known.labels) if known else 'of no classifier'}; the task has {', '.join(head.labels)}"
        )


def teacher_logits(teacher: str, examples: Iterable[Example], head: Head, folder: pathlib.Path) -> np.ndarray:
    """[M, C] float32: computed once, and kept in the run's folder under a hash of the texts and the teacher's files."""
    given = list(examples)
    path = folder / f"teacher-{_digest(teacher, given)}.npy"
    if path.is_file():
        return np.load(path)
    with adoption.open_weights(teacher) as loaded:
        model = open_task_model(teacher, loaded)
    print(f"finetune: {teacher} teaches: its logits for {len(given):,} texts go to {path}")
    outputs: list[np.ndarray] = []
    for chunk in _chunks(given, 512):
        outputs += model.answer(chunk)[0]
    order = [model.head.labels.index(label) for label in head.labels]
    logits = np.stack(outputs)[:, order].astype(np.float32)
    with whole_files.new_file(path, overwrite=True, job="finetune") as temporary, open(temporary, "wb") as out:
        np.save(out, logits)
    return logits


def _digest(teacher: str, examples: list[Example]) -> str:
    """Of all texts, and of the names, sizes and times of the teacher's weights."""
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
