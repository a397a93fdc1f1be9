"""Output of a running job: metrics.jsonl, TensorBoard events, trackers, the progress display, where the time went.

Nothing here touches an array: a job passes plain floats of the previous step, so that showing them never waits for the
running step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple, TextIO

from rich import console as rich_console
from rich import progress as rich_progress
from rich import table as rich_table

from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files, json_shapes
from bertlite_jax.report.run.tags import tagged
from bertlite_jax.report.trackers import following
from bertlite_jax.report.trackers.record import Record

# --- metrics.jsonl, TensorBoard and trackers ---------------------------------------------------------------------


SYNC_SECONDS = 60.0
"""Seconds between two fsyncs: of an open file, a mounted bucket has only what was synchronised."""

_LINE = {"step": int, "not_finite?": {}, ...: (*json_shapes.NUMBER, NoneType)}
"""The shape of a line, as `json_line` writes it."""


@dataclasses.dataclass(frozen=True)
class Writer:
    """Open files of one run: `metrics.jsonl`, TensorBoard's event writer where it is wanted, and trackers."""

    lines: TextIO
    events: Any = None
    followers: Sequence[following.Follower] = ()
    synced: list[float] = dataclasses.field(default_factory=lambda: [time.monotonic()])
    """One value: when the lines were last synchronised."""


@contextlib.contextmanager
def open_writer(
    workdir: str | pathlib.Path,
    tensorboard: bool,
    from_step: int = 0,
    trackers: Mapping[str, Callable[[], Record]] = {},
) -> Iterator[Writer]:
    """Opens `metrics.jsonl` for appending and, if wanted, an event file in `tensorboard/`; trackers begin to follow.

    At the end the files are closed, and trackers get what they lack (`following.leave`).

    Args:
      workdir: of the run; has to exist.
      tensorboard: whether to write event files.
      from_step: the first step that will be written. On a resume TensorBoard drops what an earlier process wrote
        from there on; `metrics.jsonl` has to be truncated before.
      trackers: name of each, and the function that opens the run's record in it.
    """
    workdir = pathlib.Path(workdir)
    events = None
    if tensorboard:
        import tensorboardX

        events = tensorboardX.SummaryWriter(str(workdir / "tensorboard"), purge_step=from_step or None)
    file = workdir / "metrics.jsonl"
    lines = file.open("a", encoding="utf-8")
    followers = [following.follow(following.Follower(name, file, opens)) for name, opens in trackers.items()]
    failed = True
    try:
        yield Writer(lines, events, followers)
        failed = False
    finally:
        lines.close()
        if events is not None:
            events.close()
        following.leave(followers, failed)


def write(writer: Writer, step: int, values: Mapping[str, Any]) -> None:
    """Appends one line and flushes it; mirrors its figures to TensorBoard, and lets trackers know of it.

    If the machine fails, the lines of the last `SYNC_SECONDS` may be lost; if only the process dies, none are.
    """
    writer.lines.write(json_line({"step": step, **values}) + "\n")
    writer.lines.flush()
    if time.monotonic() - writer.synced[0] >= SYNC_SECONDS:
        os.fsync(writer.lines.fileno())
        writer.synced[0] = time.monotonic()
    for follower in writer.followers:
        follower.news.set()
    if writer.events is None:
        return
    for name, value in tagged(values).items():
        writer.events.add_scalar(name, value, step)
    writer.events.flush()


def json_line(values: Mapping[str, Any]) -> str:
    """One JSON object in one line. A number that is not finite becomes null and is named under `not_finite`.

    JSON has no NaN, so `{"loss": nan}` is written as `{"loss": null, "not_finite": {"loss": "nan"}}`.
    """
    wrong = {
        name: str(value) for name, value in values.items() if isinstance(value, float) and not math.isfinite(value)
    }
    clean = {name: None if name in wrong else value for name, value in values.items()}
    return json.dumps(clean | {"not_finite": wrong} if wrong else clean, allow_nan=False)


