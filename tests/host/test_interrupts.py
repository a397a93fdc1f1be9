"""Ctrl-C during an import waits for its end; a second one does not."""

import subprocess

from run_files import hears_ctrl_c

PROGRAM = """
import signal, sys, time
from bertlite_jax.host import interrupts
interrupts.wait_for_imports()
sys.path.insert(0, {folder!r})
try:
    import slow
    time.sleep(5)
    print("not interrupted")
except KeyboardInterrupt:
    print("after", slow.DONE)
"""
SLOW = """
import signal, time
for _ in range({times}):
    signal.raise_signal(signal.SIGINT)
time.sleep(0.3)
DONE = "the import"
"""


def run(tmp_path, times: int) -> subprocess.CompletedProcess[str]:
    (tmp_path / "slow.py").write_text(SLOW.format(times=times))
    program = PROGRAM.format(folder=str(tmp_path))
    return subprocess.run(hears_ctrl_c(["-c", program]), capture_output=True, text=True, timeout=60)


def test_an_interrupt_waits_until_the_import_is_done(tmp_path):
    done = run(tmp_path, 1)
    assert (done.returncode, done.stdout, done.stderr) == (0, "after the import\n", "")


def test_a_second_one_ends_the_program(tmp_path):
    done = run(tmp_path, 2)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


LOST = """
import gc, signal, time
from bertlite_jax.host import interrupts
interrupts.wait_for_imports()

def callback(phase, info):
    if phase == "start" and not done:
        done.append(phase)
        signal.raise_signal(signal.SIGINT)

done = []
gc.callbacks.append(callback)
try:
    gc.collect()
    time.sleep(5)
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted after", *done)
"""


def test_an_interrupt_that_a_callback_of_the_garbage_collector_would_lose_comes_again():
    """JAX registers one; Python only prints what is raised in it."""
    done = subprocess.run(hears_ctrl_c(["-c", LOST]), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted after start\n", "")
