"""How long the steps of a member take: a few of them are timed in a process of their own, before the runs.

The steps are those of the run itself on the member's own rows, so that reading, masks and the wait for rows count.
Where a run changes its steps (`config/schedule`), each stretch of equal ones is timed by itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from bertlite_jax.config import schedule
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.data.rows.stages import of_length
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files, json_shapes, whole_files
from bertlite_jax.host.json_shapes import NUMBER
from bertlite_jax.jobs.ablation import children, recipes
from bertlite_jax.report.cost import flops
from bertlite_jax.report.run import metrics

SKIPPED, TIMED = 3, 12
"""Steps before the clock starts, the first of which compiles; and steps that are timed at least."""
LEAST_SECONDS, MOST_SECONDS = 4.0, 30.0
"""Of timing: short steps are timed for so long, since a machine has its moods; after the longer time, the long steps
that are done have to do."""
_LOOK_SECONDS = 0.1
_SHAPE = {...: {"seconds_a_step": NUMBER, "start_seconds": NUMBER}}


class Stretch(NamedTuple):
    """Consecutive steps of a run that run the same program."""

    steps: int
    config: Pretrain
    """As it holds in these steps, but for which of them are causal."""
    flops: int
    """Of all of them together."""


class Pace(NamedTuple):
    """Of one stretch."""

    seconds_a_step: float
    """Mean of the timed steps, none of which is causal; those that are count by their FLOPs."""
    start_seconds: float
    """From the start of the process to its first step: imports, reading, compiling."""


def stretches(config: Pretrain) -> list[Stretch]:
    """What a run does in which order."""
    stages = schedule.stages(config)
    return [Stretch(stage.last - stage.first + 1, stage.config, flops.stage_flops(stage)) for stage in stages]


def steps_within(seconds: float, config: Pretrain, paces: Sequence[Pace]) -> int:
    """How many updates a run makes in so many seconds of training.

    Args:
      seconds: of training.
      config: of the run. Its `run.steps` is not read, beyond that the schedule ends before it.
      paces: of each of its stretches.

    Raises:
      UserError: the time is over before the schedule is.
    """
    scheduled = [stretch.steps for stretch in stretches(config)][:-1]
    before = sum(steps * pace.seconds_a_step for steps, pace in zip(scheduled, paces, strict=False))
    rest = int((seconds - before) / paces[len(scheduled)].seconds_a_step)
    if rest < 1:
        raise UserError(
            f"config: its schedule takes {before:,.1f} s to reach the last of its stages, and the grid's seconds = "
            f"{seconds:g}; raise seconds, or shorten the schedule"
            if scheduled
            else f"config: one step takes {paces[0].seconds_a_step:,.1f} s, more than the grid's seconds = {seconds:g}"
        )
    return sum(scheduled) + rest


def run_seconds(config: Pretrain, paces: Sequence[Pace]) -> float:
    """About how long a whole run takes: starts, steps, and evaluations, counted as a third of a step a row.

    Evaluations of the whole split (`run.eval_rows` = 0) are left out.
    """
    found = list(zip(stretches(config), paces, strict=True))
    training = sum(stretch.steps * pace.seconds_a_step for stretch, pace in found)
    stretch, pace = found[-1]
    evaluations = -(-config.run.steps // config.run.eval_every) if config.run.eval_every else 1
    each = pace.seconds_a_step / 3 * config.run.eval_rows / stretch.config.data.batch_rows
    return paces[0].start_seconds + training + evaluations * each


# --- Timing ----------------------------------------------------------------------------------------------------------


class NoPace(Exception):
    """A member's steps could not be timed; says why."""


def of_member(config: Pretrain, stop: children.Stop, stored: pathlib.Path | None = None) -> list[Pace]:
    """The pace of each stretch of a run.

    Args:
      config: of the run.
      stop: as `children.stop_signals` yields it.
      stored: file with paces that were measured before, which is added to: a grid that is started again must find the
        same number of steps in the same seconds. None: nothing is stored.

    Raises:
      NoPace: the run was refused, or ended before enough steps.
    """
    known: dict[str, Any] = {}
    if stored is not None and stored.is_file():
        known = json_files.read_object(stored, "ablate")
        json_shapes.check(known, _SHAPE, str(stored), "ablate")
    found = []
    for stretch in stretches(config):
        try:
            timed = _for_timing(stretch.config)
        except UserError as error:
            raise NoPace(str(error)) from error
        key = hashlib.sha256(json.dumps(dataclasses.asdict(timed), sort_keys=True).encode()).hexdigest()
        if key not in known:
            known[key] = _measure(timed, stop)._asdict()
            if stored is not None:
                whole_files.write_json(stored, known)
        found.append(_with_causal(Pace(**known[key]), stretch))
    return found


def _with_causal(pace: Pace, stretch: Stretch) -> Pace:
    """The pace of all steps of a stretch, given that of those that are not causal."""
    timed = stretch.steps * flops.train_flops_per_step(schedule.of_kind(stretch.config, causal=False))
    return pace._replace(seconds_a_step=pace.seconds_a_step * stretch.flops / timed)


def _for_timing(config: Pretrain) -> Pretrain:
    """The config of a run of these steps alone; members that differ only in what costs no time have the same.

    Raises:
      UserError: no corpus has been built for its rows.
    """
    run = dataclasses.replace(
        schedule.unscheduled(config).run,
        seed=0,
        log_every=1,
        eval_every=0,
        eval_rows=1,
        checkpoint_every=config.run.steps,
        spike_factor=0.0,
        tensorboard=False,
        track=(),
        profile_steps=(0, 0),
    )
    optim = dataclasses.replace(config.optim, learning_rate=1e-8, weight_decay=0.0)  # It must not diverge.
    config = schedule.of_kind(config, causal=False)
    return dataclasses.replace(config, data=of_length(config), optim=optim, run=run)


def _measure(config: Pretrain, stop: children.Stop) -> Pace:
    """Starts a run, and ends it after a few steps."""
    with tempfile.TemporaryDirectory(prefix="bertlite-pace-") as scratch:
        recipe, run, log = (pathlib.Path(scratch, name) for name in ("recipe.py", "run", "log"))
        recipes.write(recipe, config, "A few steps, to be timed.")
        begin = time.monotonic()
        with children.started([config.job, str(recipe), "--workdir", str(run)], log, stop) as process:
            first = 0.0
            while process.poll() is None and not stop.wanted:
                seconds = _logged_seconds(run)
                first = first or (time.monotonic() if seconds else 0.0)
                spent = time.monotonic() - first if first else 0.0
                enough = spent > LEAST_SECONDS and len(seconds) > SKIPPED + TIMED
                if enough or (spent > MOST_SECONDS and len(seconds) > SKIPPED + 1):
                    break
                time.sleep(_LOOK_SECONDS)
        if stop.wanted:
            raise KeyboardInterrupt
        seconds = _logged_seconds(run)
        if len(seconds) < 2:
            last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise NoPace(last)
        skipped = min(SKIPPED, len(seconds) - 1)
        steps = len(seconds) - skipped
        return Pace((seconds[-1] - seconds[skipped - 1]) / steps, max(0.0, first - begin))


def _logged_seconds(run: pathlib.Path) -> list[float]:
    """The clock of a run after each step so far."""
    file = run / "metrics.jsonl"
    lines = metrics.read_lines(file) if file.is_file() else []
    return [line["seconds"] for line in lines if line.get("seconds") is not None]
