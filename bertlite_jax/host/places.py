"""Where files may lie: on disk, or in object storage (`gs://`), where only text, corpora and tokenizers may lie."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from bertlite_jax.errors import UserError


def in_object_storage(place: str | os.PathLike[str]) -> bool:
    """Whether this is `gs://BUCKET/...` or the like, or `gs:/BUCKET/...`, which pathlib makes of it."""
    return re.match("(gs|s3|az|hf|hdfs|file):/", os.fspath(place)) is not None


def check_on_disk(job: str, place: str | os.PathLike[str]) -> None:
    """Raises UserError for a place in object storage, which pathlib would read as a folder named `gs:`."""
    if in_object_storage(place):
        raise UserError(
            f"{job}: {place} lies in object storage, and this must be a path on disk: mount the bucket, or copy the "
            "files (docs/tpu.md shows how); only text, data.corpus and data.tokenizer may be gs://"
        )


@contextlib.contextmanager
def writing(job: str, place: os.PathLike[str]) -> Iterator[None]:
    """Turns an OSError of the calls inside, which make a job's output folder, into a UserError."""
    check_on_disk(job, place)
    try:
        yield
    except OSError as error:
        raise UserError(f"{job}: {place} cannot be written: {error.strerror}; name another place") from error
