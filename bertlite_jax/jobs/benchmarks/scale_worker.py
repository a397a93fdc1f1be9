"""Some training steps on some devices, timed: one contender of `bertlite bench scale`, in processes of its own.

How many devices there are, and in how many processes, is settled when JAX starts. So `scale.py` starts this
program anew for each number. What was asked for comes in as JSON; the first process writes what was found as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from bertlite_jax.config import checks, files
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.data.rows import batches, source
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining.step import make_pretraining
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.report.cost import hlo_cost, trace
from bertlite_jax.train import processes, sharding, state

BATCHES = 4
"""Different batches that the steps take in turn."""


def time_steps(config: Pretrain, mesh: jax.sharding.Mesh, rounds: int, steps: int) -> dict[str, Any]:
    """Compiles the step of `bertlite pretrain`, runs it, and counts what it reduces.

    Args:
      config: its `data.batch_rows` is the global batch.
      mesh: the devices.
      rounds: turns; the fastest counts, because other programs can only slow a turn down.
      steps: updates in a turn.

    Returns:
      `rows`, `seconds_per_step`, `real_tokens_per_second` (never padding), `fill`, `loss`, `parameters`, `compute`,
      `collectives`: kind, devices, count, bytes a device and step, and `waiting_share`: of the devices' time in some
      more steps under the profiler, the share inside collective operations.
    """
    platform = mesh.devices.flat[0].platform
    compute = processes.first_decides(lambda: choose_precision.resolve(config.model.compute, platform))
    opened = source.open_source(config.data, "train", 0)
    parts = make_pretraining(config, compute, mesh, opened.special_ids)
    held = state.init_state(parts.init_params, parts.optimizer, 0, parts.layout)
    here = (jax.process_index(), jax.process_count())
    rows = config.data.batch_rows
    placed = [sharding.put_batch(batches.batch_at(opened, step, rows, *here), mesh) for step in range(1, BATCHES + 1)]
    compiled = parts.step.lower(held, placed[0]).compile()
    alone = mesh.size == 1  # There is nobody to reduce with, or to wait for.
    program = "" if alone else compiled.as_text()
    collectives = () if alone else hlo_cost.cost(program).collectives

    def turn() -> tuple[float, float, float]:
        """Seconds, real tokens, last loss."""
        nonlocal held
        began, found = time.perf_counter(), []
        for number in range(steps):
            held, metrics = compiled(held, placed[number % BATCHES])
            found.append(metrics)
        jax.block_until_ready(held)
        seconds = time.perf_counter() - began
        return seconds, sum(float(metrics["real_tokens"]) for metrics in found), float(found[-1]["loss"])

    turn()
    turns = [turn() for _ in range(rounds)]
    seconds, tokens, _ = max(turns, key=lambda each: each[1] / each[0])
    return {
        "rows": rows,
        "seconds_per_step": seconds / steps,
        "real_tokens_per_second": tokens / seconds,
        "fill": tokens / (steps * rows * config.data.length),
        "loss": turns[-1][2],
        "parameters": state.count_parameters(parts.layout.shapes),
        "compute": compute,
        "collectives": [dataclasses.asdict(each) for each in collectives],
        "waiting_share": 0.0 if alone else _waiting_share(turn, program, len(mesh.local_devices)),
    }


def _waiting_share(turn: Callable[[], tuple[float, float, float]], program: str, devices: int) -> float:
    """The mean over `devices` of each process."""
    operations = trace.waiting_operations(program)
    with tempfile.TemporaryDirectory() as folder:
        with trace.profiling(folder):
            seconds, _, _ = turn()
        waited = trace.collective_seconds(folder, operations)
    share = waited / (seconds * devices)
    return float(np.mean(multihost_utils.process_allgather(np.float32(share))))


def main(asked: dict[str, Any], answer: pathlib.Path) -> None:
    """One request: `config`, `rows` (global batches to time), `devices` of each process, `rounds`, `steps`."""
    config = files.from_dict(Pretrain, asked["config"], "bench scale")
    with processes.joined(False):
        mesh = sharding.make_mesh(asked["devices"], config.run.fsdp, config.run.tensor)
        found = {
            "platform": mesh.devices.flat[0].platform,
            "device_kind": mesh.devices.flat[0].device_kind,
            "available": jax.device_count(),
            "figures": [],
        }
        for rows in asked["rows"]:
            one = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_rows=rows))
            checks.check_pretrain(one, sharding.row_parts(mesh))
            found["figures"].append(time_steps(one, mesh, asked["rounds"], asked["steps"]))
        if processes.is_first():
            answer.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")), pathlib.Path(sys.argv[2]))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
