"""Whether a pretraining step fits into the memory of this machine, asked before anything is compiled."""

from __future__ import annotations

from collections.abc import Callable

import jax

from bertlite_jax.config import schedule
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.host import memory
from bertlite_jax.model.ops import attention
from bertlite_jax.model.ops.precision import Compute, activation_dtype
from bertlite_jax.report.cost import flops

_CERTAIN = 5 / 6
"""What the estimate is sure of: it is within a sixth of XLA's own count (`flops.step_memory_bytes`)."""


def check(
    config: Pretrain,
    mesh: jax.sharding.Mesh,
    compute: Compute,
    more: Callable[..., dict[str, int]] = lambda config, devices, compute, scores: {},
) -> int:
    """Compares the estimate for a step with the memory that there is, for the steps of each stage.

    CPU devices share the memory of the machine, or that of the container or job that this process runs in; each other
    device has its own.

    Args:
      config: of the run, with all sizes.
      mesh: devices of the run.
      compute: precision of its products.
      more: further parts of the estimate, for the arguments of `flops.step_memory_bytes`; only `teacher_activations`
        among them are for the batch.

    Returns:
      The estimate for the stage that needs most, in bytes on each device.

    Raises:
      UserError: the step does not fit, and what to lower.
    """
    kinds = [(stage, kind.config) for stage in schedule.stages(config) for kind in schedule.kinds(stage)]
    return max(_check_kind(config, stage, kind, mesh, compute, more) for stage, kind in kinds)


def _check_kind(
    run: Pretrain,
    stage: schedule.Stage,
    config: Pretrain,
    mesh: jax.sharding.Mesh,
    compute: Compute,
    more: Callable[..., dict[str, int]],
) -> int:
    device = mesh.devices.flat[0]
    scores = attention.choose_for(config.model, config.data.length, device.platform, compute) == "einsum"
    asked = (config, mesh.size, activation_dtype(compute).name, scores)
    parts, added = flops.step_memory_bytes(*asked), more(*asked)
    parts = {**parts, **added, "total": parts["total"] + sum(added.values())}
    name = "data.batch_rows" if config.data.batch_rows == run.data.batch_rows else "run.batches"
    advice = (
        f"raise optim.micro_batches (now {config.optim.micro_batches}) or lower {name} (now {config.data.batch_rows})"
    )
    which = "a step" if stage.last - stage.first + 1 == run.run.steps else f"step {stage.first}"
    which = "a causal step" if config.objective.causal else which
    compare(parts, mesh, run.job, advice, which)
    return parts["total"]


def compare(parts: dict[str, int], mesh: jax.sharding.Mesh, job: str, advice: str, which: str = "a step") -> None:
    """Compares the parts of an estimate with the memory that there is.

    Args:
      parts: bytes on each device, as of `flops.step_memory_bytes`.
      mesh: devices of the run.
      job: first word of the message.
      advice: what helps where most of it is for the batch.
      which: step that the estimate is for.

    Raises:
      UserError: as of `check`.
    """
    device = mesh.devices.flat[0]
    on_cpu = device.platform == "cpu"
    has = memory.most_bytes() if on_cpu else (device.memory_stats() or {}).get("bytes_limit")
    needed = parts["total"] * (len(mesh.local_devices) if on_cpu else 1)
    if not has or needed * _CERTAIN <= has:
        return
    lasting = parts["total"] - parts["activations"] - parts["logits"] - parts.get("teacher_activations", 0)
    if 2 * lasting >= parts["total"]:
        advice = f"take a smaller model; its parameters and the optimiser alone need {_gib(lasting)}"
    where = "this machine" if on_cpu else "each device"
    raise UserError(f"{job}: {which} needs about {_gib(needed)}, and {where} has {_gib(has)}; {advice}")


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
