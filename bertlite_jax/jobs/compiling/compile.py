"""`bertlite compile`: compiles the whole training step for a TPU slice, on a machine without TPUs.

It reports whether the batch fits, how much crosses the network, and the least time that a step can take.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from bertlite_jax.config import checks, schedule
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.compiling import batch_search
from bertlite_jax.model.ops import attention, choose_precision
from bertlite_jax.report.cost import chips, flops, hlo_cost, topology
from bertlite_jax.report.cost.topology import Topology

GIB = 2**30


def compile_run(
    config: Pretrain, name: str, num_slices: int = 1, find_batch: bool = False, keep_hlo: str = "", heaviest: int = 0
) -> dict[str, dict[str, Any]]:
    """`compile_for` for each program of a run, by the steps that run it; "" where there is only one.

    Raises:
      UserError: as `compile_for`; or `find_batch` or `keep_hlo`, which are of one program, with more than one.
    """
    checks.check_counts(config)
    if len(schedule.stages(config)) == 1 and not config.objective.causal_every:
        return {"": compile_for(config, name, num_slices, find_batch, keep_hlo, heaviest)}
    if find_batch or keep_hlo:
        raise UserError(
            f"compile: {'--find-batch' if find_batch else '--keep-hlo'} is for one program, and this run changes on "
            f"the way; pass {_that_leave_one_program(config)}"
        )
    slices = topology.parse(name, num_slices)
    config = divide(config, slices)
    checks.check_pretrain(config, row_parts(config, slices))
    found = {}
    for stage in schedule.stages(config):
        for kind in schedule.kinds(stage):
            causal = kind.config.objective.causal
            steps = f"steps {stage.first:,} to {stage.last:,}{', causal ones' if causal else ''}"
            print(f"compile: {steps}")
            alone = schedule.unscheduled(stage.config)
            found[steps] = compile_for(alone, name, num_slices, heaviest=heaviest, causal=causal)
    return found


def _that_leave_one_program(config: Pretrain) -> str:
    scheduled = [f"--run.{each.schedule}" for each in schedule.SCHEDULED if getattr(config.run, each.schedule)]
    options = [f"{' and '.join(scheduled)} without values for its last stage alone"] if scheduled else []
    options += ["--objective.causal-every 0"] if config.objective.causal_every else []
    return " and ".join(options)


def compile_for(
    config: Pretrain,
    name: str,
    num_slices: int = 1,
    find_batch: bool = False,
    keep_hlo: str = "",
    heaviest: int = 0,
    causal: bool = False,
) -> dict[str, Any]:
    """Compiles the step of a config for a slice, or searches the largest batch that fits it.

    Args:
      config: of a pretraining run, with the sizes of its model filled in; its corpus and tokenizer are not read.
      name: the slice, such as `v5e:16x16` or `v5e-256`.
      num_slices: number of slices, connected by the data-centre network.
      find_batch: search the most rows per device that fit; `data.batch_rows` is ignored.
      keep_hlo: file for the optimised HLO; not with `find_batch`.
      heaviest: number of operations to print that move the most bytes.
      causal: compile its causal steps, and not the others.

    Returns:
      The figures that the command prints.

    Raises:
      UserError: a name is wrong, the compiler is missing, or the batch does not fit; then the message has the largest
        that does.
    """
    slices = topology.parse(name, num_slices)
    if heaviest < 0:
        raise UserError(f"compile: --heaviest {heaviest} must not be negative")
    if find_batch and keep_hlo:
        raise UserError("compile: --keep-hlo goes with a given batch; leave out --find-batch")
    library = find_library()
    print(f"compile: {topology.describe(slices)}")
    config = schedule.of_kind(check(config, slices, round_batch=find_batch), causal)
    rows = rows_of(config, slices)
    if find_batch:
        rows, result = search(config, slices, library, heaviest=heaviest)
        if not rows:
            problem = f"compile: not even one row per device fits: {_needs(result)}"
            raise UserError(f"{problem}; use a smaller model or --model.remat full")
    else:
        print(
            f"compile: {rows} rows per device in each of {config.optim.micro_batches} micro-batches; this takes minutes"
        )
        result = attempt(config, slices, library, rows, keep_hlo, heaviest)
        if not result["fits"]:
            raise UserError(refusal(config, slices, library, rows, result))
    config = with_rows(config, slices, rows)
    for where, size in result["heaviest"]:
        print(f"compile: {size / GIB:8.2f} GiB  {where}")
    return figures(config, slices, result)


# --- What to compile -------------------------------------------------------------------------------------------------


def check(config: Pretrain, slices: Topology, round_batch: bool = False) -> Pretrain:
    """Checks that a run could start with the config, and returns it; `round_batch` makes its batch divisible first."""
    checks.check_counts(config)
    if round_batch:
        config = with_rows(config, slices, max(1, rows_of(config, slices)))
    config = divide(config, slices)
    checks.check_pretrain(config, row_parts(config, slices))
    checks.check_model(config.model)  # Sizes may not be open any more.
    compute = choose_precision.resolve(config.model.compute, "tpu")
    attention.choose_for(config.model, config.data.length, "tpu", compute)
    return config


def divide(config: Pretrain, slices: Topology) -> Pretrain:
    """The config with fewer micro-batches, if its number of them does not divide the rows of a device."""
    batches = [rows for _, rows in schedule.values_of(config, "data.batch_rows")]
    device_rows, rest = divmod(math.gcd(*batches), row_parts(config, slices))
    micro_batches = config.optim.micro_batches
    if rest or device_rows % micro_batches == 0:
        return config  # It divides, or no number of micro-batches helps.
    fewer = max(n for n in range(1, device_rows + 1) if device_rows % n == 0 and n <= micro_batches)
    print(
        f"compile: {' and '.join(map(str, batches))} rows on {row_parts(config, slices)} devices cannot be divided "
        f"into {micro_batches} micro-batches; using {fewer}: train with --optim.micro-batches {fewer}"
    )
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, micro_batches=fewer))


def row_parts(config: Pretrain, slices: Topology) -> int:
    """Number of parts that a batch is split into; devices over which tensors are split share their rows."""
    slice_devices = slices.devices // slices.slices
    if slice_devices % (config.run.fsdp * config.run.tensor):
        raise UserError(
            f"config: run.fsdp = {config.run.fsdp} times run.tensor = {config.run.tensor} must divide the "
            f"{slice_devices} devices of a slice"
        )
    return slices.devices // config.run.tensor


def rows_of(config: Pretrain, slices: Topology) -> int:
    """Rows of one micro-batch on one device, on which memory depends."""
    return config.data.batch_rows // (row_parts(config, slices) * config.optim.micro_batches)


def with_rows(config: Pretrain, slices: Topology, rows: int) -> Pretrain:
    """The config with a batch of `rows` rows per device and micro-batch."""
    batch_rows = rows * row_parts(config, slices) * config.optim.micro_batches
    return dataclasses.replace(config, data=dataclasses.replace(config.data, batch_rows=batch_rows))


def search(
    config: Pretrain, slices: Topology, library: str, points: tuple[tuple[int, int], ...] = (), heaviest: int = 0
) -> tuple[int, dict[str, Any]]:
    """Returns the most rows per device that fit, and the compiler's result for them.

    Args:
      config: of a pretraining run.
      slices: to compile for.
      library: the compiler's file.
      points: pairs (rows, bytes) of the same model, known from other slices.
      heaviest: number of operations to list that move the most bytes.
    """
    compute = choose_precision.resolve(config.model.compute, "tpu")
    scores = attention.choose_for(config.model, config.data.length, "tpu", compute) == "einsum"
    one_row = flops.step_memory_bytes(with_rows(config, slices, 1), slices.devices, compute, scores)
    row_bytes = one_row["activations"] + one_row["logits"]
    state = one_row["total"] - row_bytes
    available = available_bytes(slices)
    expected = batch_search.on_grid((available - state) / row_bytes)
    known = ((0, state), *points)

    def fits(rows: int) -> dict[str, Any]:
        return attempt(config, slices, library, rows, heaviest=heaviest)

    return batch_search.find_largest(fits, expected, available, known)


def refusal(config: Pretrain, slices: Topology, library: str, rows: int, result: dict[str, Any]) -> str:
    """The message for a batch that does not fit: what it needs, and what would fit."""
    print(f"compile: {rows} rows per device do not fit; searching the largest number that does")
    points = ((rows, result["used_bytes"]),)
    most, _ = search(config, slices, library, points)
    problem = f"compile: {rows} rows per device do not fit: {_needs(result)}"
    if not most:
        return f"{problem}; not even one row does; use a smaller model or --model.remat full"
    total = with_rows(config, slices, most).data.batch_rows
    device_rows = config.data.batch_rows // row_parts(config, slices)
    micro_batches = next(n for n in range(1, device_rows + 1) if device_rows % n == 0 and device_rows // n <= most)
    return (
        f"{problem}; at most {most} do: pass --data.batch-rows {total}, "
        f"or keep the batch with --optim.micro-batches {micro_batches}"
    )


def _needs(result: dict[str, Any]) -> str:
    return f"{result['used_bytes'] / GIB:.2f} of {result['available_bytes'] / GIB:.2f} GiB"


# --- The compiler, in a process of its own ---------------------------------------------------------------------------


def find_library() -> str:
    """The file of the TPU compiler.

    Raises:
      UserError: it is not installed.
    """
    path = os.environ.get("TPU_LIBRARY_PATH", "")
    if path:
        if not pathlib.Path(path).is_file():
            raise UserError(f"compile: TPU_LIBRARY_PATH = {path} does not exist; unset it or name libtpu.so")
        return path
    package = importlib.util.find_spec("libtpu")
    if package is None or not package.submodule_search_locations:
        raise UserError('compile: the TPU compiler is not installed; pip install "bertlite_jax[tpu]"')
    return str(pathlib.Path(package.submodule_search_locations[0]) / "libtpu.so")


def environment(library: str) -> dict[str, str]:
    """Variables of the compiling process, which keep it from looking for TPUs, also at a cloud's metadata server."""
    dropped = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    return {name: value for name, value in os.environ.items() if name not in dropped} | {
        "JAX_PLATFORMS": "cpu",
        "TPU_LIBRARY_PATH": library,
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # Two commands may compile side by side; no TPU is held.
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    }


