"""Our own model in JAX: float32, the arithmetic that fits this machine, and INT8."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import FILE, Weights, load_weights, save_weights
from bertlite_jax.jobs.benchmarks.runtimes.process import Answer, Batch, Load
from bertlite_jax.jobs.benchmarks.runtimes.runtime import CHOICES, Prepare, Task, task_of


def prepare(compute: Literal["auto", "float32"]) -> Prepare:
    """`Runtime.prepare` for products in the given precision."""

    def prepare_compute(source: Weights, folder: pathlib.Path, texts: list[Batch]) -> tuple[pathlib.Path, Load]:
        ours = folder / "ours"
        if not ours.is_dir():
            save_weights(dataclasses.replace(source, tokenizer=None), ours)
        return ours / FILE, functools.partial(load, str(ours), task_of(source), compute)

    return prepare_compute


def load(folder: str, task: Task, compute: Literal["auto", "float32"], threads: int) -> Answer:
    """Our model, compiled once for each shape of a batch."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # Before jax is imported. All runtimes answer on the CPU.
    import jax

    from bertlite_jax.model.ops import choose_precision

    source = load_weights(pathlib.Path(folder))
    params = jax.device_put(source.params)
    forward = jax.jit(_make_forward(source, task, choose_precision.resolve(compute, "cpu")))
    return lambda batch: np.asarray(forward(params, _inputs(batch)))


def prepare_int8(source: Weights, folder: pathlib.Path, texts: list[Batch]) -> tuple[pathlib.Path, Load]:
    """Quantises the weights, with a scale for each token's activations. See `Runtime.prepare`."""
    from bertlite_jax.convert.weights import quantized

    path = folder / quantized.FILE
    if not path.is_file():
        quantized.save(quantized.quantize(source), path)
    return path, functools.partial(load_int8, str(path), task_of(source))


def load_int8(path: str, task: Task, threads: int) -> Answer:
    """Our forward pass in integers, compiled once for each shape of a batch."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    from bertlite_jax.convert.weights import quantized
    from bertlite_jax.model import int8_encoder

    container = quantized.load(path)
    params = jax.device_put(quantized.jax_params(container))

    @jax.jit
    def forward(params: Any, inputs: tuple[Any, ...]) -> Any:
        tokens, mask, _, types = inputs
        outputs = int8_encoder.answer(params, container.model, container.head, tokens, mask, types)
        if task == "states":
            return outputs["last_hidden_state"]
        logits = outputs["logits"]
        if task == "choose":
            return logits.reshape(-1, CHOICES)
        return logits.swapaxes(1, 2) if task == "span" else logits

    return lambda batch: np.asarray(forward(params, _inputs(batch)))


def _inputs(batch: Batch) -> tuple[np.ndarray, ...]:
    """Tokens, segments, positions and token types, [B, L] int32; each text to choose from is a row."""
    tokens, mask, types = (
        batch[name].reshape(-1, batch[name].shape[-1]).astype(np.int32)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    positions = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    return tokens, mask, positions, types


def _make_forward(source: Weights, task: Task, compute: Any) -> Callable[[Any, tuple[Any, ...]], Any]:
    """Returns `forward(params, inputs)`, which gives the task's answer."""
    import jax.numpy as jnp

    from bertlite_jax.model.encoder import Encoder
    from bertlite_jax.model.heads import PretrainingModel
    from bertlite_jax.model.task_heads import TaskModel

    def forward(params: Any, inputs: tuple[Any, ...]) -> Any:
        tokens, _, positions, _ = inputs
        cls = jnp.zeros((len(tokens), 1), jnp.int32)
        if source.head:
            logits = TaskModel(source.model, source.head, compute).apply({"params": params}, *inputs, cls)
            return _head_answer(logits, source.head)
        if task == "states":
            encoder = {name: value for name, value in params.items() if name not in parameters.OPTIONAL_PARTS}
            return jnp.asarray(Encoder(source.model, compute).apply({"params": encoder}, *inputs), jnp.float32)
        model = dataclasses.replace(source.model, pair_classes=0, pooler=False)
        params = {name: value for name, value in params.items() if name not in ("pair", "pooler")}
        logits: Any = PretrainingModel(model, compute).apply({"params": params}, *inputs, cls, positions)
        return logits[0][..., : model.vocab_size]

    return forward


def _head_answer(logits: Any, head: Head) -> Any:
    """`TaskModel`'s logits in the shape of an `Answer`."""
    if head.kind == "classify":
        return logits[:, 0]
    if head.kind == "choose":
        return logits.reshape(-1, CHOICES)
    return logits.swapaxes(1, 2) if head.kind == "span" else logits
