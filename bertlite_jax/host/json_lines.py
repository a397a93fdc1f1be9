"""Files of JSON objects, one a line, that grow by a line whenever something has ended, and survive a kill."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bertlite_jax.host import json_files


def read(path: pathlib.Path, job: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(`FILE:LINE`, object) for each line; nothing before there is a file. A last line that was torn is left out.

    Args:
      path: of the file.
      job: first word of the message.

    Raises:
      UserError: a line is damaged.
    """
    content = path.read_bytes() if path.is_file() else b""
    for number, text in enumerate(content.splitlines(keepends=True), start=1):
        if not text.endswith(b"\n"):
            break
        where = f"{path}:{number}"
        yield where, json_files.parse_object(text, where, job)


def append(path: pathlib.Path, objects: Sequence[Mapping[str, Any]]) -> None:
    """Writes lines in one go and waits until the disk has them; what a kill has torn before them goes."""
    text = "".join(json.dumps(each, allow_nan=False) + "\n" for each in objects)
    with open(path, "a+b") as file:
        file.truncate(_whole(file))
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _whole(file: Any) -> int:
    """Bytes up to the end of the last whole line."""
    file.seek(0)
    return file.read().rfind(b"\n") + 1