def attempt(
    config: Pretrain, slices: Topology, library: str, rows: int, keep_hlo: str = "", heaviest: int = 0
) -> dict[str, Any]:
    """Compiles for `rows` rows per device and micro-batch; returns what `compile_step.compile_step` does.

    Raises:
      UserError: the devices of the slice cannot be split as `run.fsdp` and `run.tensor` say.
      RuntimeError: the compiler failed.
    """
    request = {
        "topology": slices.compiler_name,
        "slices": slices.slices,
        "options": slices.compiler_options,
        "config": dataclasses.asdict(with_rows(config, slices, rows)),
        "keep_text": str(pathlib.Path(keep_hlo).absolute()) if keep_hlo else "",
        "heaviest": heaviest,
    }
    with tempfile.TemporaryDirectory() as folder:
        request_file, answer = pathlib.Path(folder, "request.json"), pathlib.Path(folder, "answer.json")
        request_file.write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, "-m", "bertlite_jax.jobs.compiling.compile_step", str(request_file), str(answer)]
        compiler = subprocess.run(command, env=environment(library), capture_output=True, text=True)
        if compiler.returncode:
            raise RuntimeError(f"the TPU compiler ended with {compiler.returncode}:\n{compiler.stderr[-4000:]}")
        result = json.loads(answer.read_text(encoding="utf-8"))
    if "refused" in result:
        raise UserError(result["refused"])
    used, available = batch_search.used_bytes(result), available_bytes(slices)
    if result["fits"] and used > available:  # For v4 and TPU7x the compiler accepts some programs that take more.
        seconds = result["compile_seconds"]
        return {"compile_seconds": seconds, "fits": False, "used_bytes": used, "available_bytes": available}
    return result


