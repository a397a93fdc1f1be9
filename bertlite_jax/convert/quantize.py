"""Weights as 8-bit integers with one scale a channel: the container that runtimes' files are written from.

The default range is 7 bits, [-64, 63]. On CPUs without VNNI the product of u8 activations and s8 weights adds two
terms in 16 bits, and 2 x 255 x 127 does not fit, where 2 x 255 x 64 = 32,640 does.

The file is safetensors: `NAME` (int8) and `NAME.scale` (f32) for a quantised tensor, `NAME` (f32) for the others, and
a JSON manifest in the metadata under `bertlite`. Every unique tensor stands once: shared layers are stored by group
and the tied output table not at all.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.numpy

from bertlite_jax import config as settings
from bertlite_jax import config_files
from bertlite_jax.config import Model, UserError
from bertlite_jax.convert import parameters
from bertlite_jax.convert.folders import new_file
from bertlite_jax.convert.parameters import Flat

FILE = "model.int8.safetensors"
_FORMAT = "bertlite int8 1"
_KEY = "bertlite"


@dataclasses.dataclass(frozen=True)
class Container:
    """Quantised weights.

    Attributes:
      model: the shape, vocabulary trimmed.
      bits: 7 or 8.
      integers: int8 by flat name, in the shapes of `parameters.shapes`.
      scales: f32 by flat name; kernels [S, D, F] have [S, F] and [D, F] have [F], tables [V, E] have [V].
      floats: f32 by flat name: norms, biases, and what was left out.
    """

    model: Model
    bits: int
    integers: Flat
    scales: Flat
    floats: Flat


# --- Numbers ---------------------------------------------------------------------------------------------------------


# The axis that a scale spans, by leaf: the inputs of a kernel, the columns of an embedding row. Others stay f32.
_AXES = {"kernel": -2, "embedding": -1}


def _leaf(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def quantize_tensor(values: np.ndarray, axis: int, bits: Literal[7, 8]) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric rounding with one scale for each slice along `axis`.

    The scale is the smallest for which nothing is clipped, max(max / 63, -min / 64) for 7 bits, so the error of a
    value is at most half a scale.

    Args:
      values: float, any shape, finite.
      axis: the axis that shares a scale.
      bits: 7 for [-64, 63], 8 for [-128, 127].

    Returns:
      int8 in the shape of `values`, and f32 scales, `axis` removed. A slice of zeros has scale 1.
    """
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    wide = values.astype(np.float64)
    scale = np.maximum(wide.max(axis) / high, wide.min(axis) / low)
    # A slice of denormal numbers would have a scale that underflows in f32.
    scale = np.where(scale > 0, np.maximum(scale, np.finfo(np.float32).tiny), 1.0).astype(np.float32)
    rounded = np.rint(wide / np.expand_dims(scale.astype(np.float64), axis))
    return np.clip(rounded, low, high).astype(np.int8), scale


def quantize(params: dict[str, Any], model: Model, *, bits: Literal[7, 8] = 7, keep: tuple[str, ...] = ()) -> Container:
    """Kernels per output channel, embedding tables per row; norms and biases stay f32.

    Args:
      params: nested parameters of the pretraining model; heads may be missing.
      model: their shape. Padded rows of the vocabulary are left out.
      bits: 7 or 8.
      keep: parts that stay f32, by the start of their name: `("pooler", "pair", "layers/ffn/down")`.

    Raises:
      UserError: values that are not finite, parameters that do not fit the model, a name in `keep` that fits nothing.
    """
    flat = parameters.trim_vocabulary(parameters.flatten(params), model)
    model = dataclasses.replace(model, vocab_multiple=1)
    parameters.check_shapes(flat, model, "int8")
    broken = [path for path, value in flat.items() if not np.isfinite(value).all()]
    if broken:
        raise UserError(f"convert: int8: not finite: {', '.join(broken)}")
    for name in keep:
        if not any(_starts(path, name) for path in flat):
            raise UserError(
                f"convert: int8: no parameter starts with {name}; {settings.fields_close_to(name, [*flat])}"
            )
    integers, scales, floats = {}, {}, {}
    for path, value in flat.items():
        if _leaf(path) not in _AXES or any(_starts(path, name) for name in keep):
            floats[path] = np.asarray(value, np.float32)
        else:
            integers[path], scales[path] = quantize_tensor(value, _AXES[_leaf(path)], bits)
    return Container(model, bits, integers, scales, floats)


