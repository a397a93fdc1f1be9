"""Answers as lines of JSON, for whatever encoding the output has."""

from __future__ import annotations

import json
from typing import Any, TextIO


def write_line(out: TextIO, value: Any) -> None:
    """Writes a line of JSON; characters that the output's encoding may lack are escaped."""
    encoding = (out.encoding or "utf-8").lower().replace("_", "-")
    out.write(json.dumps(value, ensure_ascii=encoding not in ("utf-8", "utf8")) + "\n")
