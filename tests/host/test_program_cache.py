"""Where compiled programs are kept, and that a second process finds them."""

import errno
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
from compiling import compile_once

from bertlite_jax.host import cpu, program_cache

SCRIPT = """
import jax
from bertlite_jax.host import program_cache
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
print(program_cache.keep_programs())
jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((7, 7))).block_until_ready()
print(sum("cache_hits" in name for name in hits) > 0)
"""


def run(home: pathlib.Path, **settings: str) -> list[str]:
    wanted = {"XDG_CACHE_HOME": str(home), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    env = {name: value for name, value in os.environ.items() if "CACHE" not in name} | wanted | settings
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True
    ).stdout.split("\n")[:2]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other cache folders")
def test_a_second_process_finds_what_the_first_one_compiled(tmp_path):
    folder, hit = run(tmp_path)
    assert pathlib.Path(folder).parent == tmp_path / "bertlite_jax" / "programs"
    assert hit == "False"
    assert list(pathlib.Path(folder).iterdir())
    assert run(tmp_path) == [folder, "True"]


@pytest.mark.thorough
def test_jaxs_own_settings_go_first(tmp_path):
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "named"))[0] == str(tmp_path / "named")
    assert run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false") == ["None", "False"]
    assert not (tmp_path / "bertlite_jax").exists()


@pytest.mark.thorough
def test_without_a_home_nothing_is_kept(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file") == ["None", "False"]


def test_another_kind_of_cpu_has_another_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = set()
    for flags in (frozenset({"avx2"}), frozenset({"avx2", "amx_bf16"})):
        monkeypatch.setattr(cpu, "flags", lambda flags=flags: flags)
        before = {name: getattr(program_cache.jax.config, name) for name in NAMES}
        program_cache.jax.config.update("jax_enable_compilation_cache", True)
        program_cache.jax.config.update("jax_compilation_cache_dir", None)
        found.add(program_cache.keep_programs())
        for name, value in before.items():
            program_cache.jax.config.update(name, value)
    assert len(found) == 2


NAMES = ("jax_enable_compilation_cache", "jax_compilation_cache_dir")


# --- Programs that are found without their text ------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: pathlib.Path):
    with compile_once(tmp_path):
        yield tmp_path


class Lower:
    """Lowers a program of two devices and counts how often."""

    def __init__(self, factor: float = 2.0):
        self.factor, self.calls = factor, 0
        mesh = jax.make_mesh((2,), ("data",), devices=DEVICES)
        self.rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))

    def __call__(self) -> jax.stages.Lowered:
        self.calls += 1
        step = jax.jit(lambda state: ({"x": state["x"] * self.factor}, jnp.sum(state["x"])), donate_argnums=0)
        return step.lower({"x": jax.ShapeDtypeStruct((4,), jnp.float32, sharding=self.rows)})


DEVICES = jax.devices()[:2]


def outcome(lower: Lower, follows_from: str = "doubling") -> tuple[list[float], float, int]:
    """What the fetched program makes of 1, 2, 3, 4; and how often it was lowered in all."""
    program = program_cache.fetch(follows_from, DEVICES, lower)
    state, total = program({"x": jax.device_put(np.arange(1, 5, dtype=np.float32), lower.rows)})
    assert state["x"].sharding == lower.rows
    return state["x"].tolist(), float(total), lower.calls


def names(folder: pathlib.Path, suffix: str) -> list[pathlib.Path]:
    return sorted(folder.glob(f"*{suffix}"))


def test_a_program_is_traced_once(folder):
    lower = Lower()
    assert outcome(lower) == ([2, 4, 6, 8], 10, 1)
    assert outcome(lower) == ([2, 4, 6, 8], 10, 1)


@pytest.mark.parametrize("change", ["what it follows from", "code", "flags", "settings", "devices", "CPU"])
def test_whatever_changes_it_is_traced_again(folder, monkeypatch, change):
    lower = Lower()
    outcome(lower)
    follows_from = "doubling"
    match change:
        case "what it follows from":
            follows_from = "tripling"
        case "code":
            monkeypatch.setattr(program_cache, "_code", lambda: "another line")
        case "flags":
            monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"] + " --xla_cpu_enable_fast_math=true")
        case "settings":
            jax.config.update("jax_default_matmul_precision", "bfloat16")
        case "devices":
            monkeypatch.setattr(sys.modules[__name__], "DEVICES", jax.devices()[2:4])
            lower = Lower()
            lower.calls = 1
        case "CPU":
            monkeypatch.setattr(cpu, "flags", lambda: frozenset({"another"}))
    try:
        assert outcome(lower, follows_from)[-1] == 2
    finally:
        jax.config.update("jax_default_matmul_precision", None)


