"""What JAX says where it cannot start as the environment asks, as one line."""

from __future__ import annotations

import os
import re
import traceback

_ASKED = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_NUM_CPU_DEVICES")
"""Variables that say on which devices to run."""
_OF_A_VARIABLE = re.compile("JAX flag|for environment|invalid literal")
"""Words of JAX where a variable of the environment has a value that it cannot read."""


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
