"""The other side of `bertlite bench train --peer`: transformers' AlbertForPreTraining in PyTorch, training on rows with
padding. It lives in a process of its own, so that neither library's threads or memory touch the other's.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from bertlite_jax.config.model import Model
from bertlite_jax.errors import UserError

INSTALL = "pip install torch transformers"
Batches = dict[int, list[dict[str, np.ndarray]]]
"""By length: batches of input_ids, attention_mask, token_type_ids, labels (-100 where nothing is predicted), each
[B, L], and sentence_order_label [B]; int64."""
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

        train = _trainer(model)
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
            connection.send((time.perf_counter() - wall, time.process_time() - cpu, losses[-1]))


def _trainer(model: Model) -> Any:
    """`train(batch, precision) -> loss`: one AdamW update of a fresh AlbertForPreTraining of the model's shape."""
    import torch
    from transformers import AlbertConfig, AlbertForPreTraining

    torch.manual_seed(0)
    network = AlbertForPreTraining(
        AlbertConfig(
            vocab_size=model.vocab_size,
            embedding_size=model.embed_size,
            hidden_size=model.hidden_size,
            num_hidden_layers=model.num_layers,
            num_attention_heads=model.num_heads,
            intermediate_size=model.ffn_size,
            max_position_embeddings=model.max_positions,
            hidden_act="gelu_new",
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            classifier_dropout_prob=0.0,
        )
    ).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.01)

    def train(batch: dict[str, np.ndarray], precision: str) -> float:
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = network(**tensors).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return train