def _starts(path: str, name: str) -> bool:
    return f"{path}/".startswith(f"{name.rstrip('/')}/")


def restore(container: Container) -> dict[str, Any]:
    """Nested f32 parameters: integers times scales, exact in f32 products."""
    flat = dict(container.floats)
    for path, integers in container.integers.items():
        flat[path] = integers.astype(np.float32) * np.expand_dims(container.scales[path], _AXES[_leaf(path)])
    return parameters.nest(flat)


def errors(params: dict[str, Any], container: Container) -> dict[str, tuple[float, float]]:
    """How far each quantised tensor is off, by flat name.

    Returns:
      (largest error relative to its channel's largest weight, root-mean-square error relative to the tensor's).
    """
    before = parameters.trim_vocabulary(parameters.flatten(params), container.model)
    after = parameters.flatten(restore(container))
    found = {}
    for path in container.integers:
        axis = _AXES[_leaf(path)]
        exact = before[path].astype(np.float64)
        off = np.abs(after[path] - exact)
        peak = np.abs(exact).max(axis)
        largest = off.max(axis) / np.where(peak > 0, peak, 1.0)
        norm = np.linalg.norm(exact)
        found[path] = (float(largest.max()), float(np.linalg.norm(off) / norm) if norm else 0.0)
    return found


# --- File ------------------------------------------------------------------------------------------------------------


def save(container: Container, path: os.PathLike[str] | str, *, overwrite: bool = False) -> int:
    """Writes the container to the file `path`, complete or not at all. Returns its size in bytes."""
    described = {
        name: {"axis": "row" if name.endswith("embedding") else "output", "shape": list(value.shape)}
        for name, value in container.integers.items()
    }
    manifest = {
        "format": _FORMAT,
        "bits": container.bits,
        "model": dataclasses.asdict(container.model),
        "quantized": described,
        "float32": sorted(container.floats),
    }
    scales = {f"{name}.scale": value for name, value in container.scales.items()}
    tensors = {name: np.ascontiguousarray(v) for name, v in (container.integers | scales | container.floats).items()}
    with new_file(path, overwrite) as temporary:
        safetensors.numpy.save_file(tensors, temporary, metadata={_KEY: json.dumps(manifest)})
    return os.path.getsize(path)


def load(path: os.PathLike[str] | str) -> Container:
    """Reads what `save` wrote.

    Raises:
      UserError: missing, damaged, or another kind of file.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"convert: {path} does not exist")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise UserError(f"convert: {path} is damaged or no safetensors file: {error}") from error
    if _KEY not in metadata or json.loads(metadata[_KEY]).get("format") != _FORMAT:
        raise UserError(f"convert: {path} is not of the format {_FORMAT}; convert.py int8 writes it")
    manifest = json.loads(metadata[_KEY])
    model = config_files.from_dict(Model, manifest["model"], str(path))
    integers = {name: tensors[name] for name in manifest["quantized"]}
    scales = {name: tensors[f"{name}.scale"] for name in manifest["quantized"]}
    return Container(model, manifest["bits"], integers, scales, {name: tensors[name] for name in manifest["float32"]})


def dequantize(path: os.PathLike[str] | str) -> dict[str, Any]:
    """Nested f32 parameters from a file that `save` wrote; the shape is `load(path).model`."""
    return restore(load(path))
