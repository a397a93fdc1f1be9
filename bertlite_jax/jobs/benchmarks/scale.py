"""`bertlite bench scale`: how training speed changes with the number of devices, of one process or of several.

Strong scaling divides one batch among more devices; weak scaling gives every device as many rows. Each number of
devices is timed by a program of its own (`scale_worker.py`). A host's CPU can pretend to be several devices, or several
processes that talk over loopback: they share its cores, so this shows what splitting costs and no gain in speed.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
from typing import Any, Literal

from rich.console import Console

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.benchmarks import machine
from bertlite_jax.jobs.benchmarks.infer import check_place
from bertlite_jax.jobs.benchmarks.sample_rows import known_preset
from bertlite_jax.jobs.benchmarks.train import build_configs
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
    """Trains on 1, 2, 4 and 8 devices for a few steps each and prints real tokens a second and what is reduced.

    Args:
      preset: the shape that is trained, as albert_base, albert_tiny or bert_base.
      counts: numbers of devices.
      spread: over the devices of one process, over processes with one device each (on a CPU only), or both.
      rows: rows a device in weak scaling. Strong scaling divides as many rows as the largest count has in all.
      length: tokens in a row.
      rounds: turns, of which the fastest counts.
      steps: updates in a turn.
      text: text files; none: the text that comes with the package.
      tokenizer: a tokenizer folder; none: one is trained on the text.
      out: file for the figures as JSON.
      plot: file for a picture of them (PNG).

    Returns:
      {"machine", "settings", "notes", "figures": [{"spread", "scaling", "devices", "speed_up", "efficiency",
      "reduced_bytes", .. and what `scale_worker.time_steps` returns}]}. `speed_up` is real tokens a second over that of
      one device with the same `spread` and `scaling`, and `efficiency` that over the number of devices.

    Raises:
      UserError: a setting out of range, or a batch that does not divide.
    """
    counts = tuple(sorted(set(counts)))
    _check(counts, spread, rows, length, rounds, steps)
    check_place("out", out)
    check_place("plot", plot)
    if plot and importlib.util.find_spec("matplotlib") is None:
        raise UserError("bench: --plot needs matplotlib; pip install 'bertlite_jax[report]'")
    model = known_preset(preset)
    if length > model.max_positions:
        raise UserError(f"bench: --length {length} exceeds the {model.max_positions} positions of {preset}")
    console, load = Console(highlight=False), os.getloadavg()[0]
    if not console.is_terminal:
        console.width = 100
    with tempfile.TemporaryDirectory() as scratch:
        config = build_configs(text, tokenizer, (length,), rows * length, model, pathlib.Path(scratch), console)[0]
        pairs = "sop" if model.pair_classes else "none"
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, pair_task=pairs))
        answers, skipped = _time_all(config, counts, spread, rows, rounds, steps, console)
    found = {
        "machine": machine.describe(["jax"], load)
        | {name: answers[0][2][name] for name in ("platform", "device_kind")},
        "settings": {"preset": preset, "rows": rows, "length": length, "rounds": rounds, "steps": steps},
        "figures": _figures(answers, rows, rows * counts[-1]),
    }
    found["notes"] = scale.notes(found) + skipped
    scale.print_table(found, console)
    if out:
        whole_files.write_json(out, found)
    if plot:
        whole_files.write_bytes(plot, scale.draw(found))
    return found


def _check(counts: tuple[int, ...], spread: tuple[str, ...], rows: int, length: int, rounds: int, steps: int) -> None:
    if not spread:
        raise UserError("bench: --spread is empty; devices, processes, or both")
    if not counts or counts[0] != 1:
        raise UserError(f"bench: --counts {' '.join(map(str, counts))} should begin with 1, which all is compared with")
    for name, value in (("rows", rows), ("rounds", rounds), ("steps", steps)):
        if value < 1:
            raise UserError(f"bench: --{name} {value} must be positive")
    if length < 8:
        raise UserError(f"bench: --length {length} is too short for a pair with its specials; at least 8")
    for count in counts:
        if counts[-1] % count:
            raise UserError(f"bench: --counts: {count} does not divide {counts[-1]}, whose batch it is to share")


# --- The programs ----------------------------------------------------------------------------------------------------

_Answer = tuple[str, int, dict[str, Any]]
"""Spread, number of devices, and what `scale_worker.main` wrote."""


def _time_all(
    config: Pretrain,
    counts: tuple[int, ...],
    spread: tuple[Spread, ...],
    rows: int,
    rounds: int,
    steps: int,
    console: Console,
) -> tuple[list[_Answer], list[str]]:
    """The answers, and a line for each thing that cannot be measured here."""
    answers: list[_Answer] = []
    skipped: list[str] = []
    for how in spread:
        for count in counts:
            first = answers[0][2] if answers else None
            if first and first["platform"] != "cpu":
                if how == "processes":
                    skipped.append("Processes over loopback are for CPUs: the first one would take all accelerators.")
                    break
                if count > first["available"]:
                    skipped.append(f"{count} devices: there are {first['available']}.")
                    continue
            if how == "processes" and count == 1 and answers:
                continue  # One process with one device, which is timed already.
            console.print(f"bench: {count} of {counts[-1]} {how}")
            asked = {
                "config": dataclasses.asdict(config),
                "rows": list(dict.fromkeys((rows * counts[-1], rows * count))),
                "devices": count if how == "devices" else 1,
                "rounds": rounds,
                "steps": steps,
            }
            answers.append((how, count, _ask(asked, count if how == "processes" else 1)))
    return answers, skipped


def _ask(asked: dict[str, Any], processes: int) -> dict[str, Any]:
    """Runs `scale_worker` in so many processes.

    Raises:
      UserError: as they say.
      RuntimeError: they ended in another way.
    """
    with tempfile.TemporaryDirectory() as folder:
        request, answer, errors = (pathlib.Path(folder, name) for name in ("request.json", "answer.json", "errors"))
        request.write_text(json.dumps(asked), encoding="utf-8")
        command = [sys.executable, "-m", "bertlite_jax.jobs.benchmarks.scale_worker", str(request), str(answer)]
        with open(errors, "w", encoding="utf-8") as stream:
            started = [
                subprocess.Popen(command, env=each, stdout=subprocess.DEVNULL, stderr=stream)
                for each in _environments(asked["devices"], processes)
            ]
            codes = [process.wait() for process in started]
        said = errors.read_text(encoding="utf-8")
        if any(codes):
            if 2 in codes:
                raise UserError(said.strip().splitlines()[-1])
            raise RuntimeError(f"bench: the processes ended with {codes}:\n{said[-4000:]}")
        return json.loads(answer.read_text(encoding="utf-8"))


def _environments(devices: int, processes: int) -> list[dict[str, str]]:
    """One for each process: so many devices of a CPU, and who the others are."""
    ours = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    base = {name: value for name, value in os.environ.items() if name not in ours}
    base["JAX_NUM_CPU_DEVICES"] = str(devices)
    if processes == 1:
        return [base]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    base |= {"JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(processes)}
    return [base | {"JAX_PROCESS_ID": str(index)} for index in range(processes)]


# --- What it means ---------------------------------------------------------------------------------------------------


def _figures(answers: list[_Answer], rows: int, strong_rows: int) -> list[dict[str, Any]]:
    """One entry for each spread, scaling and number of devices; the first answer, of one device, is both spreads'."""
    made = []
    for how in dict.fromkeys(how for how, _, _ in answers):
        of_spread = [each for each in answers if each[0] == how]
        if of_spread[0][1] != 1:
            of_spread = [answers[0], *of_spread]
        for scaling in ("strong", "weak"):
            alone = None
            for _, count, answer in of_spread:
                wanted = strong_rows if scaling == "strong" else rows * count
                timed = next(each for each in answer["figures"] if each["rows"] == wanted)
                alone = alone or timed["real_tokens_per_second"]
                speed_up = timed["real_tokens_per_second"] / alone
                own = {"spread": how, "scaling": scaling, "devices": count}
                # XLA leaves a lone device a sum over itself.
                sent = sum(each["bytes"] for each in timed["collectives"] if count > 1 and each["group"] != 1)
                own |= {"speed_up": speed_up, "efficiency": speed_up / count, "reduced_bytes": sent}
                made.append(own | timed)
    return made
