"""Times training steps on a number of devices, for `bertlite bench scale`, in one process or in several.

The number of devices and processes is fixed when JAX starts, so `scale.py` starts this program for each number. It
reads a request as JSON; the first process writes the answer as JSON.
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
"""Number of different batches that the steps cycle through."""


def time_steps(config: Pretrain, mesh: jax.sharding.Mesh, rounds: int, steps: int) -> dict[str, Any]:
    """Compiles the step of `bertlite pretrain`, runs it, and counts the bytes that it reduces.

    Args:
      config: its `data.batch_rows` is the global batch.
      mesh: the devices.
      rounds: turns; the fastest counts, because other programs can only slow a turn down.
      steps: training steps in a turn.

    Returns:
      `rows`, `seconds_per_step`, `real_tokens_per_second` (never padding), `fill`, `loss`, `parameters`, `compute`,
      `collectives` (kind, devices, count, bytes per device and step), and `waiting_share`: in further steps under the
      profiler, the share of the devices' time inside collective operations.
    """
    platform = mesh.devices.flat[0].platform
    compute = processes.first_decides(lambda: choose_precision.resolve(config.model.compute, platform))
    opened = source.open_source(config.data, "train", 0)
    pretraining = make_pretraining(config, compute, mesh, opened.special_ids)
    train_state = state.init_state(pretraining.init_params, pretraining.optimizer, 0, pretraining.layout)
    process = (jax.process_index(), jax.process_count())
    rows = config.data.batch_rows
    device_batches = [
        sharding.put_batch(batches.batch_at(opened, step, rows, *process), mesh) for step in range(1, BATCHES + 1)
    ]
    compiled = pretraining.step.lower(train_state, device_batches[0]).compile()
    one_device = mesh.size == 1  # It reduces with no other device, and waits for none.
    hlo = "" if one_device else compiled.as_text() or ""
    collectives = () if one_device else hlo_cost.cost(hlo).collectives

    def turn() -> tuple[float, float, float]:
        """Seconds, real tokens, last loss."""
        nonlocal train_state
        began, all_metrics = time.perf_counter(), []
        for number in range(steps):
            train_state, metrics = compiled(train_state, device_batches[number % BATCHES])
            all_metrics.append(metrics)
        jax.block_until_ready(train_state)
        seconds = time.perf_counter() - began
        tokens = sum(float(metrics["real_tokens"]) for metrics in all_metrics)
        return seconds, tokens, float(all_metrics[-1]["loss"])

    turn()
    turns = [turn() for _ in range(rounds)]
    seconds, tokens, _ = max(turns, key=lambda timed: timed[1] / timed[0])
    return {
        "rows": rows,
        "seconds_per_step": seconds / steps,
        "real_tokens_per_second": tokens / seconds,
        "fill": tokens / (steps * rows * config.data.length),
        "loss": turns[-1][2],
        "parameters": state.count_parameters(pretraining.layout.shapes),
        "compute": compute,
        "collectives": [dataclasses.asdict(collective) for collective in collectives],
        "waiting_share": 0.0 if one_device else _waiting_share(turn, hlo, len(mesh.local_devices)),
    }


def _waiting_share(turn: Callable[[], tuple[float, float, float]], hlo: str, devices: int) -> float:
    """The mean over all processes, each with `devices` devices."""
    operations = trace.waiting_operations(hlo)
    with tempfile.TemporaryDirectory() as folder:
        with trace.profiling(folder):
            seconds, _, _ = turn()
        waited = trace.collective_seconds(folder, operations)
    share = waited / (seconds * devices)
    return float(np.mean(multihost_utils.process_allgather(np.float32(share))))


def main(request: dict[str, Any], answer: pathlib.Path) -> None:
    """Answers one request: `config`, `rows` (global batches to time), `devices` of each process, `rounds`, `steps`."""
    config = files.from_dict(Pretrain, request["config"], "bench scale")
    with processes.joined(False):
        mesh = sharding.make_mesh(request["devices"], config.run.fsdp, config.run.tensor)
        content: dict[str, Any] = {
            "platform": mesh.devices.flat[0].platform,
            "device_kind": mesh.devices.flat[0].device_kind,
            "available": jax.device_count(),
            "figures": [],
        }
        for rows in request["rows"]:
            one = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_rows=rows))
            checks.check_pretrain(one, sharding.row_parts(mesh))
            content["figures"].append(time_steps(one, mesh, request["rounds"], request["steps"]))
        if processes.is_first():
            answer.write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")), pathlib.Path(sys.argv[2]))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
