"""Compiled programs that outlive the process that compiled them.

JAX's own cache (`keep_programs`) is asked with the program's text, and to write that text takes longer than to fetch
what it was compiled to: 4 of the 6 seconds in which ALBERT-base reaches its first step on two cores. `fetch` is asked
with what the program follows from, so that nothing is traced.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import logging
import os
import pathlib
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import platformdirs
from jax.experimental import serialize_executable

from bertlite_jax.host import cpu, whole_files

log = logging.getLogger(__name__)

PACKAGE = pathlib.Path(__file__).parents[1]
FOUND, PROGRAM = ".found", ".program"
MOST_KEPT = 100
"""Files of each kind in a folder; those that were not used for longest go."""


def keep_programs() -> pathlib.Path | None:
    """Lets JAX keep what it compiles in the user's cache folder, so that a job's second start does not compile again.

    Only programs that took a second are kept. Each kind of CPU has a folder of its own: homes are shared by machines,
    and a program for one CPU may have instructions that another lacks. JAX never removes a program; deleting the folder
    is safe.

    JAX's own settings take precedence: JAX_COMPILATION_CACHE_DIR names another folder, and
    JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.

    Returns:
      The folder; None where nothing is kept, or where it cannot be made.
    """
    if not jax.config.jax_enable_compilation_cache:  # type: ignore[attr-defined]
        return None
    if named := jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        return pathlib.Path(named)
    kind = hashlib.sha256(" ".join([cpu.name(), *sorted(cpu.flags())]).encode()).hexdigest()[:12]
    folder = pathlib.Path(platformdirs.user_cache_dir("bertlite_jax", appauthor=False)) / "programs" / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # A home that is not there or is read-only: such a machine compiles anew each time.
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def fetch(follows_from: str, devices: Sequence[Any], lower: Callable[[], jax.stages.Lowered]) -> jax.stages.Compiled:
    """The program that an earlier process compiled; without one, compiles it, and keeps it where that took a second.

    The folder is that of JAX's own cache. What lies there is run, so nobody else should be able to write to it. A file
    `.found` bears the name of what a program follows from, and holds that of a file `.program`, which is named after
    the program's text: a change of the code that does not reach the program does not compile it again.

    Args:
      follows_from: everything that the program is made of beside this package's code, the versions of its libraries and
        the settings of JAX and XLA, which are added here; empty: nothing is fetched or kept.
      devices: that the program runs on, in its order.
      lower: returns the program's text; called where the program is not found without it.
    """
    folder = _folder() if follows_from else None
    if folder is None:
        return lower().compile()
    surroundings = _surroundings(devices)
    found = folder / (_digest(surroundings, _code(), follows_from) + FOUND)
    if known := _read(found):
        name, trees = known
        if program := _load(folder / name, trees, devices):
            return program
    lowered = lower()
    trees = lowered.in_tree, lowered.out_tree
    path = folder / (_digest(surroundings, lowered.as_text()) + PROGRAM)
    program = _load(path, trees, devices)
    if program is None:
        before = time.perf_counter()
        program, whole = _compile(lowered)
        least = jax.config.jax_persistent_cache_min_compile_time_secs  # type: ignore[attr-defined]
        if not whole or time.perf_counter() - before < least:
            return program
        _write(path, serialize_executable.serialize(program)[0])
    _write(found, (path.name, trees))
    return program


def _folder() -> pathlib.Path | None:
    """Where programs are kept, on this machine's disk; None: nowhere, or there are several processes."""
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    caching = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    if not folder or not caching or jax.process_count() > 1 or not os.access(folder, os.W_OK):
        return None
    return pathlib.Path(folder)


# --- What names a program ----------------------------------------------------------------------------------------


def _surroundings(devices: Sequence[Any]) -> str:
    """What else a compiled program depends on than its text."""
    versions = [(name, importlib.metadata.version(name)) for name in ("jax", "jaxlib", "flax", "optax")]
    kinds = [(device.platform, device.device_kind, device.client.platform_version, device.id) for device in devices]
    flags = sorted((name, value) for name, value in os.environ.items() if name.startswith(("XLA_", "LIBTPU_")))
    settings = sorted((name, repr(value)) for name, value in jax.config.values.items())
    return repr((versions, kinds, flags, settings, cpu.name(), sorted(cpu.flags()), sorted(cpu.actual_flags())))


@functools.cache
def _code() -> str:
    """SHA-256 of this package's code."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _digest(*parts: str) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


# --- Programs and files ------------------------------------------------------------------------------------------


def _compile(lowered: jax.stages.Lowered) -> tuple[jax.stages.Compiled, bool]:
    """The compiled program, and whether it can be kept.

    What JAX fetched from its own cache cannot: jaxlib 0.10 to 0.12 leave out functions of it when it is written a
    second time, and running that ends in `Function .. not found`.
    """
    fetched: list[str] = []
    this_thread = threading.get_ident()

    def listen(event: str, **kwargs: object) -> None:
        if event == "/jax/compilation_cache/cache_hits" and threading.get_ident() == this_thread:
            fetched.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        return lowered.compile(), not fetched
    finally:
        jax.monitoring.unregister_event_listener(listen)


def _load(path: pathlib.Path, trees: tuple[Any, Any], devices: Sequence[Any]) -> jax.stages.Compiled | None:
    """The program whose arguments and results have these two structures; None where it is missing or not loadable."""
    payload = _read(path)
    if payload is None:
        return None
    client = devices[0].client
    try:
        program = serialize_executable.deserialize_and_load(payload, *trees, client, execution_devices=list(devices))
    except jax.errors.JaxRuntimeError as error:
        log.warning("%s cannot be loaded; compiling anew: %s", path, error)
        return None
    return program


def _read(path: pathlib.Path) -> Any:
    """What `_write` wrote; None where there is no such file, or a damaged one."""
    try:
        content = path.read_bytes()
        os.utime(path)
    except FileNotFoundError:  # Perhaps another process has just removed it.
        return None
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        log.warning("%s is damaged; compiling anew", path)
        return None
    return pickle.loads(content[32:])


def _write(path: pathlib.Path, value: Any) -> None:
    """Writes a file with the SHA-256 of its content before it, and removes the oldest of too many."""
    content = pickle.dumps(value)
    try:
        whole_files.write_bytes(path, hashlib.sha256(content).digest() + content)
        for old in sorted(path.parent.glob(f"*{path.suffix}"), key=_last_used)[:-MOST_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:  # A run goes on without it.
        log.warning("%s cannot be kept: %s", path, error)


def _last_used(path: pathlib.Path) -> float:
    """0 for a file that another process has just removed."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
