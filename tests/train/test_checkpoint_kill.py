"""A run that is killed at any moment goes on from a whole checkpoint."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from checkpoint_examples import write

from bertlite_jax.train import checkpoint

LOOP = """
import os, pathlib, random, shutil, signal, sys, threading, time
import numpy as np
from bertlite_jax.train import checkpoint

folder, moment, seed = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)

def state(step):
    values = np.random.default_rng(step).normal(size=(4, 50_000)).astype(np.float32)
    return {"w": values}, {"mu": values * 2, "count": np.int32(step)}

step = checkpoint.newest_good(folder, print)
if step is not None:
    params, meta = checkpoint.restore_params(folder, step)
    assert meta == {"step": step} and np.array_equal(params["w"], state(step)[0]["w"])
print("from", step, flush=True)
checkpoints = checkpoint.open_checkpoints(folder, 2, 0)
first = step or 0
if moment == "random":
    threading.Timer(random.Random(seed).uniform(0.2, 0.7), die).start()
for step in range(first + 1, first + 1000):
    if step == first + 3:  # Two checkpoints of this process are whole by now.
        if moment == "write":  # Some files of the step are there, and its folder still has Orbax's temporary name.
            def watch():
                while not any(p.is_file() for p in folder.glob("*tmp/params*/**/*")):
                    pass
                die()
            threading.Thread(target=watch).start()
        if moment == "seal":  # The step is committed and its sums lie beside it.
            os.replace = die
        if moment == "prune":  # The oldest is being removed, half of it is gone.
            shutil.rmtree = lambda path: (os.rename(path / "params", path / "gone"), die())
    params, opt = state(step)
    checkpoint.save(checkpoints, step, params, opt, {"step": step})
    while checkpoints.waiting or checkpoints.sealing:
        checkpoint.maybe_seal(checkpoints)
        time.sleep(0.001)
"""


@pytest.mark.thorough
def test_kill_at_any_moment_and_go_on(tmp_path):
    """SIGKILL during a write, between commit and seal, while an old one is removed, and at random moments.

    The next process finds a step whose content is right and goes on from it, and never loses more than one.
    """
    folder = tmp_path / "checkpoints"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    before, good = [], []
    for seed, moment in enumerate(["write", "seal", "random", "prune", "random", "random"]):
        before = checkpoint.verified_steps(folder)
        command = [sys.executable, "-W", "error", "-c", LOOP, str(folder), moment, str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert done.stderr == ""
        assert f"from {before[-1] if before else None}\n" in done.stdout
        good = checkpoint.verified_steps(folder)
        steps = sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal())
        assert good == steps or good == steps[:-1]  # Only the newest may be unfinished, never one half removed.
        if moment != "random":
            first = before[-1] if before else 0
            assert good[-1] == (first + 3 if moment == "prune" else first + 2)
    assert good[-1] > before[-1]
    assert len(good) <= 3
    lines = []
    step = checkpoint.newest_good(folder, lines.append)
    assert step is not None
    params, meta = checkpoint.restore_params(folder, step)
    expected = np.random.default_rng(step).normal(size=(4, 50_000)).astype(np.float32)
    assert meta == {"step": step}
    assert params["w"].tobytes() == expected.tobytes()
    # What the killed processes left behind is gone once a checkpoint is saved again.
    write(folder, [step + 1])
    names = {entry.name for entry in folder.iterdir()}
    assert all(name.isdecimal() or ".damaged" in name for name in names), names
    assert json.loads((folder / str(step) / "meta/metadata").read_text()) == {"step": step}
