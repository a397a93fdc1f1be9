"""The runs of a grid, one after the other or several at once, each on its share of the cores."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.jobs.ablation import children
from bertlite_jax.report.ablation import results

_LOOK_SECONDS = 0.1


class Run(NamedTuple):
    """One command of the grid."""

    name: str
    member: str
    folder: pathlib.Path
    """Its work directory."""
    log: pathlib.Path
    arguments: list[str]
    after: pathlib.Path | None
    """Work directory of the run that has to be finished before."""
    config: Pretrain | None
    """Of pretraining: what the work directory stores."""
    corpora: dict[str, str]
    """Folder to hash of its content."""
    teachers: dict[str, str]
    """Folder to hash of its weights."""
    problem: str = ""
    """Why it is not run."""


class _Started(NamedTuple):
    run: Run
    share: frozenset[int]
    how_it_ended: Callable[[], children.Ended | None]
    leave: contextlib.ExitStack
    """Waits for its process, or kills it."""


def take(
    todo: Sequence[Run], overwrite: bool, stop: children.Stop, shares: Sequence[frozenset[int]]
) -> Iterator[tuple[int, float]]:
    """Runs the commands in their order, as many at once as there are shares of the cores.

    Args:
      todo: a run of a task behind the pretraining that it follows.
      overwrite: start each from the beginning.
      stop: as `children.stop_signals` yields it. No run starts after a signal; those that run save and end.
      shares: cores that each may use, as `cpu.shares` returns them; with an empty one, runs are not pinned.

    Yields:
      After each run that ended: how many are left, and the mean seconds from one end to the next.
    """
    begin, waiting, idle, ends = time.monotonic(), list(todo), list(shares), 0
    started: list[_Started] = []
    with contextlib.ExitStack() as until_the_end:
        while started or (waiting and not stop.wanted):
            while idle and not stop.wanted and (run := _next(waiting, [each.run for each in started])):
                waiting.remove(run)
                if run.problem:
                    children.remember(run.folder, children.Ended(children.REFUSED, run.problem))
                elif run.after is None or children.remembered(run.after).status == results.FINISHED:
                    number = len(todo) - len(waiting)
                    print(f"ablate: {number} of {len(todo)}: {run.name}, log in {run.log}", flush=True)
                    started.append(_start(run, overwrite, stop, idle.pop(0), until_the_end))
            found = [(each, ended) for each in started if (ended := each.how_it_ended())]
            for each, ended in found:
                started.remove(each)
                idle.append(each.share)
                each.leave.close()
                children.remember(each.run.folder, ended)
                print(f"ablate: {each.run.name}: {ended.status}{': ' if ended.line else ''}{ended.line}", flush=True)
                ends += 1
                yield len(waiting) + len(started), (time.monotonic() - begin) / ends
            if started and not found:
                time.sleep(_LOOK_SECONDS)


def _next(waiting: Sequence[Run], started: Sequence[Run]) -> Run | None:
    """The first run that waits for no other one of these."""
    unfinished = {run.folder for run in (*waiting, *started)}
    return next((run for run in waiting if run.after not in unfinished), None)


def _start(
    run: Run, overwrite: bool, stop: children.Stop, share: frozenset[int], until_the_end: contextlib.ExitStack
) -> _Started:
    leave = until_the_end.enter_context(contextlib.ExitStack())
    arguments = run.arguments + ["--overwrite"] * overwrite
    return _Started(run, share, leave.enter_context(children.running(arguments, run.log, stop, share)), leave)
