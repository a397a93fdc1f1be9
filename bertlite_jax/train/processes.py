"""Several processes, one run: how they find each other, and what the first one does for all.

Every process runs the same program. Each builds its own rows and computes on its own devices; only the first one
writes files and prints, and what it found on the disk decides for all.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from bertlite_jax.config import UserError


@contextlib.contextmanager
def joined(distributed: bool) -> Iterator[None]:
    """Inside, this process is one of the cluster's, and standard output is the first one's alone.

    Args:
      distributed: start `jax.distributed`, unless the caller has. JAX recognises Cloud TPU, Slurm, Open MPI and
        Kubernetes; elsewhere JAX_COORDINATOR_ADDRESS (HOST:PORT of the first process), JAX_NUM_PROCESSES and
        JAX_PROCESS_ID say who is who. Nothing may have used JAX before.

    Raises:
      UserError: neither a cluster nor the three variables.
    """
    if distributed and not jax.distributed.is_initialized():
        count, index = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
        try:
            jax.distributed.initialize(
                num_processes=int(count) if count else None, process_id=int(index) if index else None
            )
        except ValueError as error:
            raise UserError(
                f"config: run.distributed: {error} Outside of Cloud TPU, Slurm, MPI and Kubernetes set "
                "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
            ) from error
    with contextlib.ExitStack() as stack:
        if not is_first():
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        yield


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def first_decides(function: Callable[[], Any]) -> Any:
    """What `function` returns in the first process, in every process; the others do not call it, and wait.

    Args:
      function: its result is what JSON can hold.

    Raises:
      UserError: of the function, in every process.
    """
    if jax.process_count() == 1:
        return function()
    answer = b""
    if is_first():
        try:
            answer = json.dumps({"value": function()}).encode()
        except UserError as error:
            answer = json.dumps({"error": str(error)}).encode()
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(answer))))
    padded = np.frombuffer(answer.ljust(size, b" "), np.uint8)
    told = json.loads(np.asarray(multihost_utils.broadcast_one_to_all(padded), np.uint8).tobytes())
    if "error" in told:
        raise UserError(told["error"])
    return told["value"]
