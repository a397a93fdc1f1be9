"""Annotations that hold: every call into the rooms below checks its arguments and its result, shapes included.

jaxtyping's import hook puts the check around functions and dataclasses as their files are imported, so this must be
installed before the package is. Users import the same files without it and pay nothing.
"""

import sys

import jaxtyping

CHECKED = ("bertlite_jax.model", "bertlite_jax.train", "bertlite_jax.data.rows")
"""Rooms whose signatures are checked; files inside them too."""
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
"""An int is good for a float, as static checkers see it."""


def install() -> None:
    """Checks the calls of what is imported from here on.

    Raises:
      RuntimeError: something of these rooms has been imported already, and would go unchecked.
    """
    early = sorted(name for name in sys.modules if name.startswith(CHECKED))
    if early:
        raise RuntimeError(f"imported before the type checks were installed: {', '.join(early)}")
    jaxtyping.install_import_hook(CHECKED, CHECKER)
