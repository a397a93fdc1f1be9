"""A command that was started with a lifeline is the command, and ends when its starter is gone."""

import os
import signal
import subprocess
import sys

COMMAND = [sys.executable, "-m", "bertlite_jax.host.lifeline"]


def test_it_is_the_command_with_its_exit_code():
    process = subprocess.Popen([*COMMAND, "ablate"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.wait(timeout=60) == 2
    assert process.communicate()[1].startswith("ablate: the first argument is a recipe")


def test_it_ends_when_nobody_holds_the_other_end(tmp_path):
    """It would wait for ever: nobody writes into the text that it was told to read."""
    os.mkfifo(tmp_path / "text")
    arguments = ["tokenizer", str(tmp_path / "text"), "--out", str(tmp_path / "out")]
    process = subprocess.Popen([*COMMAND, *arguments], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin
    process.stdin.close()
    assert process.wait(timeout=60) == -signal.SIGTERM
