"""All runtimes, in the order of the tables, and the choice among them.

Packages are imported inside functions, most of them in the runtime's own process (`process.py`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from bertlite_jax.errors import UserError, fields_close_to
from bertlite_jax.jobs.benchmarks.runtimes import onnx_files, ours, pytorch
from bertlite_jax.jobs.benchmarks.runtimes.onnx_files import load_onnxruntime, load_openvino
from bertlite_jax.jobs.benchmarks.runtimes.runtime import Runtime, Task

_TORCH = ("torch", "transformers")
_ORT = ("onnx", "onnxruntime")
_VINO = (*_ORT, "openvino")

STOCK = "onnx-int8-stock"

ALL: tuple[Runtime, ...] = (
    Runtime("torch-f32", "PyTorch float32", _TORCH, pytorch.float32),
    Runtime("torch-bf16", "PyTorch bfloat16", _TORCH, pytorch.bfloat16),
    Runtime("onnx-f32", "ONNX Runtime float32", _ORT, onnx_files.prepare("float32", load_onnxruntime)),
    Runtime("onnx-int8-tensor", "INT8, a scale a tensor", _ORT, onnx_files.prepare("tensor", load_onnxruntime)),
    Runtime("onnx-int8-token", "INT8, a scale a token", _ORT, onnx_files.prepare("token", load_onnxruntime)),
    Runtime("onnx-int8-static", "INT8, measured ranges", _ORT, onnx_files.prepare("static", load_onnxruntime)),
    Runtime(STOCK, "ORT's quantize_dynamic", _ORT, onnx_files.prepare("stock", load_onnxruntime)),
    Runtime("openvino", "OpenVINO, float32 file", _VINO, onnx_files.prepare("float32", load_openvino)),
    Runtime("openvino-int8", "OpenVINO, that static file", _VINO, onnx_files.prepare("static", load_openvino)),
    Runtime("jax-f32", "JAX float32", (), ours.prepare("float32")),
    Runtime("jax-auto", "JAX bfloat16 products", (), ours.prepare("auto")),
    Runtime("jax-int8", "JAX INT8, a scale a token", (), ours.prepare_int8),
)
"""The first one that takes part is what the others are compared with."""


def choose(
    only: Sequence[str] = (), auto_is_float32: bool = False, task: Task = "classify"
) -> tuple[list[Runtime], list[str]]:
    """The runtimes that take part, and a line for each that cannot.

    Args:
      only: names; empty: all.
      auto_is_float32: whether `auto` is float32 on this machine, so that jax-auto is jax-f32.
      task: what is answered.

    Raises:
      UserError: an unknown name.
    """
    known = {runtime.name: runtime for runtime in ALL}
    for name in only:
        if name not in known:
            raise UserError(f"bench: --only {name}: no such runtime; {fields_close_to(name, list(known))}")
    chosen, skipped = [], []
    for runtime in ALL:
        if only and runtime.name not in only:
            continue
        missing = [package for package in runtime.packages if importlib.util.find_spec(package) is None]
        if missing:
            skipped.append(f"{runtime.name} is skipped: pip install {' '.join(missing)}")
        elif runtime.name == "jax-auto" and auto_is_float32:
            skipped.append("jax-auto is skipped: on this machine it is the same as jax-f32")
        elif runtime.name == STOCK and task == "fill-mask":
            skipped.append(
                f"{STOCK} is skipped: quantize_dynamic transposes the decoder's table, which is also the embedding "
                "table, and ONNX Runtime cannot load the file"
            )
        else:
            chosen.append(runtime)
    return chosen, skipped
