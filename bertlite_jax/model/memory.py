"""Memory of the host process, as the C library hands it out."""

from __future__ import annotations

import ctypes
import sys

# Names of <malloc.h>.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Tells the C library to keep freed memory instead of giving it back to the system; whether it could be told.

    On a CPU every training step allocates its temporary arrays anew, hundreds of megabytes. glibc maps and unmaps
    them, and the system clears each page again: a fifth of an ALBERT step on two cores. Kept, they are there at once;
    the process stays as large as its largest step. Call it before the first step. Only Linux with glibc has it.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
