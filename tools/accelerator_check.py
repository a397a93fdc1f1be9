"""Measures speed, memory and parity of training on this machine's accelerator; writes a JSON file and a table.

    tools/accelerator_check.sh
    tools/accelerator_check.sh --minutes 20 --presets bert_large --lengths 512

Trains ALBERT-base, ALBERT-xxlarge and BERT-large on rows of 128 and 512 tokens of the bundled text, on one device and
in the precision that `auto` chooses there (bfloat16 on a GPU or TPU): with the attention that `auto` chooses, with each
other one that works there, and, if PyTorch sees the device, in transformers (SDPA attention, eager and compiled).
Compares the losses of 20 steps with those of the CPU in float32. Without an accelerator everything runs on the CPU with
tiny shapes, which only shows that the check works.

Each contender has a process of its own. A contender that does not fit into the remaining time is skipped, and the table
says so. A batch is the largest power of two of rows that should fit by formula, with at most --batch-tokens; it is
halved until it fits into memory. Models have no dropout, because cuDNN's attention supports none.

Exit codes: 0 success; 1 a contender failed for another reason than memory or time; 2 a bad option.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import accelerator_contenders as contenders
import accelerator_table

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, whole_files
from bertlite_jax.host.places import writing

TURNS = pathlib.Path(__file__).with_name("accelerator_turns.py")
PARITY_ROWS, PARITY_STEPS = 4, 20
"""Few rows, because the CPU trains on them too."""

Result = dict[str, Any]
"""Figures of a measurement, or {"status", "reason"} if there is none."""
Ask = Callable[[dict[str, Any], float], Result]
"""`ask(request, seconds)`: the answer of accelerator_turns.py within that time; see `ask_process`."""


# --- Processes and time ----------------------------------------------------------------------------------------------


def ask_process(request: dict[str, Any], seconds: float) -> Result:
    """Runs accelerator_turns.py on a request.

    Args:
      request: see accelerator_turns.py.
      seconds: time limit.

    Returns:
      Its answer, with the `status` measured or out of memory; or {"status", "reason"} with the status out of time or
      failed, the latter with a `traceback`.
    """
    env = dict(os.environ)
    env.setdefault("XLA_CLIENT_MEM_FRACTION", "0.9")
    if request["on_cpu"]:
        env["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        question, answer, errors = (pathlib.Path(folder, name) for name in ("request.json", "answer.json", "errors"))
        question.write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, str(TURNS), str(question), str(answer)]
        with open(errors, "w", encoding="utf-8") as stream:
            # A process group of its own, because torch.compile starts processes that would outlive it.
            started = subprocess.Popen(
                command, env=env, stdout=subprocess.DEVNULL, stderr=stream, start_new_session=True
            )
            try:
                code = started.wait(max(seconds, 0))
            except subprocess.TimeoutExpired:
                return {"status": "out of time", "reason": f"not done after {max(seconds, 0):.0f} s"}
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(started.pid, signal.SIGKILL)
                started.wait()
        if code == -signal.SIGKILL:
            return {"status": "out of memory", "reason": "the system killed the process, as it does without memory"}
        if code:
            text = errors.read_text(encoding="utf-8", errors="replace").strip() or f"exit code {code}"
            return {"status": "failed", "reason": text.splitlines()[-1][:300], "traceback": text[-8000:]}
        return json.loads(answer.read_text(encoding="utf-8"))


class Budget:
    """The remaining seconds, and how long jobs have taken so far; jobs of one name take about equally long."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic):
        self._now, self._began, self.seconds = now, now(), seconds
        self._took: dict[str, float] = {}

    def spent(self) -> float:
        """Seconds since the start."""
        return self._now() - self._began

    def left(self) -> float:
        """Remaining seconds."""
        return self.seconds - self.spent()

    def run(self, name: str, job: Callable[[], Result]) -> Result:
        """Runs the job if there is time: if the longest job of that name took less than the remaining seconds."""
        left, takes = self.left(), self._took.get(name, 0.0)
        if left <= takes:
            reason = f"{max(left, 0):.0f} of {self.seconds:.0f} s were left"
            return {"status": "left out", "reason": reason + (f", another took {takes:.0f}" if takes else "")}
        before = self.spent()
        result = job()
        seconds = self.spent() - before
        self._took[name] = max(takes, seconds)
        return result | {"took_seconds": seconds}


# --- Measuring -------------------------------------------------------------------------------------------------------


