"""The line below a benchmark's table that describes the machine."""

from __future__ import annotations

from typing import Any


def machine_line(on: dict[str, Any]) -> str:
    """CPU, cores, instruction sets, load, versions, and limits set in the environment.

    Args:
      on: {"cpu", "cores", "flags", "load", "python", "packages", "environment"}.
    """
    flags = " ".join(on["flags"]) or "no known flags"
    versions = ", ".join(f"{name} {version}" for name, version in on["packages"].items())
    limits = "".join(f"; {name}={value}" for name, value in on["environment"].items())
    return (
        f"{on['cpu']}, {on['cores']} cores ({flags}), load {on['load']:.1f} before; {versions}, Python {on['python']}"
        f"{limits}"
    )