def test_what_has_the_same_text_is_compiled_once(folder, monkeypatch):
    lower = Lower()
    outcome(lower)
    monkeypatch.setattr(program_cache, "_compile", None)
    assert outcome(lower, "doubling, said otherwise") == ([2, 4, 6, 8], 10, 2)
    assert outcome(lower, "doubling, said otherwise") == ([2, 4, 6, 8], 10, 2)
    assert len(names(folder, ".program")) == 1
    assert len(names(folder, ".found")) == 2


def test_another_text_is_another_program(folder):
    outcome(Lower())
    assert outcome(Lower(3.0), "tripling") == ([3, 6, 9, 12], 10, 1)


@pytest.mark.parametrize("suffix", thorough.but([".found"], [".program", ".found"]))
def test_a_damaged_file_is_replaced(folder, caplog, suffix):
    lower = Lower()
    outcome(lower)
    [path] = names(folder, suffix)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    jax.clear_caches()
    for cached in folder.glob("*-cache"):  # JAX's own: what comes from there is not kept again.
        cached.unlink()
    assert outcome(lower) == ([2, 4, 6, 8], 10, 2)
    assert f"{path} is damaged; compiling anew" in caplog.messages
    assert outcome(lower) == ([2, 4, 6, 8], 10, 2)


def test_what_the_machine_cannot_load_is_compiled_anew(folder, caplog, monkeypatch):
    lower = Lower()
    outcome(lower)

    def refuse(*args: object, **kwargs: object) -> None:
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: Target machine feature is missing")

    monkeypatch.setattr(program_cache.serialize_executable, "deserialize_and_load", refuse)
    assert outcome(lower) == ([2, 4, 6, 8], 10, 2)
    assert "cannot be loaded; compiling anew: INVALID_ARGUMENT" in caplog.text


def test_what_jax_fetched_from_its_own_cache_is_not_kept(folder):
    """It would lack functions, and fail when it runs."""
    outcome(Lower())
    for path in (*names(folder, ".program"), *names(folder, ".found")):
        path.unlink()
    jax.clear_caches()
    assert outcome(Lower()) == ([2, 4, 6, 8], 10, 1)
    assert not names(folder, ".program")


def test_a_full_disk_stops_nothing(folder, caplog, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(program_cache.whole_files, "write_bytes", full)
    assert outcome(Lower()) == ([2, 4, 6, 8], 10, 1)
    assert "cannot be kept: [Errno 28] No space left on device" in caplog.text


def test_programs_that_take_no_second_are_not_kept(folder):
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 60.0)
    outcome(Lower())
    assert not names(folder, ".found")


@pytest.mark.parametrize("off", ["jax_enable_compilation_cache", "jax_compilation_cache_dir"])
def test_where_jax_keeps_nothing_nothing_is_kept(folder, off):
    jax.config.update(off, None if off.endswith("dir") else False)
    outcome(Lower())
    assert not list(folder.iterdir())


def test_what_follows_from_nothing_known_is_not_kept(folder):
    outcome(Lower(), "")
    assert not names(folder, ".found")


def test_those_not_used_for_longest_go(folder, monkeypatch):
    monkeypatch.setattr(program_cache, "MOST_KEPT", 2)
    for number, (factor, name) in enumerate([(2.0, "two"), (3.0, "three")]):
        outcome(Lower(factor), name)
        for path in (*names(folder, ".program"), *names(folder, ".found")):
            os.utime(path, (number, number))
    outcome(Lower(2.0), "two")  # Used again, and so the younger one.
    outcome(Lower(4.0), "four")
    assert len(names(folder, ".program")) == len(names(folder, ".found")) == 2
    assert outcome(Lower(2.0), "two")[-1] == 0
    assert outcome(Lower(3.0), "three")[-1] == 1
