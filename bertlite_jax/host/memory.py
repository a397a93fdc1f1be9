"""How the C library manages the memory of this process."""

from __future__ import annotations

import ctypes
import os
import sys

# Names of <malloc.h> and <sys/mman.h>.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_MADV_HUGEPAGE = 14
_HUGE_PAGE = 2 << 20
_MOST_RESERVED = 16 << 30


def keep_freed_memory() -> bool:
    """Tells the C library to keep freed memory for the process, in large pages.

    On a CPU every training step allocates its temporary arrays anew, hundreds of megabytes. glibc maps and unmaps
    them, so that the system clears each small page again: a sixth of an ALBERT step on two cores. Memory that is kept
    is there at once; the process stays as large as its largest step. Large pages spare the processor's address cache
    another twentieth. Call it first: threads that exist already keep arenas of their own.

    What is reserved are addresses, in the heap that all threads share from then on; memory is used only where something
    is stored.

    Returns:
      Whether this was possible: only Linux with glibc has it.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    if not (libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, -1) and libc.mallopt(_ARENA_MAX, 1)):
        return False
    size = min(_MOST_RESERVED, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    place = libc.malloc(size)
    if place:
        start = -(-place // _HUGE_PAGE) * _HUGE_PAGE
        # A refusal (a kernel without large pages) changes nothing.
        libc.madvise(start, size - _HUGE_PAGE, _MADV_HUGEPAGE)
        libc.free(place)
    return True
