"""Several processes, one run: how they find each other, and what the first one does for all.

Every process runs the same program. Each builds its own rows and computes on its own devices; only the first one
writes files and prints, and what it found on the disk decides for all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from bertlite_jax.config import files
from bertlite_jax.errors import UserError
from bertlite_jax.train import process_failures, process_start


@contextlib.contextmanager
def joined(distributed: bool) -> Iterator[None]:
    """Inside, this process is one of the cluster's, and standard output is the first one's alone.

    All leave together. When one fails or dies, the others end too (`process_failures`).

    Args:
      distributed: start `jax.distributed`, unless the caller has, also where `is_called_for` does not see that several
        processes were started. JAX recognises Cloud TPU, Slurm, Open MPI and Kubernetes; elsewhere
        JAX_COORDINATOR_ADDRESS (HOST:PORT of the first process), JAX_NUM_PROCESSES and JAX_PROCESS_ID do.
        Nothing may have used JAX before.

    Raises:
      UserError: neither a cluster nor the three variables, or a slice of several hosts without `distributed`.
    """
    with contextlib.ExitStack() as stack:
        if (distributed or is_called_for(os.environ)) and not jax.distributed.is_initialized():
            stack.enter_context(process_start.initialized())
        if jax.process_count() > 1 and not jax.distributed.is_initialized():
            raise UserError(
                f"config: run.distributed: this is one of {jax.process_count()} processes of a slice; "
                "pass --run.distributed in all of them"
            )
        if not is_first():
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(process_failures.watching())
        stack.enter_context(process_failures.telling())
        yield
        multihost_utils.sync_global_devices("the end of the job")  # The first one may still be writing.


def is_called_for(environment: Mapping[str, str]) -> bool:
    """Whether the environment says that this process is one of several.

    It does with JAX_COORDINATOR_ADDRESS, and where a TPU's names several hosts or slices, as Kubernetes engines do. On
    bare TPU machines it says nothing, and Slurm's and MPI's variables are there for a single process too.
    """
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES", "")
    slices = environment.get("MEGASCALE_NUM_SLICES", "1")
    return bool(environment.get("JAX_COORDINATOR_ADDRESS")) or "," in hosts or slices not in ("", "1")


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


OF_EACH_PROCESS = ("data.corpus", "data.tokenizer", "data.read_threads", "run.distributed")
"""Fields that may differ: how many threads read, and where the host keeps its copies."""


def check_same_config(config: Any) -> None:
    """Raises UserError in a process that was started with another config than the first one.

    It would compute updates of its own, or wait at other steps than the others.
    """
    told = first_decides(lambda: dataclasses.asdict(config))
    first = files.from_dict(type(config), told, "the first process")
    lines = [line for line in files.differences(first, config) if line.partition(":")[0] not in OF_EACH_PROCESS]
    if lines:
        raise UserError(f"config: not that of the first process: {'; '.join(lines)}; start all with the same command")
