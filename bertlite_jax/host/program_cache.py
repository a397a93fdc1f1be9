"""Compiled programs that outlive the process that compiled them."""

from __future__ import annotations

import hashlib
import os
import pathlib

import jax
import platformdirs

from bertlite_jax.host import cpu


def keep_programs() -> pathlib.Path | None:
    """Lets JAX keep what it compiles in the user's cache folder, so that a job's second start does not compile again.

    Only programs that took a second are kept. Each kind of CPU has a folder of its own: homes are shared by machines,
    and a program for one CPU may have instructions that another lacks. Nothing removes programs; deleting the folder is
    safe.

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
