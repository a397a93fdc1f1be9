"""Where compiled programs are kept, and that a second process finds them."""

import os
import pathlib
import subprocess
import sys

import pytest

from bertlite_jax.host import cpu

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


def test_jaxs_own_settings_go_first(tmp_path):
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "named"))[0] == str(tmp_path / "named")
    assert run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false") == ["None", "False"]
    assert not (tmp_path / "bertlite_jax").exists()


def test_without_a_home_nothing_is_kept(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file") == ["None", "False"]


def test_another_kind_of_cpu_has_another_folder(tmp_path, monkeypatch):
    from bertlite_jax.host import program_cache

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
