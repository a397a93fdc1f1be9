"""How fast, how large and how right training is on the accelerator that is here; leaves a JSON file and a table.

    tools/accelerator_check.sh
    tools/accelerator_check.sh --minutes 20 --presets bert_large --lengths 512

Trains ALBERT-base, ALBERT-xxlarge and BERT-large on rows of 128 and 512 tokens of the bundled text, on one device,
in the precision that `auto` chooses there, bfloat16 on a GPU or TPU: with the attention that `auto` chooses, with each
other one that works there, and beside transformers with SDPA, eager and through torch.compile, where PyTorch sees the
device. Compares the losses of 20 steps with those of the CPU in float32. Where there is no accelerator all of it runs
in small on the CPU, which shows that it works and nothing else.

Each contender has a process of its own. What does not fit into the time that is left is left out, and the table says
so. Batches: the largest power of two of rows that should fit by formula, at most --batch-tokens; halved for as long as
memory runs out. Models are without dropout, which cuDNN's attention does not take.

Exit codes: 0; 1 a contender failed otherwise than for want of memory or time; 2 a bad option.
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
"""Few rows, because the CPU has to train on them too."""

Found = dict[str, Any]
"""Something that was measured, or {"status", "reason"} where it was not."""
Ask = Callable[[dict[str, Any], float], Found]
"""`ask(request, seconds)`: what accelerator_turns.py answers within that time; see `ask_process`."""


# --- Processes and time ----------------------------------------------------------------------------------------------


def ask_process(request: dict[str, Any], seconds: float) -> Found:
    """Runs accelerator_turns.py on a request.

    Returns:
      Its answer, with the `status` measured or out of memory; or {"status", "reason"}: out of time, or failed, then
      with the `traceback`.
    """
    env = dict(os.environ)
    env.setdefault("XLA_CLIENT_MEM_FRACTION", "0.9")
    if request["on_cpu"]:
        env["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        asked, answer, errors = (pathlib.Path(folder, name) for name in ("request.json", "answer.json", "errors"))
        asked.write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, str(TURNS), str(asked), str(answer)]
        with open(errors, "w", encoding="utf-8") as stream:
            # A group of its own, because torch.compile starts processes that would outlive it.
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
            return {"status": "out of memory", "reason": "the system ended the process, as it does without memory"}
        if code:
            said = errors.read_text(encoding="utf-8", errors="replace").strip() or f"exit code {code}"
            return {"status": "failed", "reason": said.splitlines()[-1][:300], "traceback": said[-8000:]}
        return json.loads(answer.read_text(encoding="utf-8"))


class Budget:
    """Seconds that are left, and what jobs have taken so far, by a name that those share which take about as long."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic):
        self._now, self._began, self.seconds = now, now(), seconds
        self._took: dict[str, float] = {}

    def spent(self) -> float:
        return self._now() - self._began

    def left(self) -> float:
        return self.seconds - self.spent()

    def run(self, name: str, job: Callable[[], Found]) -> Found:
        """What the job finds, if there is time for it: if another of that name took less than is left."""
        left, takes = self.left(), self._took.get(name, 0.0)
        if left <= takes:
            reason = f"{max(left, 0):.0f} of {self.seconds:.0f} s were left"
            return {"status": "left out", "reason": reason + (f", another took {takes:.0f}" if takes else "")}
        before = self.spent()
        found = job()
        seconds = self.spent() - before
        self._took[name] = max(takes, seconds)
        return found | {"took_seconds": seconds}


# --- Measuring -------------------------------------------------------------------------------------------------------


