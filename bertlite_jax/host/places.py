"""Where files may lie: on disk, in object storage (`gs://`), or on the hub.

Only text, corpora and tokenizers may lie in object storage; only models (`hf:OWNER/NAME`), and text and examples
(`hf://datasets/NAME`) on the hub.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pathlib
import re
from collections.abc import Iterator

from bertlite_jax.errors import UserError

HUB = "hf:"
"""Begins the name of a model of the hub."""
DATASETS = "hf://datasets/"
"""Begins the name of a dataset."""
_ROOM = 215
"""Bytes of a name that leave 40 of the 255 of most file systems for what a temporary or lock file's name adds."""


def in_object_storage(place: str | os.PathLike[str]) -> bool:
    """Whether this is `gs://BUCKET/...` or the like, or `gs:/BUCKET/...`, which pathlib makes of it."""
    return re.match("(gs|s3|az|hf|hdfs|file):/", os.fspath(place)) is not None


def on_hub(place: str | os.PathLike[str]) -> bool:
    """Whether this is `hf:OWNER/NAME`, a model of the hub."""
    return os.fspath(place).startswith(HUB) and not in_object_storage(place)


def in_datasets(place: str | os.PathLike[str]) -> bool:
    """Whether this is `hf://datasets/NAME`, a dataset, which the library of that name reads."""
    return os.fspath(place).startswith(DATASETS)


def check_on_disk(job: str, place: str | os.PathLike[str]) -> None:
    """Raises UserError for a place in object storage, which pathlib would read as a folder named `gs:`."""
    if in_datasets(place):
        raise UserError(f"{job}: {place} is a dataset; only text, --data and --data.validation-file may be one")
    if os.fspath(place).startswith(f"{HUB}/"):
        raise UserError(f"{job}: {place}: a model of the hub is named hf:OWNER/NAME, without a slash behind the colon")
    if in_object_storage(place):
        raise UserError(
            f"{job}: {place} lies in object storage, and this must be a path on disk: mount the bucket, or copy the "
            "files (docs/tpu.md shows how); only text, data.corpus and data.tokenizer may be gs://"
        )


def check_utf8(job: str, text: str) -> None:
    """Raises UserError for an argument of bytes that are not UTF-8, which Python keeps as halves of surrogate pairs.

    Checkpoints, corpora and models are written by libraries that cannot take such a name.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise UserError(
            f"{job}: {shown} is not UTF-8; use another name or text, or set LC_ALL=C.UTF-8 if it looks right to you"
        ) from error


def short_name(name: str) -> str:
    """What the name of a temporary file or folder is made of: `name`, or of a very long one its beginning and a hash.

    A user may name an output with all the 255 bytes that a file system allows.
    """
    content = os.fsencode(name)
    if len(content) <= _ROOM:
        return name
    digest = f"~{hashlib.sha256(content).hexdigest()[:12]}"
    return content[: _ROOM - len(digest)].decode("utf-8", "ignore") + digest


def final_place(job: str, out: str | os.PathLike[str]) -> pathlib.Path:
    """Where an output will lie: the absolute path, and behind links what they lead to.

    Args:
      job: first word of the error messages.
      out: as the user named it. A folder of outputs takes the place of what lies there.

    Raises:
      UserError: it has no name, or one that is too long; it is a link that leads nowhere (its disk may not be mounted);
        or a folder that this runs in or below: it would be replaced while this program, and the user's shell, are in
        it.
    """
    check_on_disk(job, out)
    if on_hub(out):
        raise UserError(f"{job}: {out} is a place on the hub; bertlite convert push RUN OWNER/NAME writes there")
    if not os.fspath(out):  # It would be the folder that this runs in.
        raise UserError(f"{job}: the output has an empty name; name a file or folder")
    place = pathlib.Path(os.path.abspath(out))
    with writing(job, place):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(place)  # A name that is too long would be told only by the rename at the end.
        if place.is_symlink():
            try:
                place = pathlib.Path(os.path.realpath(place, strict=True))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP):
                    raise
                raise UserError(
                    f"{job}: {place} is a link to {os.readlink(place)}, which does not exist; remove the link, or name "
                    "another place"
                ) from error
        if place.is_dir() and pathlib.Path(os.getcwd()).is_relative_to(os.path.realpath(place)):
            raise UserError(f"{job}: {out} is the folder that this runs in; name another, or a new one in it")
    return place


def refuse_to_replace(job: str, source: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Raises UserError where writing `out` would replace what is read: it is `source` or a folder around it.

    Links are followed, so that two names of one folder are one.
    """
    read, written = (pathlib.Path(os.path.realpath(place)) for place in (source, out))
    if written == read or written in read.parents:
        where = "the place that is read" if written == read else f"a folder around {source}, which is read"
        raise UserError(f"{job}: {out} is {where}; name another place to write")


@contextlib.contextmanager
def writing(job: str, place: os.PathLike[str]) -> Iterator[None]:
    """Turns an OSError of the calls inside, which make a job's output folder, into a UserError."""
    check_on_disk(job, place)
    try:
        yield
    except OSError as error:
        raise UserError(f"{job}: {place} cannot be written: {error.strerror}; name another place") from error
