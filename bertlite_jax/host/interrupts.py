"""Ctrl-C while modules are being imported: it waits until they are, since half an import cannot be undone.

An interrupt inside the start of a C extension becomes an ImportError. Inside a callback that must not fail, such as
JAX's for the garbage collector, Python would print it and go on: such a one is tried again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import types

AGAIN_SECONDS = 0.05
"""Time until a Ctrl-C that came during an import is tried again."""


def wait_for_imports() -> None:
    """From now on, Ctrl-C interrupts this process once no import is under way; a second one ends it at once.

    For the main thread of a command. Does nothing where Ctrl-C is ignored (`nohup`, background jobs of a shell) or has
    another handler.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    main_thread = threading.main_thread().ident
    waits = tries_again = False

    def try_again() -> None:
        nonlocal tries_again
        tries_again = True
        if main_thread is not None:
            signal.pthread_kill(main_thread, signal.SIGINT)

    def interrupt(number: int, frame: types.FrameType | None) -> None:
        nonlocal waits, tries_again
        is_new, tries_again = not tries_again, False
        if not is_importing(frame):
            waits = False
            signal.default_int_handler(number, frame)
        if waits and is_new:
            print("interrupted", file=sys.stderr, flush=True)
            os._exit(130)
        waits = True
        later()

    def later() -> None:
        timer = threading.Timer(AGAIN_SECONDS, try_again)
        timer.daemon = True
        timer.start()

    report_lost = sys.unraisablehook

    def lost(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            later()
        else:
            report_lost(unraisable)

    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = lost


def is_importing(frame: types.FrameType | None) -> bool:
    """Whether a module is being imported below this frame, in the same thread."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
