"""What the operating system refuses and what a machine lacks, as one line; our own faults keep their traceback.

The rule that tells them apart:

* No room (a full disk, a quota, a limit on the size of files, a read-only disk), no permission, a disk or network that
  fails, a name that is too long or a link that leads in a circle, and the limits of this machine (memory, processes,
  open files) are nobody's fault in here, whichever file they are about: one line.
* A missing file, a folder where a file should be and the like are the user's mistake where the user could have named
  the file: it is one of the arguments, lies in one, or is the temporary file beside one. Elsewhere it is this program
  that has taken a wrong name, and its traceback is needed.
* Half of a surrogate pair or a null byte comes from a user's text or file names. This program makes neither.

Libraries in Rust and C++ put the system's answer into a sentence; `error_number` finds it there too.
"""

from __future__ import annotations

import errno
import os
import pathlib
import re
from collections.abc import Sequence

from bertlite_jax.host.places import short_name

NO_ROOM = {
    errno.ENOSPC: "make room or name another place",
    errno.EDQUOT: "make room or name another place",
    errno.EFBIG: "this system limits the size of files (ulimit -f)",
    errno.EROFS: "name another place",
}
"""Errors that only a write meets, and what helps."""
_THE_MACHINE = {
    **NO_ROOM,
    errno.EACCES: "change its permissions, or name another",
    errno.EPERM: "change its permissions, or name another",
    errno.EIO: "check the disk",
    errno.ENXIO: "no program is at the other end",
    errno.ENODEV: "it is no file",
    errno.ESTALE: "mount its disk again",
    errno.ETIMEDOUT: "check the network",
    errno.ECONNREFUSED: "check the network",
    errno.ECONNRESET: "check the network",
    errno.ENETUNREACH: "check the network",
    errno.EHOSTUNREACH: "check the network",
    errno.ENOTCONN: "mount its disk again",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ELOOP: "its links lead in a circle",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.EAGAIN: "this system allows no more processes or threads (ulimit -u)",
    errno.ETXTBSY: "a program runs from it; name another",
    errno.EBUSY: "another program uses it; name another",
    errno.ENOTSUP: "its disk cannot do that; name another place",
}
_A_NAME = {
    errno.ENOENT: "check the name",
    errno.ENOTDIR: "a folder is needed",
    errno.EISDIR: "a file is needed",
    errno.EEXIST: "name another",
    errno.ENOTEMPTY: "name another",
    errno.EINVAL: "name a plain file or folder",
    errno.ESPIPE: "it can be read only once, from the start; name a file",
    errno.EXDEV: "name a place on the same disk",
    errno.EBADF: "it is closed",
}
_WORDS = {os.strerror(number): number for number in (*NO_ROOM, errno.EACCES, errno.EMFILE, errno.EIO)} | {
    "database or disk is full": errno.ENOSPC,  # SQLite's words, from here on.
    "disk I/O error": errno.EIO,
    "readonly database": errno.EROFS,
}
_NO_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|[Oo]ut of memory|can't start new thread|Cannot allocate memory")
_PLACES = ("--out", "--workdir", "--submission", "--predictions", "--metrics", "--keep-hlo")
"""Options that name what a job writes: a write that does not say which file it was is about one of these."""


def error_number(error: BaseException) -> int | None:
    """The number (errno) of an error of the operating system; None if it is none, or of a kind that only errno tells.

    `tokenizers` and safetensors write "(os error 28)", copytree gathers lines with "[Errno 28]", array_record and
    TensorStore only have the words.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    numbers = [int(digits) for digits in re.findall(r"(?:[Oo][Ss] error |\[Errno )(\d+)", text)]
    numbers += [number for words, number in _WORDS.items() if words in text]
    return next((number for number in _THE_MACHINE if number in numbers), numbers[0] if numbers else None)


def line_of(error: BaseException, job: str, arguments: Sequence[str]) -> str | None:
    """What to print about an error in place of its traceback; None for a fault of this program.

    Args:
      error: that ended a job.
      job: first word of the line.
      arguments: what followed the job on the command line.
    """
    if isinstance(error, UnicodeEncodeError):
        return _unicode_line(error, job)
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return f"{job}: a file name contains a null byte; name another file"
    number = error_number(error)
    if number is None or number == errno.ENOMEM:
        return _memory_line(error, job)
    file = _file_of(error) or (_written(arguments) if number in _THE_MACHINE else "")
    if number in _THE_MACHINE:
        if number in NO_ROOM:
            return f"{job}: {file or 'standard output'} cannot be written: {os.strerror(number)}; {NO_ROOM[number]}"
        return f"{job}: {file + ': ' if file else ''}{os.strerror(number)}; {_THE_MACHINE[number]}"
    if number in _A_NAME and file and _could_be_named(file, arguments):
        return f"{job}: {file}: {os.strerror(number)}; {_A_NAME[number]}"
    return None


def _unicode_line(error: UnicodeEncodeError, job: str) -> str | None:
    if error.reason == "surrogates not allowed":
        half = f"\\u{ord(error.object[error.start]):04x}"
        return f"{job}: a text or a file name contains {half}, half of a surrogate pair, which is no character"
    if error.encoding.lower() not in ("utf-8", "utf8"):
        return f"{job}: the output is {error.encoding} here, which lacks a character of the text; set PYTHONUTF8=1"
    return None


def _memory_line(error: BaseException, job: str) -> str | None:
    text = " ".join(str(error).split())[:160]
    if isinstance(error, MemoryError) or error_number(error) == errno.ENOMEM:
        reason = f" ({text})" if text else ""
    elif isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)):
        reason = f" ({text})"
    else:
        return None
    return f"{job}: needs more memory than this machine has{reason}; use smaller batches, inputs or models"


def _file_of(error: BaseException) -> str:
    """The file that an error names; empty where it names none."""
    if isinstance(error, OSError):
        if error.errno is None and error.args and isinstance(error.args[0], list) and error.args[0]:
            return str(error.args[0][0][1])  # copytree: (source, target, reason) of each file.
        for name in (error.filename, error.filename2):
            if isinstance(name, str | bytes | os.PathLike):
                return os.fsdecode(name)
    return ""


def _written(arguments: Sequence[str]) -> str:
    """The value of the first option that names an output."""
    for place, text in enumerate(arguments):
        option, equals, value = text.partition("=")
        if option in _PLACES:
            return value if equals else next(iter(arguments[place + 1 :]), "")
    return ""


def _could_be_named(file: str, arguments: Sequence[str]) -> bool:
    """Whether a file is an argument, lies in or above one, or beside it with its name in its own."""
    place = pathlib.Path(os.path.abspath(file))
    for text in arguments:
        value = text.partition("=")[2] if text.startswith("--") else text
        if not value or value.startswith("--"):
            continue
        for named in {pathlib.Path(os.path.abspath(value)), pathlib.Path(os.path.realpath(value))}:
            if place == named or named in place.parents or place in named.parents:
                return True
            if named.parent in place.parents and short_name(named.name) in place.relative_to(named.parent).parts[0]:
                return True
    return False
