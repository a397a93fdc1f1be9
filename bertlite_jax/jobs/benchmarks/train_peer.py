"""The other side of `bertlite bench train --peer`: transformers' AlbertForPreTraining in PyTorch, training on rows with
padding. It lives in a process of its own, so that neither library's threads or memory touch the other's.
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
Batches = dict[int, list[dict[str, np.ndarray]]]
"""By length: batches of input_ids, attention_mask, token_type_ids, labels (-100 where nothing is predicted), each
[B, L], and the labels of pairs [B], as `label_of_pairs` names them; int64."""
Run = Callable[[int, str, int], tuple[float, float, float]]
"""(length, float32 or bfloat16, steps) -> wall seconds, CPU seconds, the last loss."""


def check_installed() -> None:
    """Raises UserError, with the command to install it, where PyTorch or transformers is missing."""
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"bench: --peer needs {name}; {INSTALL}")


@contextmanager
def start(model: Model, batches: Batches) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Starts the process; gives what trains in it and its versions and threads; ends it with the context."""
    ours, theirs = multiprocessing.Pipe()
    # Not a fork: JAX has threads.
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, model, batches), daemon=True)
    process.start()
    theirs.close()

    def run(length: int, precision: str, steps: int) -> tuple[float, float, float]:
        ours.send((length, precision, steps))
        return ours.recv()

    try:
        yield run, ours.recv()
        ours.send(None)
        process.join()
    finally:
        process.kill()


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
    """Gives an AdamW update of a fresh network of the model's shape, without dropout, with SDPA for attention.

    Args:
      model: the shape; transformers' AlbertForPreTraining or BertForPreTraining has it.
      device: as PyTorch calls it, cpu or cuda.
      compiled: the forward and backward pass through `torch.compile`.

    Returns:
      `train(batch, precision)`, whose loss stays on the device, so that nothing waits for it. A batch holds arrays,
      or tensors that lie on the device already.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    network: Any = transformers.AutoModelForPreTraining.from_config(_config(model), attn_implementation="sdpa")
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


def _config(model: Model) -> Any:
    """Transformers' config of the shape, without dropout."""
    import transformers

    plain = dataclasses.replace(model, hidden_dropout=0.0, attention_dropout=0.0)
    family = choose_family(plain)
    values: dict[str, Any] = to_config(plain, family, SPECIAL_IDS, "sop")
    values["classifier_dropout_prob"] = 0.0
    return transformers.AutoConfig.for_model(**values)


def label_of_pairs(model: Model) -> str:
    """What the class of the model's shape calls the labels of its pair head."""
    return "sentence_order_label" if choose_family(model) == "albert" else "next_sentence_label"
