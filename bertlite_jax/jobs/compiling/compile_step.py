"""Compiles the training step of a config for devices that need not exist on this machine, in a process of its own.

`compile.py` starts it, because the compiler reads its settings from the environment when it is loaded, and because it
may end its process. It reads a request as JSON and writes the answer as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import sys
import time
from typing import Any

import jax
from jax.experimental import topologies

from bertlite_jax.config import files
from bertlite_jax.config.model import SPECIAL_IDS
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining.step import lower, make_pretraining
from bertlite_jax.model.ops import attention, choose_precision
from bertlite_jax.report.cost import hlo_cost
from bertlite_jax.train import sharding

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def lower_step(config: Pretrain, mesh: jax.sharding.Mesh) -> Any:
    """Lowers the step of `pretrain.py` from shapes alone, for devices that need not exist on this machine."""
    platform = mesh.devices.flat[0].platform
    compute = choose_precision.resolve(config.model.compute, platform)
    attention.choose_for(config.model, config.data.length, platform, compute)
    return lower(config, make_pretraining(config, compute, mesh, SPECIAL_IDS), mesh)


def open_devices(topology: str, slices: int, options: dict[str, Any]) -> list[Any]:
    """The devices of a topology by its name in the TPU compiler, such as "v5e:4x4"."""
    more = options | ({"num_slices": slices} if slices > 1 else {})
    return list(topologies.get_topology_desc(platform="tpu", topology_name=topology, **more).devices)


def compile_step(config: Pretrain, devices: list[Any], keep_text: str = "", heaviest: int = 0) -> dict[str, Any]:
    """Compiles the step.

    Args:
      config: of a pretraining run.
      devices: that share the step.
      keep_text: file for the optimised HLO; empty: none.
      heaviest: number of operations to list that move the most bytes.

    Returns:
      If the devices cannot be split as the config says: `refused`, a message. Otherwise `fits` and `compile_seconds`;
      if it fits, for one device, `argument_bytes`, `temporary_bytes`, `output_bytes`, `code_bytes` and the fields of
      `hlo_cost.Cost`; if not, `used_bytes` and `available_bytes`.
    """
    before = time.perf_counter()
    try:
        mesh = sharding.mesh_over(devices, config.run.fsdp, config.run.tensor)
    except UserError as error:
        return {"refused": str(error)}
    step = lower_step(config, mesh)
    try:
        compiled = step.compile()
    except jax.errors.JaxRuntimeError as error:
        memory = memory_of_refusal(str(error))
        if memory is None:
            raise
        used, available = memory
        seconds = time.perf_counter() - before
        return {"fits": False, "used_bytes": used, "available_bytes": available, "compile_seconds": seconds}
    seconds = time.perf_counter() - before
    text = compiled.as_text()
    if keep_text:
        pathlib.Path(keep_text).write_text(text, encoding="utf-8")
    memory = compiled.memory_analysis()
    cost = hlo_cost.cost(text, heaviest)
    return {
        "fits": True,
        "compile_seconds": seconds,
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        **dataclasses.asdict(cost),
    }


def memory_of_refusal(message: str) -> tuple[int, int] | None:
    """Bytes that a device would need and has, from the compiler's message; None if that is about something else.

    One form of the message: "Ran out of memory in memory space hbm. Used 20.06G of 15.75G hbm."
    """
    if "RESOURCE_EXHAUSTED" not in message or "emory" not in message:
        return None
    forms = (
        r"Used ([\d.]+[KMGT]?) of ([\d.]+[KMGT]?) hbm",
        r"\(([\d.]+[KMGT]?)\) exceeds available HBM \(([\d.]+[KMGT]?)\)",
    )
    for form in forms:
        match = re.search(form, message)
        if match:
            return size_in_bytes(match[1]), size_in_bytes(match[2])
    return None


def size_in_bytes(text: str) -> int:
    """Converts `15.75G` to 16,911,433,728."""
    number, unit = text.rstrip("KMGT"), text.lstrip("0123456789.")
    return int(float(number) * _UNITS[unit])


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Answers one request: `topology`, `slices`, `options`, `config`, `keep_text`, `heaviest`."""
    config = files.from_dict(Pretrain, request["config"], "compile")
    devices = open_devices(request["topology"], request["slices"], request["options"])
    return compile_step(config, devices, request["keep_text"], request["heaviest"])


if __name__ == "__main__":
    source, target = map(pathlib.Path, sys.argv[1:])
    target.write_text(json.dumps(main(json.loads(source.read_text(encoding="utf-8")))), encoding="utf-8")
