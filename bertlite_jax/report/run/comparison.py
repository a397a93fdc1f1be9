"""The section of a report that puts a teacher and its student side by side."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping
from typing import Any

from bertlite_jax.report.html_parts import number, percent, scaled, table


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two."""

    name: str
    """Its folder."""
    shape: str
    """`12 layers of width 768`."""
    parameters: int
    flops: int
    """Of a forward pass of the encoder over one text."""
    milliseconds: float | None = None
    """Of one text; None where nothing could time it."""
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """By name; some may be missing."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Both, on the same text and the same validation data."""

    teacher: Side
    student: Side
    length: int
    """Tokens of the text that is timed and whose FLOPs are counted."""
    agreement: float | None = None
    """Share of equal answers; None where answers cannot be equal, or there are none."""
    answers: str = ""
    """What was answered, with its number: `29 texts`."""
    notes: tuple[str, ...] = ()
    """Why something is missing."""


def section(compared: Comparison | None, missing: str = "") -> str:
    """HTML; "" without a teacher. `missing` says why there is no comparison."""
    title = "<h2>Teacher and student</h2>"
    if compared is None:
        return f'{title}<p class="warn">They are not compared: {html.escape(missing)}.</p>' if missing else ""
    a, b = compared.teacher, compared.student
    rows = [
        ("folder", a.name, b.name, ""),
        ("shape", a.shape, b.shape, ""),
        ("parameters", number(a.parameters), number(b.parameters), _share(b.parameters, a.parameters)),
        ("FLOPs of a text", scaled(a.flops), scaled(b.flops), _share(b.flops, a.flops)),
    ]
    if a.milliseconds is not None and b.milliseconds is not None:
        share = _share(b.milliseconds, a.milliseconds)
        rows.append(("milliseconds a text", f"{a.milliseconds:.3f}", f"{b.milliseconds:.3f}", share))
    for name in dict.fromkeys([*a.scores, *b.scores]):
        ours, theirs = b.scores.get(name), a.scores.get(name)
        kept = _share(ours, theirs) if ours is not None and theirs is not None else ""
        rows.append((name.replace("_", " "), _score(theirs), _score(ours), kept))
    if compared.agreement is not None:
        rows.append(("same answer", "", percent(compared.agreement), ""))
    texts = f"A text has {compared.length:,} tokens; FLOPs are those of the encoder"
    texts += "; latencies those of ONNX Runtime on this machine, float32, one thread" * (a.milliseconds is not None)
    answered = f". Scores and answers: {compared.answers}" if compared.answers else ""
    lines = [f'<p class="small quiet">{html.escape(texts + answered)}.</p>']
    lines += [f'<p class="warn">{html.escape(note)}.</p>' for note in compared.notes]
    return f"{title}{table(rows, ('', 'teacher', 'student', 'student / teacher'), (1, 2, 3))}{''.join(lines)}"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _share(part: Any, whole: Any) -> str:
    return percent(part / whole) if whole and whole > 0 else ""
