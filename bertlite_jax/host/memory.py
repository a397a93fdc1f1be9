"""The memory of this process: how much there can be, and how the C library manages it."""

from __future__ import annotations

import ctypes
import os
import pathlib
import resource
import sys

# Names of <malloc.h> and <sys/mman.h>.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_MADV_HUGEPAGE = 14
_HUGE_PAGE = 2 << 20
_MOST_RESERVED = 16 << 30
_OWN_GROUPS, _CONTROL_GROUPS = pathlib.Path("/proc/self/cgroup"), pathlib.Path("/sys/fs/cgroup")


def most_bytes() -> int | None:
    """Bytes of memory that this process can have at most; None where the system does not say.

    The least of: the machine's memory without swap, what its control group (a container, a job of a cluster) may use,
    and `ulimit -v`.
    """
    limits = [*_control_group_limits(), resource.getrlimit(resource.RLIMIT_AS)[0]]
    if "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    known = [limit for limit in limits if limit > 0 and limit != resource.RLIM_INFINITY]
    return min(known, default=None)


def _control_group_limits() -> list[int]:
    """Limits of the group of this process and of those around it, in both versions of Linux' control groups."""
    try:
        text = _OWN_GROUPS.read_text(encoding="utf-8", errors="replace")
    except OSError:  # Not Linux, or /proc is hidden.
        return []
    files = []
    for line in text.splitlines():
        controllers, _, group = line.partition(":")[2].partition(":")
        if "memory" in controllers.split(","):
            top, name = _CONTROL_GROUPS / "memory", "memory.limit_in_bytes"
        elif not controllers and group:
            top, name = _CONTROL_GROUPS, "memory.max"
        else:
            continue
        place = top / os.path.normpath(group).lstrip("/")
        files += [folder / name for folder in (place, *place.parents) if folder.is_relative_to(top)]
    return [limit for file in files if (limit := _number_in(file)) is not None]


def _number_in(file: pathlib.Path) -> int | None:
    """The number in a file; None where it is missing or says `max`."""
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


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
