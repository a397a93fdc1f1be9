"""`bertlite compile`: the whole training step, compiled for a TPU slice on a machine that has none.

Says whether the batch fits, what crosses the network, and the least time that a step can take.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from bertlite_jax.config import checks, sizes
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.compiling import batch_search, topology
from bertlite_jax.jobs.compiling.topology import Topology
from bertlite_jax.model.ops import attention, choose_precision
from bertlite_jax.report.cost import chips, flops, hlo_cost

GIB = 2**30


def compile_for(
    config: Pretrain, name: str, num_slices: int = 1, find_batch: bool = False, keep_hlo: str = "", heaviest: int = 0
) -> dict[str, Any]:
    """Compiles the step of a config for a slice, or searches the largest batch that fits it.

    Args:
      config: of a pretraining run; the corpus and the tokenizer are not read.
      name: the slice, `v5e:16x16` or `v5e-256`.
      num_slices: so many of them, over the data-centre network.
      find_batch: search the most rows a device that fit; `data.batch_rows` is not read.
      keep_hlo: file for the optimised HLO; not with `find_batch`.
      heaviest: print so many operations that move the most bytes.

    Returns:
      The figures that the command prints.

    Raises:
      UserError: bad names, no compiler, or a batch that does not fit; names the largest that does.
    """
    slices = topology.parse(name, num_slices)
    if heaviest < 0:
        raise UserError(f"compile: --heaviest {heaviest} must not be negative")
    if find_batch and keep_hlo:
        raise UserError("compile: --keep-hlo goes with a given batch; leave out --find-batch")
    library = find_library()
    print(f"compile: {topology.describe(slices)}")
    config = check(config, slices, round_batch=find_batch)
    rows = rows_of(config, slices)
    if find_batch:
        rows, result = search(config, slices, library, heaviest=heaviest)
        if not rows:
            raise UserError(
                f"compile: not one row a device fits: {_needs(result)}; use a smaller model or --model.remat full"
            )
    else:
        print(
            f"compile: {rows} rows a device in each of {config.optim.micro_batches} micro-batches; this takes minutes"
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
    """The config, if a run could start with it; with `round_batch` its batch is made to divide first."""
    checks.check_counts(config)
    config = sizes.published_sizes(config)
    if round_batch:
        config = with_rows(config, slices, max(1, rows_of(config, slices)))
    config = divide(config, slices)
    checks.check_pretrain(config, row_parts(config, slices))
    compute = choose_precision.resolve(config.model.compute, "tpu")
    attention.choose_for(config.model, config.data.length, "tpu", compute)
    return config


def divide(config: Pretrain, slices: Topology) -> Pretrain:
    """The config with fewer micro-batches, where its number is for fewer devices and leaves less than a row to each."""
    a_device, rest = divmod(config.data.batch_rows, row_parts(config, slices))
    wanted = config.optim.micro_batches
    if rest or a_device % wanted == 0:
        return config  # It divides, or no number of micro-batches helps.
    parts = max(parts for parts in range(1, a_device + 1) if a_device % parts == 0 and parts <= wanted)
    print(
        f"compile: {config.data.batch_rows} rows on {row_parts(config, slices)} devices cannot be cut into {wanted} "
        f"micro-batches; taking {parts}: train with --optim.micro-batches {parts}"
    )
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, micro_batches=parts))


def row_parts(config: Pretrain, slices: Topology) -> int:
    """In how many parts a batch is split: all devices but those that share their rows."""
    each = slices.devices // slices.slices
    if each % (config.run.fsdp * config.run.tensor):
        raise UserError(
            f"config: run.fsdp = {config.run.fsdp} times run.tensor = {config.run.tensor} must divide the {each} "
            "devices of a slice"
        )
    return slices.devices // config.run.tensor


def rows_of(config: Pretrain, slices: Topology) -> int:
    """Rows of one micro-batch on one device: what memory depends on."""
    return config.data.batch_rows // (row_parts(config, slices) * config.optim.micro_batches)


def with_rows(config: Pretrain, slices: Topology, rows: int) -> Pretrain:
    """The config with a batch of so many rows a device and micro-batch."""
    batch_rows = rows * row_parts(config, slices) * config.optim.micro_batches
    return dataclasses.replace(config, data=dataclasses.replace(config.data, batch_rows=batch_rows))


def search(
    config: Pretrain, slices: Topology, library: str, points: tuple[tuple[int, int], ...] = (), heaviest: int = 0
) -> tuple[int, dict[str, Any]]:
    """The most rows a device that fit, and what the compiler says of them.

    Args:
      points: (rows, bytes) of the same model, known from other slices.
      heaviest: so many operations are listed.
    """
    compute = choose_precision.resolve(config.model.compute, "tpu")
    scores = attention.choose_for(config.model, config.data.length, "tpu", compute) == "einsum"
    one_row = flops.step_memory_bytes(with_rows(config, slices, 1), slices.devices, compute, scores)
    of_rows = one_row["activations"] + one_row["logits"]
    state = one_row["total"] - of_rows
    available = available_bytes(slices)
    expected = batch_search.on_grid((available - state) / of_rows)
    known = ((0, state), *points)

    def fits(rows: int) -> dict[str, Any]:
        return attempt(config, slices, library, rows, heaviest=heaviest)

    return batch_search.find_largest(fits, expected, available, known)


def refusal(config: Pretrain, slices: Topology, library: str, rows: int, result: dict[str, Any]) -> str:
    """One line for a batch that does not fit: what it needs, and what would fit."""
    print(f"compile: {rows} rows a device do not fit; searching the largest that do")
    points = ((rows, result["used_bytes"]),)
    most, _ = search(config, slices, library, points)
    asked = f"compile: {rows} rows a device do not fit: {_needs(result)}"
    if not most:
        return f"{asked}; not one row does; use a smaller model or --model.remat full"
    total = with_rows(config, slices, most).data.batch_rows
    a_device = config.data.batch_rows // row_parts(config, slices)
    parts = next(parts for parts in range(1, a_device + 1) if a_device % parts == 0 and a_device // parts <= most)
    return (
        f"{asked}; the largest that does is {most}: --data.batch-rows {total}, "
        f"or keep the batch with --optim.micro-batches {parts}"
    )


def _needs(result: dict[str, Any]) -> str:
    return f"{result['used_bytes'] / GIB:.2f} of {result['available_bytes'] / GIB:.2f} GiB"


# --- The compiler, in a process of its own ---------------------------------------------------------------------------


def find_library() -> str:
    """The file of the TPU compiler.

    Raises:
      UserError: it is not installed.
    """
    named = os.environ.get("TPU_LIBRARY_PATH", "")
    if named:
        if not pathlib.Path(named).is_file():
            raise UserError(f"compile: TPU_LIBRARY_PATH = {named} does not exist; unset it or name libtpu.so")
        return named
    package = importlib.util.find_spec("libtpu")
    if package is None or not package.submodule_search_locations:
        raise UserError('compile: the TPU compiler is not installed; pip install "bertlite_jax[tpu]"')
    return str(pathlib.Path(package.submodule_search_locations[0]) / "libtpu.so")


def environment(library: str) -> dict[str, str]:
    """Variables of the compiling process: no TPU is looked for, here or at a cloud's metadata server."""
    kept = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    return kept | {
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
    """Compiles for so many rows a device and micro-batch; what `compile_step.compile_step` returns.

    Raises:
      UserError: the devices of the slice cannot be split as `run.fsdp` and `run.tensor` say.
    """
    asked = {
        "topology": slices.compiler_name,
        "slices": slices.slices,
        "options": slices.compiler_options,
        "config": dataclasses.asdict(with_rows(config, slices, rows)),
        "keep_text": str(pathlib.Path(keep_hlo).absolute()) if keep_hlo else "",
        "heaviest": heaviest,
    }
    with tempfile.TemporaryDirectory() as folder:
        request, answer = pathlib.Path(folder, "request.json"), pathlib.Path(folder, "answer.json")
        request.write_text(json.dumps(asked), encoding="utf-8")
        command = [sys.executable, "-m", "bertlite_jax.jobs.compiling.compile_step", str(request), str(answer)]
        ended = subprocess.run(command, env=environment(library), capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(f"the TPU compiler ended with {ended.returncode}:\n{ended.stderr[-4000:]}")
        result = json.loads(answer.read_text(encoding="utf-8"))
    if "refused" in result:
        raise UserError(result["refused"])
    used, available = batch_search.used_bytes(result), available_bytes(slices)
    if result["fits"] and used > available:  # Those for v4 and TPU7x let some programs pass that take more.
        kept = {"compile_seconds": result["compile_seconds"]}
        return kept | {"fits": False, "used_bytes": used, "available_bytes": available}
    return result


# --- What it means ---------------------------------------------------------------------------------------------------


def available_bytes(slices: Topology) -> int:
    """Memory of one device."""
    return slices.chip.usable_bytes // slices.chip.devices


def figures(config: Pretrain, slices: Topology, result: dict[str, Any]) -> dict[str, Any]:
    """The compiler's numbers beside what the chip can do. Bytes and FLOPs are of one device."""
    chip = slices.chip
    rows = rows_of(config, slices)
    model_flops = flops.train_flops_per_step(config) / slices.devices
    seconds, bound = chips.step_seconds(model_flops, result["hbm_bytes"], chip)
    serial = chips.serial_seconds(result["operations"], result["hbm_bytes"], chip)
    used = batch_search.used_bytes(result)
    sent = sum(part["bytes"] for part in result["collectives"])
    shown = {
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
        shown[f"{part['kind']}{group}"] = f"{part['count']} x, {part['bytes'] / 1e6:,.2f} MB"
    return shown | {
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
    """Least time of what goes over the links of one slice, one after the other."""
    total = 0.0
    for part in collectives:
        if part["kind"] != hlo_cost.BETWEEN_SLICES:
            passes = 2 if part["kind"] == "all-reduce" else 1
            total += chips.link_seconds(part["bytes"], part["group"] or slices.devices, passes, slices.chip)
    return total