# --- Figures ---------------------------------------------------------------------------------------------------


def available_bytes(slices: Topology) -> int:
    """Memory of one device, in bytes."""
    return slices.chip.usable_bytes // slices.chip.devices


def figures(config: Pretrain, slices: Topology, result: dict[str, Any]) -> dict[str, Any]:
    """The compiler's figures and what the chip can do, by the name that is printed. Bytes and FLOPs are per device."""
    chip = slices.chip
    rows = rows_of(config, slices)
    model_flops = flops.train_flops_per_step(config) / slices.devices
    seconds, bound = chips.step_seconds(model_flops, result["hbm_bytes"], chip)
    serial = chips.serial_seconds(result["operations"], result["hbm_bytes"], chip)
    used = batch_search.used_bytes(result)
    sent = sum(part["bytes"] for part in result["collectives"])
    table = {
        "chips": slices.chips,
        "devices": slices.devices,
        "rows a device and micro-batch": rows,
        "micro-batches": config.optim.micro_batches,
        "batch_rows": config.data.batch_rows,
        "arguments (GiB a device)": result["argument_bytes"] / GIB,
        "temporaries (GiB a device)": result["temporary_bytes"] / GIB,
        "program (GiB a device)": result["code_bytes"] / GIB,
        "headroom (GiB a device)": (available_bytes(slices) - used) / GIB,
    }
    for part in result["collectives"]:
        group = f" over {part['group']} devices" if part["group"] else ""
        table[f"{part['kind']}{group}"] = f"{part['count']} x, {part['bytes'] / 1e6:,.2f} MB"
    return table | {
        "collectives (MB a device and step)": sent / 1e6,
        "their least time within a slice (ms)": 1e3 * _link_seconds(result["collectives"], slices),
        "model TFLOP a device": model_flops / 1e12,
        "compiled TFLOP a device": result["flops"] / 1e12,
        "bytes accessed (GiB a device)": result["hbm_bytes"] / GIB,
        "step at least (ms)": 1e3 * seconds,
        "bound by": bound,
        "MFU at most": model_flops / (seconds * chip.device_peak),
        "one operation after the other, at least (ms)": 1e3 * serial,
        "MFU at most so": model_flops / (serial * chip.device_peak),
        "tokens a second at most": round(config.data.batch_rows * config.data.length / seconds),
        "loops of unknown length, counted once": result["unknown_loops"],
        "kernels of unknown FLOPs": result["unknown_kernels"],
        "compile time (s)": result["compile_seconds"],
    }


def _link_seconds(collectives: list[dict[str, Any]], slices: Topology) -> float:
    """Least time of all transfers over the links of one slice, one after the other."""
    total = 0.0
    for part in collectives:
        if part["kind"] != hlo_cost.BETWEEN_SLICES:
            passes = 2 if part["kind"] == "all-reduce" else 1
            total += chips.link_seconds(part["bytes"], part["group"] or slices.devices, passes, slices.chip)
    return total
