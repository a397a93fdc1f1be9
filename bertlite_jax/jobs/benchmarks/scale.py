"""`bertlite bench scale`: how training speed changes with the number of devices, in one process or in several.

Strong scaling divides one batch among more devices; weak scaling gives every device the same number of rows. Each
number of devices is timed by a program of its own (`scale_worker.py`). A CPU can be split into several devices, or into
several processes that talk over loopback. They share its cores, so this shows the cost of splitting, not a gain.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
from typing import Any, Literal, NamedTuple

from rich.console import Console

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.benchmarks import machine, output
from bertlite_jax.jobs.benchmarks.sample_rows import known_preset
from bertlite_jax.jobs.benchmarks.train import build_configs
from bertlite_jax.report import terminal
from bertlite_jax.report.benchmarks import scale

Spread = Literal["devices", "processes"]


def bench_scale(
    *,
    preset: str = "albert_base",
    counts: tuple[int, ...] = (1, 2, 4, 8),
    spread: tuple[Spread, ...] = ("devices", "processes"),
    rows: int = 1,
    length: int = 128,
    rounds: int = 3,
    steps: int = 2,
    text: tuple[str, ...] = (),
    tokenizer: str = "",
    out: str = "",
    plot: str = "",
) -> dict[str, Any]:
    """Trains a few steps on 1, 2, 4 and 8 devices; prints real tokens per second and the bytes that devices exchange.

    Args:
      preset: Shape to train, such as albert_base, albert_tiny or bert_base.
      counts: Numbers of devices.
      spread: Over the devices of one process, over processes with one device each (on a CPU only), or both.
      rows: Rows per device in weak scaling; strong scaling divides this many rows times the largest count.
      length: Tokens in a row.
      rounds: Turns, of which the fastest counts.
      steps: Training steps in a turn.
      text: Text files; by default the text that comes with the package.
      tokenizer: Tokenizer folder; by default one is trained on the text.
      out: JSON file for the figures.
      plot: PNG file for a plot of the figures.

    Returns:
      {"machine", "settings", "notes", "figures": [{"spread", "scaling", "devices", "speed_up", "efficiency",
      "reduced_bytes", .. and what `scale_worker.time_steps` returns}]}. `speed_up` is real tokens per second over that
      of one device with the same `spread` and `scaling`; `efficiency` is `speed_up` over the number of devices.

    Raises:
      UserError: a setting is out of range, or a batch does not divide.
    """
    counts = tuple(sorted(set(counts)))
    _check(counts, spread, rows, length, rounds, steps)
    output.check_file("out", out)
    output.check_file("plot", plot)
    model = known_preset(preset)
    if length > model.max_positions:
        raise UserError(f"bench: --length {length} exceeds the {model.max_positions} positions of {preset}")
    console, load = terminal.open_console(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        config = build_configs(text, tokenizer, (length,), rows * length, model, pathlib.Path(scratch), console)[0]
        pairs = "sop" if model.pair_classes else "none"
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, pair_task=pairs))
        answers, skipped = _time_all(config, counts, spread, rows, rounds, steps, console)
    accelerator = {name: answers[0].content[name] for name in ("platform", "device_kind")}
    result = {
        "machine": machine.describe(["jax"], load) | accelerator,
        "settings": {"preset": preset, "rows": rows, "length": length, "rounds": rounds, "steps": steps},
        "figures": figures_of(answers, rows, rows * counts[-1]),
    }
    result["notes"] = scale.notes(result) + skipped
    scale.print_table(result, console)
    if out:
        whole_files.write_json(out, result)
    if plot:
        pathlib.Path(plot).write_bytes(scale.draw(result))
    return result


def _check(counts: tuple[int, ...], spread: tuple[str, ...], rows: int, length: int, rounds: int, steps: int) -> None:
    if not spread:
        raise UserError("bench: --spread is empty; pass devices, processes, or both")
    if not counts or counts[0] != 1:
        raise UserError(
            f"bench: --counts {' '.join(map(str, counts))} must include 1, which the others are compared with"
        )
    for name, value in (("rows", rows), ("rounds", rounds), ("steps", steps)):
        if value < 1:
            raise UserError(f"bench: --{name} {value} must be positive")
    if length < 8:
        raise UserError(f"bench: --length {length} is too short for a pair with its special tokens; at least 8")
    for count in counts:
        if counts[-1] % count:
            raise UserError(f"bench: --counts: {count} does not divide {counts[-1]}, so it cannot share the same batch")


# --- The programs ----------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """What the program for one number of devices found."""

    spread: str
    devices: int
    content: dict[str, Any]
    """As `scale_worker.main` writes it."""


def _time_all(
    config: Pretrain,
    counts: tuple[int, ...],
    spread: tuple[Spread, ...],
    rows: int,
    rounds: int,
    steps: int,
    console: Console,
) -> tuple[list[Answer], list[str]]:
    """The answers, and a line for everything that cannot be measured on this machine."""
    answers: list[Answer] = []
    skipped: list[str] = []
    for kind in spread:
        for count in counts:
            first = answers[0].content if answers else None
            if first and first["platform"] != "cpu":
                if kind == "processes":
                    skipped.append("Processes over loopback are for CPUs: the first one would take all accelerators.")
                    break
                if count > first["available"]:
                    skipped.append(f"{count} devices: this machine has {first['available']}.")
                    continue
            if kind == "processes" and count == 1 and answers:
                continue  # One process with one device, which is timed already.
            console.print(f"bench: {count} of {counts[-1]} {kind}")
            request = {
                "config": dataclasses.asdict(config),
                "rows": list(dict.fromkeys((rows * counts[-1], rows * count))),
                "devices": count if kind == "devices" else 1,
                "rounds": rounds,
                "steps": steps,
            }
            answers.append(Answer(kind, count, _run_worker(request, count if kind == "processes" else 1)))
    return answers, skipped


def _run_worker(request: dict[str, Any], processes: int) -> dict[str, Any]:
    """Runs `scale_worker` in that many processes; returns its answer.

    Raises:
      UserError: a process refused the request.
      RuntimeError: a process failed in another way.
    """
    with tempfile.TemporaryDirectory() as folder:
        request_file, answer, errors = (
            pathlib.Path(folder, name) for name in ("request.json", "answer.json", "errors")
        )
        request_file.write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, "-m", "bertlite_jax.jobs.benchmarks.scale_worker", str(request_file), str(answer)]
        with open(errors, "w", encoding="utf-8") as stream:
            workers = [
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=stream)
                for environment in _environments(request["devices"], processes)
            ]
            codes = [worker.wait() for worker in workers]
        messages = errors.read_text(encoding="utf-8")
        if any(codes):
            if 2 in codes:
                raise UserError(messages.strip().splitlines()[-1])
            raise RuntimeError(f"bench: the processes ended with {codes}:\n{messages[-4000:]}")
        return json.loads(answer.read_text(encoding="utf-8"))


def _environments(devices: int, processes: int) -> list[dict[str, str]]:
    """Variables of each process: its number of CPU devices, and where it finds the others."""
    distributed = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    base = {name: value for name, value in os.environ.items() if name not in distributed}
    base["JAX_NUM_CPU_DEVICES"] = str(devices)
    if processes == 1:
        return [base]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    base |= {"JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(processes)}
    return [base | {"JAX_PROCESS_ID": str(index)} for index in range(processes)]


# --- Figures ---------------------------------------------------------------------------------------------------


def figures_of(answers: list[Answer], rows: int, strong_rows: int) -> list[dict[str, Any]]:
    """One entry for each spread, scaling and number of devices.

    Args:
      answers: the first one, of one device, counts for both spreads.
      rows: rows per device in weak scaling.
      strong_rows: rows of the batch in strong scaling.
    """
    figures = []
    for spread in dict.fromkeys(answer.spread for answer in answers):
        of_spread = [answer for answer in answers if answer.spread == spread]
        if of_spread[0].devices != 1:
            of_spread = [answers[0], *of_spread]
        for scaling in ("strong", "weak"):
            one_device = None
            for _, count, content in of_spread:
                batch_rows = strong_rows if scaling == "strong" else rows * count
                timed = next(figure for figure in content["figures"] if figure["rows"] == batch_rows)
                one_device = one_device or timed["real_tokens_per_second"]
                speed_up = timed["real_tokens_per_second"] / one_device
                # Of a lone device, XLA keeps a sum over itself.
                sent = sum(part["bytes"] for part in timed["collectives"] if count > 1 and part["group"] != 1)
                figure = {"spread": spread, "scaling": scaling, "devices": count}
                figure |= {"speed_up": speed_up, "efficiency": speed_up / count, "reduced_bytes": sent}
                figures.append(figure | timed)
    return figures
