"""Runs ONNX files in ONNX Runtime; the only place that imports it."""

from __future__ import annotations

import collections
import importlib
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from bertlite_jax.errors import UserError

try:
    import onnxruntime
except ModuleNotFoundError as error:
    raise UserError("convert: running ONNX files needs the package onnxruntime; pip install onnxruntime") from error

_errors: Any = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")

Source = os.PathLike[str] | str | bytes


def open_session(
    source: Source, threads: int | None = None, optimized_to: os.PathLike[str] | str | None = None
) -> onnxruntime.InferenceSession:
    """A session on the CPU with all load-time optimisations.

    Between nodes, threads sleep instead of spinning, so that they do not slow down a second model on the same cores.

    Args:
      source: a file, or the bytes of one.
      threads: the most that one call may use; None: one for each core.
      optimized_to: file to write the optimised graph to. It is specific to this machine.

    Raises:
      UserError: the file does not exist or is damaged, or `optimized_to` cannot be written.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    if optimized_to is not None:
        options.optimized_model_filepath = os.fspath(optimized_to)
    model = source if isinstance(source, bytes) else os.fspath(source)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except (_errors.NoSuchFile, _errors.InvalidProtobuf, _errors.InvalidGraph) as error:
        what = "the model" if isinstance(source, bytes) else os.fspath(source)
        raise UserError(f"convert: {what} is missing, damaged or no ONNX file: {str(error).splitlines()[0]}") from error
    except _errors.Fail as error:
        if optimized_to is None or "save" not in str(error):
            raise
        raise UserError(
            f"convert: {os.fspath(optimized_to)} cannot be written; make room there, or name another folder with TMPDIR"
        ) from error


def run_session(session: onnxruntime.InferenceSession, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Outputs by name.

    Args:
      session: of the model.
      batch: inputs by name, of any integer dtype; entries that the model does not read are ignored.
    """
    wanted = [each.name for each in session.get_inputs()]
    values = session.run(None, {name: np.asarray(batch[name], np.int64) for name in wanted})
    return {each.name: np.asarray(value) for each, value in zip(session.get_outputs(), values, strict=True)}


def fused(source: Source) -> dict[str, int]:
    """Number of nodes of each operator after ONNX Runtime's load-time optimisations, most frequent first.

    Operators that ONNX lacks, such as BiasGelu, SkipLayerNormalization and FusedMatMul, are fusions of the runtime.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "optimized.onnx"
        open_session(source, threads=1, optimized_to=path)
        graph = onnx.load(path, load_external_data=False).graph
    return dict(collections.Counter(node.op_type for node in graph.node).most_common())
