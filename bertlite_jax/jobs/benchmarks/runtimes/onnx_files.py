"""ONNX Runtime and OpenVINO, which read ONNX files in float32 and INT8."""

from __future__ import annotations

import functools
import logging
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.jobs.benchmarks.runtimes.process import Answer, Batch, Load
from bertlite_jax.jobs.benchmarks.runtimes.runtime import Prepare, Task, answer_of, task_of

Write = Callable[[Weights, pathlib.Path, list[Batch], pathlib.Path], None]
"""(weights, folder, calibration batches, file to write)."""


def prepare(kind: str, load: Callable[[str, Task, int], Answer]) -> Prepare:
    """`Runtime.prepare` for a kind of file in `WRITERS` and a function that loads it."""

    def prepare_kind(source: Weights, folder: pathlib.Path, texts: list[Batch]) -> tuple[pathlib.Path, Load]:
        path = folder / f"{kind}.onnx"
        if not path.is_file():
            WRITERS[kind](source, folder, texts, path)
        return path, functools.partial(load, str(path), task_of(source))

    return prepare_kind


def _output(source: Weights) -> Any:
    """The task's name in `build_onnx`."""
    task = task_of(source)
    return task if task in ("fill-mask", "states") else "auto"


def _write_float32(source: Weights, folder: pathlib.Path, texts: list[Batch], path: pathlib.Path) -> None:
    from bertlite_jax.convert.onnx.float32 import float32
    from bertlite_jax.convert.onnx.graph import save_onnx
    from bertlite_jax.convert.onnx.model import build_onnx

    save_onnx(build_onnx(source, float32(source), _output(source)), path)


def _write_integer(kind: str) -> Write:
    def write(source: Weights, folder: pathlib.Path, texts: list[Batch], path: pathlib.Path) -> None:
        from bertlite_jax.convert.int8 import calibrate
        from bertlite_jax.convert.onnx import integer
        from bertlite_jax.convert.onnx.graph import save_onnx
        from bertlite_jax.convert.onnx.model import build_onnx
        from bertlite_jax.convert.weights import quantized

        container = quantized.quantize(source)
        if kind == "static":
            arithmetic = integer.static(container, calibrate.ranges(source, texts, output=_output(source)))
        else:
            arithmetic = {"tensor": integer.per_tensor, "token": integer.per_token}[kind](container)
        save_onnx(build_onnx(quantized.to_weights(container), arithmetic, _output(source)), path)

    return write


def _write_stock(source: Weights, folder: pathlib.Path, texts: list[Batch], path: pathlib.Path) -> None:
    """Quantises our float32 file with ONNX Runtime's own tool and its defaults."""
    from onnxruntime.quantization import quantize_dynamic

    float32_path, _ = prepare("float32", load_onnxruntime)(source, folder, texts)
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # It advises to preprocess the graph first, which is not its default.
    try:
        quantize_dynamic(str(float32_path), str(path))
    finally:
        logging.disable(before)


WRITERS: dict[str, Write] = {
    "float32": _write_float32,
    "tensor": _write_integer("tensor"),
    "token": _write_integer("token"),
    "static": _write_integer("static"),
    "stock": _write_stock,
}


def load_onnxruntime(path: str, task: Task, threads: int) -> Answer:
    """A session whose threads do not spin while they wait, as in a process that does other work too."""
    from bertlite_jax.convert.onnx.session import open_session

    session = open_session(path, threads=threads)
    inputs = {value.name for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]

    def answer(batch: Batch) -> np.ndarray:
        values = session.run(outputs, {name: value for name, value in batch.items() if name in inputs})
        return answer_of(task, dict(zip(outputs, values, strict=True)))

    return answer


def load_openvino(path: str, task: Task, threads: int) -> Answer:
    """OpenVINO with its defaults: bfloat16 products where the CPU has AMX."""
    import openvino  # pyright: ignore[reportMissingImports]

    core = openvino.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(path, "CPU", settings)
    inputs = {value.get_any_name() for value in compiled.inputs}
    outputs = [value.get_any_name() for value in compiled.outputs]

    def answer(batch: Batch) -> np.ndarray:
        values = compiled({name: value for name, value in batch.items() if name in inputs})
        return answer_of(task, {name: values[name] for name in outputs})

    return answer
