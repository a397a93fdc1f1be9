"""What can be wrong with a file, as functions from its right content to a wrong one, by name."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Callable

Damage = Callable[[bytes], bytes]

JSON: dict[str, Damage] = {
    "empty": lambda right: b"",
    "cut off": lambda right: right[: len(right) // 2],
    "no JSON": lambda right: b"oops " + right,
    "binary": lambda right: b"\x7fELF\x02\x01\x00" + bytes(range(256)),
    "too deep": lambda right: b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "digits": lambda right: b'{"format": ' + b"9" * 5_000 + b"}",
    "latin-1": lambda right: '{"é": 1}'.encode("latin-1"),
    "utf-16": lambda right: right.decode().encode("utf-16"),
    "half a pair": lambda right: b'{"a": "\\ud800"}',
    "a list": lambda right: b"[" + right.rstrip() + b"]",
    "a string": lambda right: b'"text"',
    "null": lambda right: b"null",
}
"""Of a file that should be one JSON object."""

JSON_LINES: dict[str, Damage] = {
    name: lambda right, change=change: change(right) + b"\n" for name, change in JSON.items()
}
"""Of a file whose lines are JSON objects: the first line is damaged, and no other follows."""

SAFETENSORS: dict[str, Damage] = {
    "empty": lambda right: b"",
    "of five bytes": lambda right: right[:5],
    "cut in the header": lambda right: right[:40],
    "cut in the data": lambda right: right[:-100],
    "longer": lambda right: right + b"more",
    "header of 2**60 bytes": lambda right: (2**60).to_bytes(8, "little") + right[8:],
    "header no JSON": lambda right: right[:8] + b"x" + right[9:],
    "zeros": lambda right: bytes(len(right)),
    "text": lambda right: b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 34\n",
}


def edit_json(*path: str | int, to: object) -> Damage:
    """Sets one value, by the keys that lead to it; `...` as the value removes it."""

    def change(right: bytes) -> bytes:
        values = inner = json.loads(right)
        for key in path[:-1]:
            inner = inner[key]
        if to is ...:
            del inner[path[-1]]
        else:
            inner[path[-1]] = to
        return json.dumps(values).encode()

    return change


def apply(file: pathlib.Path, damage: Damage) -> None:
    """Replaces the content of a file."""
    file.write_bytes(damage(file.read_bytes()))


def make_folder(file: pathlib.Path) -> None:
    """A folder in the place of a file."""
    file.unlink()
    file.mkdir()


def make_dead_link(file: pathlib.Path) -> None:
    """A link that leads nowhere in the place of a file or folder."""
    if file.is_dir():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)
    os.symlink("/unmounted/disk", file)