def read_lines(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """All objects of a `metrics.jsonl`, in the order of the file.

    A last line without a line feed is left out: it is being written, or its writer was killed.

    Raises:
      UserError: the file is missing, or a line is not a JSON object of a step and numbers.

    Examples:
      >>> from bertlite_jax.report.run.metrics import read_lines
      >>> lines = read_lines("runs/quickstart/metrics.jsonl")
      >>> losses = [line["valid_mlm_loss"] for line in lines if "valid_mlm_loss" in line]
      >>> losses[-1] < losses[0]
      True
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"metrics: {path} does not exist; is its folder the work directory of a run that has begun?")
    lines = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break
        values = json_files.parse_object(line, f"{path}:{number}", "metrics")
        json_shapes.check(values, _LINE, f"{path}:{number}", "metrics")
        lines.append(values)
    return lines


# --- Progress ----------------------------------------------------------------------------------------------------


class Display(NamedTuple):
    """The functions that a job calls while it runs."""

    show: Callable[[int, Mapping[str, Any]], None]
    """Takes the number of finished steps and the metrics of the last of them."""
    print_line: Callable[[str], None]
    """Prints one line that stays, e.g. the result of an evaluation."""


@contextlib.contextmanager
def progress(
    steps: int, start: int = 0, console: rich_console.Console | None = None, now: Callable[[], float] = time.monotonic
) -> Iterator[Display]:
    """A live bar in a terminal, elsewhere one plain line for each call of `show`.

    Args:
      steps: the step that ends the run.
      start: steps that were finished before a resume.
      console: where to print; standard output by default.
      now: clock in seconds, for the time left. Counting starts with the first `show`, so that compilation is left out.
    """
    console = console or rich_console.Console()
    first: list[tuple[int, float]] = []

    def seconds_left(step: int) -> float | None:
        first.append((step, now())) if not first else None
        done, spent = step - first[0][0], now() - first[0][1]
        return spent / done * (steps - step) if done > 0 else None

    def print_line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if not console.is_terminal:
        yield Display(
            lambda step, values: print_line(progress_line(step, steps, values, seconds_left(step))), print_line
        )
        return

    columns = (
        rich_progress.BarColumn(bar_width=24),
        rich_progress.TextColumn("{task.description}", markup=False, table_column=rich_table.Column(no_wrap=False)),
    )
    with rich_progress.Progress(*columns, console=console) as bar:
        task = bar.add_task(f"step {start:,}/{steps:,}", total=steps, completed=start)

        def show(step: int, values: Mapping[str, Any]) -> None:
            line = progress_line(step, steps, values, seconds_left(step))
            bar.update(task, completed=step, description=line)

        yield Display(show, print_line)


def progress_line(step: int, steps: int, values: Mapping[str, Any], seconds_left: float | None = None) -> str:
    """`step 120/1000 (12 %)  loss 5.123  mlm 0.12  pair 0.53  lr 8.1e-04  3,214 real tok/s  MFU 0.43 ...`.

    Args:
      step: finished steps.
      steps: of the whole run.
      values: `loss`, `mlm_accuracy`, `pair_accuracy`, `replaced_accuracy`, `causal_loss`, `learning_rate`,
        `tokens_per_second`, `mfu` and `data_wait` (both shares, 0 to 1). Missing values and None are left out.
      seconds_left: for the whole run.
    """
    parts = [f"step {step}/{steps} ({100 * step // steps} %)"]
    formats: tuple[tuple[str, Callable[[float], str]], ...] = (
        ("loss", lambda x: f"loss {x:.3f}"),
        ("mlm_accuracy", lambda x: f"mlm {x:.2f}"),
        ("pair_accuracy", lambda x: f"pair {x:.2f}"),
        ("replaced_accuracy", lambda x: f"replaced {x:.2f}"),
        ("causal_loss", lambda x: f"causal loss {x:.3f}"),
        ("learning_rate", lambda x: f"lr {x:.1e}"),
        ("tokens_per_second", lambda x: f"{x:,.0f} real tok/s"),
        ("mfu", lambda x: f"MFU {x:.2f}"),
        ("data_wait", lambda x: f"data wait {100 * x:.1f} %"),
    )
    parts += [text(values[name]) for name, text in formats if values.get(name) is not None]
    if seconds_left is not None:
        parts.append(f"left {clock_time(seconds_left)}")
    return "  ".join(parts)


def clock_time(seconds: float) -> str:
    """`12:03` (minutes and seconds), `1:12:03`, `2 d 01:12:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


# --- Where the time went -----------------------------------------------------------------------------------------

BUCKETS: tuple[str, ...] = ("step", "data", "compile", "evaluation", "checkpoint")


class Clock:
    """Adds up wall time by purpose: `with clock.measure("data"): batch = next(batches)`.

    `step` is productive time, including the wait for the metrics of the previous step; time outside all buckets is
    `other`, so the shares add up to 1. A bucket measured inside another one interrupts it. For one thread.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self._now = now
        self._since = now()
        self._open: list[str] = []
        self._seconds: dict[str, float] = dict.fromkeys([*BUCKETS, "other"], 0.0)

    @contextlib.contextmanager
    def measure(self, bucket: str) -> Iterator[None]:
        """Counts the time of the `with` block, exceptions included, as `bucket`, one of BUCKETS."""
        if bucket not in BUCKETS:
            raise ValueError(f"bucket {bucket!r} is not one of {', '.join(BUCKETS)}")
        self._turn()
        self._open.append(bucket)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def seconds(self) -> dict[str, float]:
        """Seconds in each bucket and in `other`, up to now."""
        self._turn()
        return dict(self._seconds)

    def shares(self) -> dict[str, float]:
        """The same as shares of the wall time, 0 to 1; `step` is the goodput."""
        seconds = self.seconds()
        total = sum(seconds.values())
        return {bucket: value / total if total else 0.0 for bucket, value in seconds.items()}

    def first_step(self, compiled_beside: float | None = None) -> str:
        """A line for when the first step has been dispatched: how long that took, and how much of it was compiling.

        Given the seconds of a compilation that ran in parallel to the start, it says how long the start had to wait.
        """
        seconds = self.seconds()
        total, waited = sum(seconds.values()), seconds["compile"]
        if compiled_beside is None:
            return f"first step after {total:.1f} s: {waited:.1f} s compiling, the rest starting up"
        compiling = f"{compiled_beside:.1f} s compiling, all but {waited:.1f} s in parallel"
        return f"first step after {total:.1f} s: {compiling}"

    def _turn(self) -> None:
        now = self._now()
        self._seconds[self._open[-1] if self._open else "other"] += now - self._since
        self._since = now
