"""When one process of several fails, all end soon and say why. Otherwise the others would wait in a reduction for ever.

A failure that Python sees is written into the key-value store of `jax.distributed`, where every process looks every
other second. A process that was killed, or whose host is gone, writes nothing there any more, and that is seen too.
The store lives in the first process. When that one dies, JAX ends the others itself, at once and with a report of its
own ("the JAX distributed service detected fatal errors").
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

import jax

from bertlite_jax.errors import Diverged, UserError

BEAT_SECONDS = 2.0
SILENT_SECONDS = 25.0
"""A process that has written nothing for this long is taken for dead. JAX's own heartbeats (see `processes`) notice it
later, and end the others by an abort with a stack trace."""
_LOST_PEER = re.compile(r"(?i)closed by peer|reset by peer|remote process exited|broken pipe")
"""What a collective may report (Gloo on CPUs, NCCL on GPUs) when a process on the other side ends; some only wait."""
_BEATS, _FAILURES = "bertlite/beat", "bertlite/failed"
_leaving = threading.Lock()


@contextlib.contextmanager
def watching() -> Iterator[None]:
    """Inside, this process ends when another one has failed or died. Does nothing where there is one process."""
    if jax.process_count() == 1:
        yield
        return
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(_client(), over), name="watch the other processes", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """Inside, an exception of this process ends the others too; with several processes this one ends at once.

    At once, because an orderly exit would wait for the others: Orbax for their part of a checkpoint, JAX for their
    shutdown. `Diverged` passes, as every process raises it at the same step.
    """
    try:
        yield
    except Diverged:
        raise
    except BaseException as error:
        if jax.process_count() == 1:
            raise
        if isinstance(error, (jax.errors.JaxRuntimeError, ValueError)) and _LOST_PEER.search(str(error)):
            time.sleep(SILENT_SECONDS + 3 * BEAT_SECONDS)  # It is a consequence: the watcher finds out of what.
        if isinstance(error, UserError):
            own = line = str(error)
        elif isinstance(error, KeyboardInterrupt):
            own = line = "interrupted"
        else:
            own, line = traceback.format_exc().rstrip(), f"{type(error).__name__}: {error}".split("\n")[0]
        code = 2 if isinstance(error, UserError) else 130 if isinstance(error, KeyboardInterrupt) else 1
        failure = json.dumps({"line": line, "code": code})
        _client().key_value_set(f"{_FAILURES}/{jax.process_index()}", failure, allow_overwrite=True)
        _leave(own, code)


def _client() -> Any:
    # JAX has no public way to its key-value store; Orbax takes this one too.
    from jax._src import distributed

    return distributed.global_state.client


def _watch(client: Any, over: threading.Event) -> None:
    """Reports that this process is alive and looks at the others, until `over` is set."""
    here, count = jax.process_index(), jax.process_count()
    heard = {process: ("", time.monotonic()) for process in range(count) if process != here}
    number = 0
    while not over.wait(BEAT_SECONDS):
        number += 1
        try:
            client.key_value_set(f"{_BEATS}/{here}", str(number), allow_overwrite=True)
            beats = _read(client, _BEATS)
            failures = _read(client, _FAILURES)
        except jax.errors.JaxRuntimeError:
            return  # The first process is gone, and JAX is ending this one.
        for process, text in failures.items():
            if process == here:  # Its own thread is about to tell it, in its own words.
                continue
            failure = json.loads(text)
            _leave(f"process {process} of {count} failed: {failure['line']}", failure["code"])
        now = time.monotonic()
        for process, (last, since) in heard.items():
            beat = beats.get(process, "")
            if beat != last:
                heard[process] = (beat, now)
            elif now - since > SILENT_SECONDS:
                _leave(
                    f"process {process} of {count} has not been heard of for {SILENT_SECONDS:.0f} seconds: it "
                    "was killed, or its host is gone; start all again, and the run goes on from its last checkpoint",
                    1,
                )


def _read(client: Any, folder: str) -> dict[int, str]:
    """What the processes have written there."""
    return {int(key.rpartition("/")[2]): value for key, value in client.key_value_dir_get(folder)}


def _leave(line: str, code: int) -> NoReturn:
    """Ends this process; of two threads that want to, the second one waits for the end."""
    _leaving.acquire()
    sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)
    if jax.process_index() == 0:
        time.sleep(2 * BEAT_SECONDS)  # The others read the reason here.
    os._exit(code)
