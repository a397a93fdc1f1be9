"""What JAX says where it cannot start as the environment asks, as one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback

from bertlite_jax.errors import UserError

_ASKED = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_NUM_CPU_DEVICES")
"""Variables that say on which devices to run."""
_OF_A_VARIABLE = re.compile("JAX flag|for environment|invalid literal")
"""Words of JAX where a variable of the environment has a value that it cannot read."""
_PARSE = "from jaxlib import xla_client; xla_client.CompileOptions().executable_build_options.debug_options"


def check_xla_flags() -> None:
    """Raises UserError where XLA would end this process over XLA_FLAGS, which no exception tells.

    Another process reads them first, in a tenth of a second and only where they are set: which flags there are, XLA
    alone knows, and it has no call that lists them. What it asks of their values only when it compiles is not found.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if not flags or "jax" in sys.modules:  # Within a process that uses JAX already, they have been read.
        return
    done = subprocess.run([sys.executable, "-c", _PARSE], capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode and (said := re.search(r"^[EF]\d+ .*?\] (.*)", done.stderr, re.M)):
        raise UserError(f"environment: XLA_FLAGS = {flags[:200]}: {said[1].rstrip('.')}; correct it, or unset it")


def line_of(error: BaseException) -> str | None:
    """What to print about an error in place of its traceback; None unless it is about the environment of JAX.

    It is if JAX raised it while it looked for the devices that the environment names, whatever the type of the error,
    or while it read the environment.
    """
    reason = (str(error) or "there is none").splitlines()[0][:200]
    for frame in traceback.extract_tb(error.__traceback__):
        folder, name = os.path.split(frame.filename)
        if not folder.endswith(os.path.join("jax", "_src")):
            continue
        asked = ", ".join(f"{variable} = {os.environ[variable]}" for variable in _ASKED if variable in os.environ)
        if name == "xla_bridge.py" and asked:
            return f"environment: {asked}: no such device for JAX here ({reason}); unset it, or name what is here"
        if name == "config.py" and isinstance(error, ValueError) and _OF_A_VARIABLE.search(reason):
            return f"environment: a variable JAX_... has a value that JAX cannot read: {reason}"
    return None
