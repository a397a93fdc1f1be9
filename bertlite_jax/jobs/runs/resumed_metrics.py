"""metrics.jsonl of a run that resumes: no step may stand in it twice."""

from __future__ import annotations

import os
import pathlib

from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files, whole_files


def truncate(path: str | os.PathLike[str], step: int) -> None:
    """Removes the lines that a resumed run will write again, and a last line that a kill cut off.

    Args:
      path: `metrics.jsonl`; may be missing.
      step: of the restored checkpoint. Lines of later steps are removed.

    Raises:
      UserError: a line before the last is not a JSON object with a step.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        return
    lines = file.read_bytes().split(b"\n")
    remaining = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        line_step = _step_of(line, f"{file}:{number}")
        if line_step is None and number < len(lines):  # Without a line break after it, it was cut off.
            raise UserError(f"metrics: {file}:{number}: not a JSON object with a step; repair or remove the line")
        if line_step is not None and line_step <= step:
            remaining.append(line + b"\n")
    whole_files.write_bytes(file, b"".join(remaining))


def _step_of(line: bytes, where: str) -> int | None:
    """The step of a line of metrics.jsonl; None if it has none."""
    try:
        values = json_files.parse_object(line, where, "metrics")
    except UserError:
        return None
    step = values.get("step")
    return step if isinstance(step, int) and not isinstance(step, bool) else None