def look_for_torch(device: Result, ask: Ask, budget: Budget) -> tuple[str, dict[str, str]]:
    """(why transformers are not measured, "" if they are; versions of torch and transformers)."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        return f"no {' and no '.join(missing)} installed", {}
    torch = ask({"kind": "torch", "on_cpu": True}, max(budget.left(), 60))
    if torch["status"] != "measured":
        return f"PyTorch does not work: {torch['reason']}", {}
    if device["platform"] == "cpu" or torch["cuda"]:
        return "", torch["versions"]
    return f"PyTorch {torch['versions']['torch']} does not see the {device['platform']}", torch["versions"]


def measure(contender: contenders.Contender, ask: Ask, budget: Budget) -> Result:
    """Measures a contender with half as many rows each time, until they fit into memory."""
    rows = contender.config.data.batch_rows
    tried: list[int] = []
    while True:
        tried.append(rows)
        config = dataclasses.asdict(contenders.with_rows(contender.config, rows))
        result = ask(contender.request | {"config": config}, budget.left())
        if result["status"] != "out of memory" or rows == 1 or budget.left() <= 0:
            return result | {"rows": rows, "tried_rows": tried}
        rows //= 2


def compare_losses(config: Pretrain, device: Result, ask: Ask, budget: Budget) -> Result:
    """Losses of a few steps on the device in each precision, compared with those of the CPU in float32."""
    plain = ("float32", "float32", None)
    # On a GPU float32 is TF32 by default, on a TPU one pass of bfloat16.
    exact = [] if device["platform"] == "cpu" else [("float32, exact products", "float32", "highest")]
    usual = [] if device["compute"] == "float32" else [(device["compute"], device["compute"], None)]
    modes = [*exact, plain, *usual]
    few = dataclasses.asdict(contenders.with_rows(config, PARITY_ROWS))
    request = {"kind": "losses", "config": few, "steps": PARITY_STEPS}
    on_device = on_cpu = ask(request | {"on_cpu": True, "modes": [plain]}, budget.left())
    if on_cpu["status"] == "measured":
        on_device = ask(request | {"on_cpu": False, "modes": modes}, budget.left())
    if on_device["status"] != "measured":
        return on_device
    reference = on_cpu["losses"]["float32"]
    runs = {name: difference(losses, reference) for name, losses in on_device["losses"].items()}
    return {"status": "measured", "cpu_losses": reference, "runs": runs}


def difference(losses: list[float], reference: list[float]) -> Result:
    """The largest difference of two runs' losses, and its step, counted from 1."""
    differences = [abs(a - b) for a, b in zip(losses, reference, strict=True)]
    largest = max(differences)
    place = differences.index(largest)
    return {"losses": losses, "largest": largest, "relative": largest / abs(reference[place]), "step": place + 1}


# --- The whole check -------------------------------------------------------------------------------------------------


def check(options: argparse.Namespace, ask: Ask, now: Callable[[], float] = time.monotonic) -> Result:
    """Measures everything; writes the files after each contender, so that an interrupted check leaves results too.

    Args:
      options: of the command line.
      ask: runs a request.
      now: the clock.

    Returns:
      {"machine", "settings", "figures": one for each row of the table, "parity", "notes", "spent_seconds"}.
    """
    budget = Budget(60 * options.minutes, now)
    with writing("accelerator_check", options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    device = ask({"kind": "device", "on_cpu": False}, max(budget.left(), 60))
    if device["status"] != "measured":
        raise UserError(f"accelerator_check: JAX finds no device: {device['reason']}")
    defaults = contenders.SMALL if device["platform"] == "cpu" else contenders.FULL
    settings = {name: getattr(options, name) or value for name, value in defaults.items()}
    settings |= {"unroll": options.unroll, "minutes": options.minutes}
    print(f"accelerator_check: {device['device_kind']}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        configs = contenders.make_configs(settings, options.text, options.tokenizer, pathlib.Path(scratch))
        no_torch, versions = look_for_torch(device, ask, budget)
        machine = device | {"cpu": cpu.name(), "cores": cpu.cores(), "torch_versions": versions}
        usual, others, notes = contenders.contenders(configs, device, settings["batch_tokens"])
        result: Result = {"machine": machine, "settings": settings, "figures": [], "parity": {}, "notes": notes}

        def add(contender: contenders.Contender) -> None:
            row = contender.row
            if no_torch and contender.request["kind"] == "peer":
                figures = {"status": "skipped", "reason": no_torch}
            else:
                figures = budget.run(f"{row['who']} {row['preset']}", lambda: measure(contender, ask, budget))
            result["figures"].append(row | figures)
            print(f"accelerator_check: {accelerator_table.outcome(row | figures)}", flush=True)
            write(result, options.out, budget)

        for contender in usual:
            add(contender)
        place = settings["presets"][0], min(settings["lengths"])
        shape = {"preset": place[0], "length": place[1], "rows": PARITY_ROWS, "steps": PARITY_STEPS}
        compared = budget.run("parity", lambda: compare_losses(configs[place], device, ask, budget))
        result["parity"] = shape | compared
        for contender in others:
            add(contender)
    return result


def write(result: Result, folder: pathlib.Path, budget: Budget) -> None:
    """Writes accelerator_check.json and accelerator_check.md."""
    result["spent_seconds"] = budget.spent()
    whole_files.write_json(folder / "accelerator_check.json", result)
    whole_files.write_text(folder / "accelerator_check.md", accelerator_table.table(result))


def main(arguments: list[str] | None = None, ask: Ask = ask_process) -> int:
    """Runs the command line; returns the exit code."""
    full = contenders.FULL
    parser = argparse.ArgumentParser(
        prog="accelerator_check.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="time limit for everything; 10 by default")
    parser.add_argument("--presets", nargs="+", help=f"presets to train; by default {' '.join(full['presets'])}")
    parser.add_argument("--lengths", nargs="+", type=int, help="row lengths in tokens; by default 128 512")
    parser.add_argument("--batch-tokens", type=int, help=f"most tokens of a step; {full['batch_tokens']:,} by default")
    parser.add_argument("--text", nargs="+", default=[], help="text files; by default most of the bundled text")
    parser.add_argument(
        "--tokenizer", default="", help="tokenizer folder; by default a tokenizer is trained on the text"
    )
    parser.add_argument("--unroll", action="store_true", help="unroll the loop over layers (model.unroll)")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/accelerator_check"),
        help="folder for the results; %(default)s by default",
    )
    options = parser.parse_args(arguments)
    try:
        result = check(options, ask)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(accelerator_table.table(result))
    print(f"accelerator_check: {options.out}/accelerator_check.json and .md", flush=True)
    failed = [each for each in (*result["figures"], result["parity"]) if each["status"] == "failed"]
    for each in failed:
        print(each["traceback"], file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
