"""The machine and the shell around a job: standard output that is full or closed, no memory, a folder that is gone."""

import errno
import io
import os
import pathlib
import subprocess
import sys

import pytest

from bertlite_jax.cli import main
from bertlite_jax.cli.job import Job


class Full(io.StringIO):
    """A standard output that takes no more, as /dev/full."""

    number = errno.ENOSPC

    def flush(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("command", [["--help"], ["convert", "--help"], ["report", "pretrained"]])
def test_a_full_standard_output_is_told(command, bench, monkeypatch, capsys):
    bench.copy("pretrained")
    monkeypatch.setattr(sys, "stdout", Full())
    assert main.main(command) == 2
    assert capsys.readouterr().err == f"{command[0]}: standard output cannot be written: No space left on device\n"


def test_a_reader_that_has_left_is_no_error(monkeypatch, capsys):
    class Left(Full):
        number = errno.EPIPE

        def flush(self) -> None:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Left())
    assert main.main(["--help"]) == 0
    assert capsys.readouterr().err == ""


PROGRAM = [sys.executable, "-m", "bertlite_jax"]
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def test_in_a_process_of_its_own_a_full_output_leaves_one_line():
    """Python would try to write it again at the end, complain, and exit with 120."""
    if not pathlib.Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([*PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, env=BUFFERED)
    assert (done.returncode, done.stderr) == (2, "--help: standard output cannot be written: No space left on device\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_in_a_process_of_its_own_a_reader_may_leave_or_never_come(unbuffered):
    program = f'"{sys.executable}" -m bertlite_jax convert --help'
    pipeline = f'{program} | true; echo "${{PIPESTATUS[0]}}"; {program} >&- <&-; echo $?'
    environment = BUFFERED | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("0\n0\n", "")


def test_a_folder_that_is_gone_is_told(bench, capsys):
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")
    assert main.main(["report", "run"]) == 2
    assert "the folder that this runs in does not exist any more" in capsys.readouterr().err


def fail(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a job of one line that raises."""

    def run(args: object) -> None:
        raise error

    monkeypatch.setattr(main, "JOBS", (Job("pretrain", "", run),))


def test_a_job_without_memory_is_told(monkeypatch, capsys):
    fail(MemoryError("Unable to allocate 7.28 TiB"), monkeypatch)
    assert main.main(["pretrain"]) == 2
    assert capsys.readouterr().err.startswith("pretrain: needs more memory than this machine has (Unable to allocate")


def test_a_broken_pipe_of_our_own_is_not_taken_for_a_reader_that_left(monkeypatch):
    fail(BrokenPipeError(errno.EPIPE, "Broken pipe"), monkeypatch)
    with pytest.raises(BrokenPipeError):
        main.main(["pretrain"])


def test_our_own_faults_keep_their_traceback(monkeypatch):
    fail(FileNotFoundError(errno.ENOENT, "No such file", "/usr/lib/a-file-of-ours"), monkeypatch)
    with pytest.raises(FileNotFoundError):
        main.main(["pretrain"])


ENVIRONMENTS = {
    "JAX_PLATFORMS=cuda": "environment: JAX_PLATFORMS = cuda",
    "JAX_PLATFORMS=tpux": "environment: JAX_PLATFORMS = tpux",
    "JAX_NUM_CPU_DEVICES=0": "JAX_NUM_CPU_DEVICES = 0: no such device for JAX here",
    "JAX_NUM_CPU_DEVICES=abc": "JAX_NUM_CPU_DEVICES = abc: no such device for JAX here",
    "JAX_ENABLE_X64=perhaps": "JAX_ENABLE_X64",
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", ENVIRONMENTS)
def test_a_setting_of_jax_that_cannot_be_is_told(setting, bench):
    """Each needs a process of its own, since JAX reads its environment once."""
    bench.copy("pretrained", "corpus")
    name, _, value = setting.partition("=")
    done = subprocess.run(
        [*PROGRAM, "evaluate", "pretrained"], env=os.environ | {name: value}, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert ENVIRONMENTS[setting] in done.stderr
    assert "Traceback" not in done.stderr


FLAGS = ["--xla_no_such_flag=1", "--xla_cpu_no_such_flag --xla_nor_this", "--xla_force_host_platform_device_count=x"]


@pytest.mark.parametrize("flags", FLAGS)
def test_flags_that_xla_does_not_know_are_told(flags, monkeypatch, capsys):
    """XLA itself would end the process, with a stack of C++ functions."""
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.delitem(sys.modules, "jax")
    assert main.main(["evaluate", "run"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("environment: ")
    assert flags.split()[0].partition("=")[0] in error
    assert main.main(["tokenizer", "--help-me"]) == 2
    assert "XLA_FLAGS" not in capsys.readouterr().err


@pytest.mark.parametrize("flags", ["", "--xla_cpu_max_isa=AVX2"])
def test_flags_that_xla_knows_pass(flags, monkeypatch, capsys):
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.delitem(sys.modules, "jax")
    assert main.main(["evaluate", "run"]) == 2
    assert "run/config.json does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["report", "bad\udcffrun"], r"bad\xffrun is not UTF-8"),
        (["convert", "to-hf", "run", "bad\udcff"], r"bad\xff is not UTF-8"),
        (["corpus", "a.txt", "--tokenizer", "t", "--out", "bad\udcff"], r"bad\xff is not UTF-8"),
        (["fill-mask", "run", "a \udcff [MASK]"], r"a \xff [MASK] is not UTF-8"),
        (["pretrain", "c.py", "--workdir=bad\udcff"], r"bad\xff is not UTF-8"),
    ],
)
def test_arguments_that_are_not_utf8_are_shown(command, shown, capsys):
    assert main.main(command) == 2
    error = capsys.readouterr().err
    assert shown in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", "a\rb", "a\tb"])
def test_a_name_cannot_write_on_the_terminal(name, capsys):
    assert main.main(["report", name]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.rstrip("\n").isprintable()


def test_text_may_have_any_name(bench):
    """A file name from a Latin-1 disk is fine where it is only read."""
    bench.copy("tokenizer")
    name = os.fsdecode(b"caf\xe9.txt")
    (bench.here / name).write_text("Some words of a text.\n\nAnd more of them.\n")
    assert main.main(["corpus", name, "--tokenizer", "tokenizer", "--out", "out", "--workers", "1"]) == 0
