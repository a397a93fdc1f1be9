"""One contender of tools/accelerator_check.py, in a process of its own: what was asked for comes in as JSON, and what
was found goes out as JSON.

A process of its own, because the peak of a device's memory belongs to a process, because JAX and PyTorch do not share
a device's memory, and because a program that ran out of it leaves nothing behind.
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
"""Turns, of which the fastest counts."""


# --- What there is ---------------------------------------------------------------------------------------------------


def describe_device(asked: dict[str, Any]) -> dict[str, Any]:
    """The first device that JAX sees, what it holds, and what `auto` computes in there."""
    device = jax.local_devices()[0]
    return {
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": jax.local_device_count(),
        "bytes_limit": (device.memory_stats() or {}).get("bytes_limit"),
        "compute": choose_precision.resolve("auto", device.platform),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "numpy")},
    }


def describe_torch(asked: dict[str, Any]) -> dict[str, Any]:
    """What PyTorch sees."""
    import torch

    return {
        "cuda": torch.cuda.is_available(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    }


# --- This package ----------------------------------------------------------------------------------------------------


def train(asked: dict[str, Any]) -> dict[str, Any]:
    """Some steps of `bertlite pretrain` on one device: `config`, `turn_seconds`."""
    config = _config(asked)
    mesh = sharding.make_mesh(1)
    device = mesh.devices.flat[0]
    compute = choose_precision.resolve(config.model.compute, device.platform)
    attention.choose_for(config.model, config.data.length, device.platform, compute)  # Refuses what does not work.
    of_step, peak = flops.train_flops_per_step(config), peak_of(device.device_kind, compute)
    steps = steps_of_turn(asked["turn_seconds"], of_step, peak)
    found = scale_worker.time_steps(config, mesh, ROUNDS, steps)
    return {
        "precision": compute,
        "seconds_per_step": found["seconds_per_step"],
        "rows_per_second": found["rows"] / found["seconds_per_step"],
        "real_tokens_per_second": found["real_tokens_per_second"],
        "mfu": flops.mfu(of_step, found["seconds_per_step"], peak),
        "peak_bytes": (device.memory_stats() or {}).get("peak_bytes_in_use"),
        "steps": ROUNDS * steps,
        "loss": found["loss"],
    }


def peak_of(device_kind: str, compute: str) -> float | None:
    """FLOP/s of the device as published; None for a CPU, whose peak would have to be measured."""
    return None if device_kind.lower() == "cpu" else flops.peak_flops(device_kind, compute)


def steps_of_turn(seconds: float, of_step: float, peak: float | None) -> int:
    """So many steps as 40 % of the peak makes in that time; 2 to 50."""
    return max(2, min(50, int(seconds * 0.4 * peak / of_step))) if peak else 2


def train_losses(asked: dict[str, Any]) -> dict[str, Any]:
    """The losses of the first steps of a run: `config`, `steps`; `modes`: [name, compute, precision of products]."""
    config = _config(asked)
    mesh = sharding.make_mesh(1)
    opened = source.open_source(config.data, "train", 0)
    placed = [
        sharding.put_batch(batches.batch_at(opened, step, config.data.batch_rows), mesh)
        for step in range(1, asked["steps"] + 1)
    ]
    found = {}
    for name, compute, products in asked["modes"]:
        with jax.default_matmul_precision(products):
            parts = make_pretraining(config, compute, mesh, opened.special_ids)
            now = state.init_state(parts.init_params, parts.optimizer, config.run.seed, parts.layout)
            losses = []
            for batch in placed:
                now, metrics = parts.step(now, batch)
                losses.append(metrics["loss"])
            found[name] = [float(loss) for loss in losses]
    return {"losses": found}


# --- transformers ----------------------------------------------------------------------------------------------------


def train_peer(asked: dict[str, Any]) -> dict[str, Any]:
    """Some steps of transformers' network, one window a row.

    Asked: `config`, `turn_seconds`, `device_kind`; `device`, `precision` and `compiled` of `peer.make_trainer`.
    """
    import torch

    config, device, kind = _config(asked), asked["device"], asked["precision"]
    torch.set_float32_matmul_precision("high")
    rows = padded(config)
    real = sum(int(batch["attention_mask"].sum()) for batch in rows) / len(rows)
    placed = [{name: torch.from_numpy(value).to(device) for name, value in batch.items()} for batch in rows]
    update = make_trainer(config.model, device, asked["compiled"])
    one_a_row = dataclasses.replace(config, data=dataclasses.replace(config.data, pack=False))
    of_step, peak = flops.train_flops_per_step(one_a_row), peak_of(asked["device_kind"], kind)
    steps = steps_of_turn(asked["turn_seconds"], of_step, peak)

    def turn(count: int) -> tuple[float, float]:
        """Seconds a step, last loss."""
        began = time.perf_counter()
        losses = [update(placed[number % len(placed)], kind) for number in range(count)]
        loss = float(losses[-1])  # Waits for all of them.
        return (time.perf_counter() - began) / count, loss

    turn(2)
    seconds, loss = min(turn(steps) for _ in range(ROUNDS))
    return {
        "precision": "bfloat16 autocast" if kind == "bfloat16" else kind,
        "seconds_per_step": seconds,
        "rows_per_second": config.data.batch_rows / seconds,
        "real_tokens_per_second": real / seconds,
        "mfu": flops.mfu(of_step, seconds, peak),
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


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """What the kind of the request gives, with a `status`; running out of memory is an answer too.

    Raises:
      RuntimeError: the loss is no number, so that the figures mean nothing.
    """
    try:
        found = KINDS[asked["kind"]](asked)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return {"status": OUT_OF_MEMORY, "reason": str(error).strip().splitlines()[0][:300]}
    if not math.isfinite(found.get("loss", 0.0)):
        raise RuntimeError(f"the loss is {found['loss']} after {found['steps']} steps")
    return {"status": "measured"} | found


def is_out_of_memory(error: Exception) -> bool:
    """As XLA says it, when compiling or when running, and as PyTorch does."""
    by_xla = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return by_xla or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _config(asked: dict[str, Any]) -> Pretrain:
    return files.from_dict(Pretrain, asked["config"], "accelerator_check")


if __name__ == "__main__":
    program_cache.keep_programs()
    request, target = map(pathlib.Path, sys.argv[1:])
    target.write_text(json.dumps(answer(json.loads(request.read_text(encoding="utf-8")))), encoding="utf-8")
