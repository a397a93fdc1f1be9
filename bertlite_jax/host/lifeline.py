"""`python -m bertlite_jax.host.lifeline JOB ...` is `bertlite JOB ...` in a process that ends when its starter is gone.

Its standard input is a pipe of which the starter holds the other end, and never writes. However the starter ends, the
system closes that end: then this process gets a SIGTERM, which a job that trains answers by saving and ending.
"""

import os
import runpy
import signal
import threading


def _wait_for_the_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_wait_for_the_end_of_input, name="lifeline", daemon=True).start()
    runpy.run_module("bertlite_jax", run_name="__main__", alter_sys=True)
