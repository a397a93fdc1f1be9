"""A folder for each case, with copies of what release 0.1.0 wrote, and the rule that all cases are held to."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import pathlib
import shlex
import shutil
import sys
from collections.abc import Iterator

import pytest

from bertlite_jax.cli.main import main

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/0.1.0"
CONFIGS = {
    "PRETRAIN": ROOT / "configs/debug_cpu.py",
    "DISTILL": ROOT / "configs/distil_bort.py",
    "SEARCH": ROOT / "configs/search_debug.py",
    "FINETUNE": ROOT / "configs/finetune_glue.py",
}
PARTS = ("corpus", "finetuned", "hf", "int8", "pretrained", "sentencepiece", "tokenizer", "task.csv", "text.txt")


ONE_OF = 3
"""Of the cases in tables `make test` runs one of so many, spread over each table; `make test-all` runs all."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = pathlib.Path(__file__).parent
    in_tables = [item for item in items if item.path.parent == here and "[" in item.name]
    for number, item in enumerate(in_tables):
        if number % ONE_OF:
            item.add_marker(pytest.mark.slow)


class Bench:
    """The working folder of a case.

    In commands, an argument that is the name of a part of `GOLDEN` stands for a copy of it in this folder, and the
    names of `CONFIGS` for recipes.
    """

    def __init__(self, here: pathlib.Path):
        self.here = here

    def copy(self, *names: str) -> pathlib.Path:
        """Copies parts of `GOLDEN` into the folder, unless they are there; returns the last one."""
        for name in names:
            source, target = GOLDEN / name, self.here / name
            if os.path.lexists(target):
                continue
            shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
        return self.here / names[-1]

    def arguments(self, command: str) -> list[str]:
        """The words of a command, with what they name in place."""
        words = [str(CONFIGS.get(word, word)) for word in shlex.split(command)]
        self.copy(*(word for word in words if word in PARTS), "tokenizer")
        return words

    def run(self, command: str, stdin: str = "") -> tuple[int, str, str]:
        """Runs a command in this process. Returns exit code, standard output and standard error."""
        words = self.arguments(command)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _standard_input(stdin):
            code = main(words)
        return code, out.getvalue(), err.getvalue()

    def refuses(self, command: str, *said: str, stdin: str = "") -> str:
        """Asserts the rule: exit code 2, one line that says what is wrong and where, and nothing left behind.

        Args:
          command: what follows `bertlite`.
          *said: texts that the line must have: the file, the field, what is wrong.
          stdin: what the command reads from standard input.

        Returns:
          The line.
        """
        self.arguments(command)
        before = self.seen()
        code, _, err = self.run(command, stdin)
        assert code == 2, err
        assert err.count("\n") == 1, err
        for words in said:
            assert words in err, err
        assert self.seen() == before, "something was left behind"
        return err

    def seen(self) -> dict[str, tuple[int, int]]:
        """Kind and size of everything in the folder."""
        found = {}
        for folder, folders, files in os.walk(self.here):
            for name in (*folders, *files):
                state = os.lstat(os.path.join(folder, name))
                is_folder = os.path.isdir(os.path.join(folder, name))
                found[os.path.join(folder, name)] = (state.st_mode, 0 if is_folder else state.st_size)
        return found


@contextlib.contextmanager
def _standard_input(text: str) -> Iterator[None]:
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(text.encode("utf-8", "surrogatepass")), encoding="utf-8")
    try:
        yield
    finally:
        sys.stdin = before


@pytest.fixture
def bench(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A folder of the case's own, in which it runs."""
    here = tmp_path / "case"
    here.mkdir()
    monkeypatch.chdir(here)
    return Bench(here)


@pytest.fixture
def not_root() -> Iterator[None]:
    """Root may read and write everything; without these two rights of its own (Linux' capabilities) it may not."""
    if os.geteuid() != 0:
        yield
        return
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        before = (ctypes.c_uint32 * 6)()
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        if libc.capget(header, before):
            pytest.skip("this system has no capabilities")
    except (OSError, AttributeError):
        pytest.skip("this system has no capabilities")
    less = (ctypes.c_uint32 * 6)(*before)
    less[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    if libc.capset(header, less):
        pytest.skip("root cannot give up its rights here")
    yield
    assert libc.capset(header, before) == 0
