"""The peer of `bertlite bench train --peer`: transformers' AlbertForPreTraining in PyTorch, on rows with padding.

It has a process of its own, so that threads and memory of the two libraries do not mix.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from bertlite_jax.config.model import SPECIAL_IDS, Model
from bertlite_jax.convert.huggingface.config import choose_family, to_config
from bertlite_jax.errors import UserError

INSTALL = "pip install torch transformers"
PATIENCE_SECONDS = 120
"""A step of ALBERT-base in bfloat16 on a CPU without instructions for it takes minutes, in float32 seconds."""
Batches = dict[int, list[dict[str, np.ndarray]]]
"""Row length to batches: input_ids, attention_mask, token_type_ids, labels (-100 where nothing is predicted), each
[B, L], and the pair labels [B] under the name that `label_of_pairs` gives; all int64."""
Run = Callable[[int, str, int], tuple[float, float, float]]
"""(row length, "float32" or "bfloat16", steps) -> wall seconds, CPU seconds and the last loss."""


def check_installed() -> None:
    """Raises UserError, with the command to install it, if PyTorch or transformers is missing."""
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"bench: --peer needs {name}; {INSTALL}")


@contextmanager
def start(model: Model, batches: Batches) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Starts the process; yields the function that trains in it, and its versions and threads.

    The function raises TimeoutError when the steps take more than `PATIENCE_SECONDS` each. The next call then gets a
    new process.
    """
    process, connection = _launch(model, batches)

    def run(length: int, precision: str, steps: int) -> tuple[float, float, float]:
        nonlocal process, connection
        connection.send((length, precision, steps))
        if connection.poll(steps * PATIENCE_SECONDS):
            return connection.recv()
        _end(process, connection)
        process, connection = _launch(model, batches)
        connection.recv()
        raise TimeoutError(f"no step in {PATIENCE_SECONDS} seconds")

    try:
        yield run, connection.recv()
        connection.send(None)
        process.join()
    finally:
        _end(process, connection)


def _end(process: Any, connection: Connection) -> None:
    """Ends the process at once, waits until it is gone, and closes our end of its pipe."""
    process.kill()
    process.join()
    connection.close()


def _launch(model: Model, batches: Batches) -> tuple[Any, Connection]:
    ours, theirs = multiprocessing.Pipe()
    # Not a fork, because JAX has threads.
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, model, batches), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _serve(connection: Connection, model: Model, batches: Batches) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch

        train = make_trainer(model)
        connection.send(
            {
                "torch": torch.__version__,
                "transformers": importlib.metadata.version("transformers"),
                "threads": torch.get_num_threads(),
                "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            }
        )
        while (request := connection.recv()) is not None:
            length, precision, steps = request
            wall, cpu = time.perf_counter(), time.process_time()
            losses = [train(batches[length][step % len(batches[length])], precision) for step in range(steps)]
            loss = float(losses[-1])
            connection.send((time.perf_counter() - wall, time.process_time() - cpu, loss))


def make_trainer(model: Model, device: str = "cpu", compiled: bool = False) -> Callable[[Mapping[str, Any], str], Any]:
    """Makes a network of the model's shape with random weights, without dropout and with SDPA, and its AdamW update.

    Args:
      model: the shape, one of transformers' AlbertForPreTraining or BertForPreTraining.
      device: PyTorch's name of the device, cpu or cuda.
      compiled: whether `torch.compile` compiles the forward and backward pass.

    Returns:
      `train(batch, precision)`, which makes an update. The loss that it returns stays on the device, so that nothing
      waits for it. A batch holds arrays, or tensors on the device.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    network: Any = transformers.AutoModelForPreTraining.from_config(
        transformers_config(model), attn_implementation="sdpa"
    )
    network = network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.01, fused=device != "cpu")
    forward = torch.compile(network) if compiled else network

    def train(batch: Mapping[str, Any], precision: str) -> Any:
        tensors = {name: torch.as_tensor(array, device=device) for name, array in batch.items()}
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = forward(**tensors).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return train


def transformers_config(model: Model) -> Any:
    """The shape as a config of transformers, without dropout."""
    import transformers

    plain = dataclasses.replace(model, hidden_dropout=0.0, attention_dropout=0.0)
    family = choose_family(plain)
    values: dict[str, Any] = to_config(plain, family, SPECIAL_IDS, "sop")
    values["classifier_dropout_prob"] = 0.0
    return transformers.AutoConfig.for_model(**values)


def label_of_pairs(model: Model) -> str:
    """The argument of the model's class in transformers that takes the pair labels."""
    return "sentence_order_label" if choose_family(model) == "albert" else "next_sentence_label"