def look_for_torch(device: Found, ask: Ask, budget: Budget) -> tuple[str, dict[str, str]]:
    """Why transformers do not take part, "" where they do; and the versions."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        return f"no {' and no '.join(missing)} installed", {}
    seen = ask({"kind": "torch", "on_cpu": True}, max(budget.left(), 60))
    if seen["status"] != "measured":
        return f"PyTorch cannot be asked: {seen['reason']}", {}
    if device["platform"] == "cpu" or seen["cuda"]:
        return "", seen["versions"]
    return f"PyTorch {seen['versions']['torch']} does not see the {device['platform']}", seen["versions"]


def measure(contender: contenders.Contender, ask: Ask, budget: Budget) -> Found:
    """Asks with ever fewer rows, until they fit."""
    rows = contender.config.data.batch_rows
    tried: list[int] = []
    while True:
        tried.append(rows)
        config = dataclasses.asdict(contenders.with_rows(contender.config, rows))
        found = ask(contender.asked | {"config": config}, budget.left())
        if found["status"] != "out of memory" or rows == 1 or budget.left() <= 0:
            return found | {"rows": rows, "tried_rows": tried}
        rows //= 2


def compare_losses(config: Pretrain, device: Found, ask: Ask, budget: Budget) -> Found:
    """Losses of a few steps on the device in each precision, against those of the CPU in float32."""
    plain = ("float32", "float32", None)
    # On a GPU float32 is TF32 by default, on a TPU one pass of bfloat16.
    exact = [] if device["platform"] == "cpu" else [("float32, exact products", "float32", "highest")]
    usual = [] if device["compute"] == "float32" else [(device["compute"], device["compute"], None)]
    modes = [*exact, plain, *usual]
    few = dataclasses.asdict(contenders.with_rows(config, PARITY_ROWS))
    asked = {"kind": "losses", "config": few, "steps": PARITY_STEPS}
    found = on_cpu = ask(asked | {"on_cpu": True, "modes": [plain]}, budget.left())
    if found["status"] == "measured":
        found = ask(asked | {"on_cpu": False, "modes": modes}, budget.left())
    if found["status"] != "measured":
        return found
    right = on_cpu["losses"]["float32"]
    runs = {name: difference(losses, right) for name, losses in found["losses"].items()}
    return {"status": "measured", "cpu_losses": right, "runs": runs}


def difference(losses: list[float], right: list[float]) -> Found:
    """The largest difference of two runs' losses, and at which step (from 1 on)."""
    apart = [abs(a - b) for a, b in zip(losses, right, strict=True)]
    largest = max(apart)
    place = apart.index(largest)
    return {"losses": losses, "largest": largest, "relative": largest / abs(right[place]), "step": place + 1}


# --- The whole check -------------------------------------------------------------------------------------------------


def check(options: argparse.Namespace, ask: Ask, now: Callable[[], float] = time.monotonic) -> Found:
    """Measures, and writes what there is after each contender, so that an interrupted check leaves something too.

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
        found: Found = {"machine": machine, "settings": settings, "figures": [], "parity": {}, "notes": notes}

        def add(contender: contenders.Contender) -> None:
            row = contender.row
            if no_torch and contender.asked["kind"] == "peer":
                made = {"status": "skipped", "reason": no_torch}
            else:
                made = budget.run(f"{row['who']} {row['preset']}", lambda: measure(contender, ask, budget))
            found["figures"].append(row | made)
            print(f"accelerator_check: {accelerator_table.outcome(row | made)}", flush=True)
            write(found, options.out, budget)

        for contender in usual:
            add(contender)
        place = settings["presets"][0], min(settings["lengths"])
        told = {"preset": place[0], "length": place[1], "rows": PARITY_ROWS, "steps": PARITY_STEPS}
        compared = budget.run("parity", lambda: compare_losses(configs[place], device, ask, budget))
        found["parity"] = told | compared
        for contender in others:
            add(contender)
    return found


def write(found: Found, folder: pathlib.Path, budget: Budget) -> None:
    """accelerator_check.json and accelerator_check.md."""
    found["spent_seconds"] = budget.spent()
    whole_files.write_json(folder / "accelerator_check.json", found)
    whole_files.write_text(folder / "accelerator_check.md", accelerator_table.table(found))


def main(arguments: list[str] | None = None, ask: Ask = ask_process) -> int:
    """Returns the exit code."""
    full = contenders.FULL
    parser = argparse.ArgumentParser(
        prog="accelerator_check.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="time for all of it; 10 by default")
    parser.add_argument("--presets", nargs="+", help=f"shapes to train; by default {' '.join(full['presets'])}")
    parser.add_argument("--lengths", nargs="+", type=int, help="tokens in a row; by default 128 512")
    parser.add_argument("--batch-tokens", type=int, help=f"most tokens in a step; {full['batch_tokens']:,} by default")
    parser.add_argument("--text", nargs="+", default=[], help="text files; by default most of the bundled text")
    parser.add_argument("--tokenizer", default="", help="tokenizer folder; by default one is trained on the text")
    parser.add_argument("--unroll", action="store_true", help="write the layers out (model.unroll)")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/accelerator_check"),
        help="folder; %(default)s by default",
    )
    options = parser.parse_args(arguments)
    try:
        found = check(options, ask)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(accelerator_table.table(found))
    print(f"accelerator_check: {options.out}/accelerator_check.json and .md", flush=True)
    failed = [each for each in (*found["figures"], found["parity"]) if each["status"] == "failed"]
    for each in failed:
        print(each["traceback"], file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
