"""Runs one contender of tools/accelerator_check.py: reads a request as JSON and writes the results as JSON.

Each contender has a process of its own, because peak memory is counted for each process, because JAX and PyTorch do not
share a device's memory, and because a process that ran out of memory leaves nothing behind.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax

from bertlite_jax.config import files
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.data.rows import batches, source
from bertlite_jax.host import program_cache
from bertlite_jax.jobs.benchmarks import scale_worker
from bertlite_jax.jobs.benchmarks.train import padded
from bertlite_jax.jobs.benchmarks.train_peer import make_trainer
from bertlite_jax.jobs.pretraining.step import make_pretraining
from bertlite_jax.model.ops import attention, choose_precision
from bertlite_jax.report.cost import flops
from bertlite_jax.train import sharding, state

OUT_OF_MEMORY = "out of memory"
ROUNDS = 3
"""Number of turns; the fastest counts."""


# --- The machine -----------------------------------------------------------------------------------------------------


def describe_device(request: dict[str, Any]) -> dict[str, Any]:
    """The first device that JAX sees, its memory, and the precision that `auto` chooses there."""
    device = jax.local_devices()[0]
    return {
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": jax.local_device_count(),
        "bytes_limit": (device.memory_stats() or {}).get("bytes_limit"),
        "compute": choose_precision.resolve("auto", device.platform),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "numpy")},
    }


def describe_torch(request: dict[str, Any]) -> dict[str, Any]:
    """Whether PyTorch sees a GPU, and the versions."""
    import torch

    return {
        "cuda": torch.cuda.is_available(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    }


# --- This package ----------------------------------------------------------------------------------------------------


def train(request: dict[str, Any]) -> dict[str, Any]:
    """Times some steps of `bertlite pretrain` on one device. The request has `config` and `turn_seconds`."""
    config = _config(request)
    mesh = sharding.make_mesh(1)
    device = mesh.devices.flat[0]
    compute = choose_precision.resolve(config.model.compute, device.platform)
    attention.choose_for(config.model, config.data.length, device.platform, compute)  # Raises if it does not work.
    step_flops, peak = flops.train_flops_per_step(config), peak_of(device.device_kind, compute)
    steps = steps_of_turn(request["turn_seconds"], step_flops, peak)
    figures = scale_worker.time_steps(config, mesh, ROUNDS, steps)
    return {
        "precision": compute,
        "seconds_per_step": figures["seconds_per_step"],
        "rows_per_second": figures["rows"] / figures["seconds_per_step"],
        "real_tokens_per_second": figures["real_tokens_per_second"],
        "mfu": flops.mfu(step_flops, figures["seconds_per_step"], peak),
        "peak_bytes": (device.memory_stats() or {}).get("peak_bytes_in_use"),
        "steps": ROUNDS * steps,
        "loss": figures["loss"],
    }


def peak_of(device_kind: str, compute: str) -> float | None:
    """Published FLOP/s of the device; None for a CPU, whose peak would have to be measured."""
    return None if device_kind.lower() == "cpu" else flops.peak_flops(device_kind, compute)


def steps_of_turn(seconds: float, step_flops: float, peak: float | None) -> int:
    """Number of steps that take about `seconds` at 40 % of the peak; from 2 to 50."""
    return max(2, min(50, int(seconds * 0.4 * peak / step_flops))) if peak else 2


def train_losses(request: dict[str, Any]) -> dict[str, Any]:
    """The losses of a run's first steps. The request: `config`, `steps`, `modes` [name, compute, product precision]."""
    config = _config(request)
    mesh = sharding.make_mesh(1)
    opened = source.open_source(config.data, "train", 0)
    on_device = [
        sharding.put_batch(batches.batch_at(opened, step, config.data.batch_rows), mesh)
        for step in range(1, request["steps"] + 1)
    ]
    losses_by_mode = {}
    for name, compute, products in request["modes"]:
        with jax.default_matmul_precision(products):
            parts = make_pretraining(config, compute, mesh, opened.special_ids)
            train_state = state.init_state(parts.init_params, parts.optimizer, config.run.seed, parts.layout)
            losses = []
            for batch in on_device:
                train_state, metrics = parts.step(train_state, batch)
                losses.append(metrics["loss"])
            losses_by_mode[name] = [float(loss) for loss in losses]
    return {"losses": losses_by_mode}


# --- transformers ----------------------------------------------------------------------------------------------------


def train_peer(request: dict[str, Any]) -> dict[str, Any]:
    """Times some steps of transformers' network, with one window in each row.

    The request: `config`, `turn_seconds`, `device_kind`; `device`, `precision` and `compiled` of `make_trainer`.
    """
    import torch

    config, device, kind = _config(request), request["device"], request["precision"]
    torch.set_float32_matmul_precision("high")
    rows = padded(config)
    real = sum(int(batch["attention_mask"].sum()) for batch in rows) / len(rows)
    on_device = [{name: torch.from_numpy(value).to(device) for name, value in batch.items()} for batch in rows]
    update = make_trainer(config.model, device, request["compiled"])
    one_a_row = dataclasses.replace(config, data=dataclasses.replace(config.data, pack=False))
    step_flops, peak = flops.train_flops_per_step(one_a_row), peak_of(request["device_kind"], kind)
    steps = steps_of_turn(request["turn_seconds"], step_flops, peak)

    def turn(count: int) -> tuple[float, float]:
        """Returns (seconds of a step, last loss)."""
        began = time.perf_counter()
        losses = [update(on_device[number % len(on_device)], kind) for number in range(count)]
        loss = float(losses[-1])  # Waits for all steps.
        return (time.perf_counter() - began) / count, loss

    turn(2)
    seconds, loss = min(turn(steps) for _ in range(ROUNDS))
    return {
        "precision": "bfloat16 autocast" if kind == "bfloat16" else kind,
        "seconds_per_step": seconds,
        "rows_per_second": config.data.batch_rows / seconds,
        "real_tokens_per_second": real / seconds,
        "mfu": flops.mfu(step_flops, seconds, peak),
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "steps": ROUNDS * steps,
        "loss": loss,
    }


# --- The process -----------------------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "device": describe_device,
    "torch": describe_torch,
    "train": train,
    "losses": train_losses,
    "peer": train_peer,
}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The results of a request, with a `status`; out of memory is a result too.

    Raises:
      RuntimeError: the loss is NaN or infinite, so the figures mean nothing.
    """
    try:
        result = KINDS[request["kind"]](request)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return {"status": OUT_OF_MEMORY, "reason": str(error).strip().splitlines()[0][:300]}
    if not math.isfinite(result.get("loss", 0.0)):
        raise RuntimeError(f"the loss is {result['loss']} after {result['steps']} steps")
    return {"status": "measured"} | result


def is_out_of_memory(error: Exception) -> bool:
    """Whether XLA, when compiling or when running, or PyTorch ran out of memory."""
    by_xla = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return by_xla or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _config(request: dict[str, Any]) -> Pretrain:
    return files.from_dict(Pretrain, request["config"], "accelerator_check")


if __name__ == "__main__":
    program_cache.keep_programs()
    source_path, target_path = map(pathlib.Path, sys.argv[1:])
    result = answer(json.loads(source_path.read_text(encoding="utf-8")))
    target_path.write_text(json.dumps(result), encoding="utf-8")
