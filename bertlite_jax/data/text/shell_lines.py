"""Lines to paste into a shell that turn a file which is refused into one that can be read."""

from __future__ import annotations

import itertools
import pathlib
import shlex


def rewriting(command: str, path: str, addition: str, suffix: str = "") -> str:
    """`COMMAND < PATH > NEW`, where NEW is the name of a file that does not exist yet, beside the other.

    A file whose name ends in `.gz` is unpacked first, and NEW is not packed.

    Args:
      command: reads standard input and writes standard output.
      path: the file. If there is none of this name, as for standard input, FILE and NEW stand for the two names.
      addition: is put behind the name of the file, before its ending.
      suffix: another ending for NEW, with its point.
    """
    if not pathlib.Path(path).is_file():
        return f"{command} < FILE > NEW"
    packed = pathlib.Path(path).suffix.lower() == ".gz"
    plain = pathlib.Path(path[:-3] if packed else path)
    start, ending = f"{plain.stem}_{addition}", suffix or plain.suffix
    names = (plain.with_name(f"{start}{number}{ending}") for number in itertools.chain([""], itertools.count(2)))
    new = next(name for name in names if not name.exists())
    source = f"gzip -dc < {shlex.quote(path)} | {command}" if packed else f"{command} < {shlex.quote(path)}"
    return f"{source} > {shlex.quote(str(new))}"
