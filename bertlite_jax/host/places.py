"""Where files may lie: on a disk, or in object storage (`gs://`) where only readers of text and corpora know how."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from bertlite_jax.errors import UserError


def in_object_storage(place: str | os.PathLike[str]) -> bool:
    """Whether this is `gs://BUCKET/...` or the like (`gs:/BUCKET/...` once it went through pathlib), and no path."""
    return re.match("(gs|s3|az|hf|hdfs|file):/", os.fspath(place)) is not None


def check_on_disk(job: str, place: str | os.PathLike[str]) -> None:
    """Raises UserError for a place in object storage, which pathlib would take for a folder named `gs:`."""
    if in_object_storage(place):
        raise UserError(
            f"{job}: {place} lies in object storage, and this has to be a path: mount the bucket, or copy "
            "(docs/tpu.md says how); only text, data.corpus and data.tokenizer may be gs://"
        )


@contextlib.contextmanager
def writing(job: str, place: os.PathLike[str]) -> Iterator[None]:
    """Around the calls that make a job's output folder: a place that cannot be written is the user's mistake."""
    check_on_disk(job, place)
    try:
        yield
    except OSError as error:
        raise UserError(f"{job}: {place} cannot be written: {error.strerror}; name another place") from error
