"""Weights as 8-bit integers with one scale for each channel: the container that runtimes' files are written from.

On CPUs without VNNI the product of u8 activations and s8 weights adds two neighbouring terms in 16 bits (VPMADDUBSW),
and 255 x 127 + 255 x 127 does not fit, while 255 x 128 = 32,640 does. The usual remedy is weights of 7 bits,
[-64, 63]. But it is enough that two neighbours of one sign have at most 128 steps together, and that is the default
here, called 7 bits: it is as safe on every CPU, and finer by half a bit, since two large weights are seldom
neighbours. Tables that are looked up and never multiplied have all 8 bits.

The file is safetensors: `NAME` (int8; of 4 bits uint8, two to a byte) and `NAME.scale` (f32) for a quantised tensor,
`NAME` (f32) for the others, and a JSON manifest in the metadata under `bertlite`. Every unique tensor is stored once,
with its number in the stack in its name (`layers/3/ffn/up/kernel`; for shared layers the number of the group), so that
a single layer can stay f32. The tied output table is not repeated.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from bertlite_jax.config import checks, files
from bertlite_jax.config.int8 import Bits
from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import (
    SUM_OF_DESCRIPTION,
    Sentence,
    Weights,
    check_description,
    check_readable,
    sum_of_description,
)
from bertlite_jax.convert.weights.packed import holds, pack, unpack
from bertlite_jax.convert.weights.parameters import Flat
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError, fields_close_to
from bertlite_jax.host import json_files
from bertlite_jax.host.whole_files import new_file
from bertlite_jax.model.ops.integer_grid import (
    MIDDLE,
    SMALLEST_STEP,
    TABLE_BITS,
    bits_of,
    quantize_weights,
    zero_after,
)

FILE = "model.int8.safetensors"
WORDS = "embeddings/word/embedding"
_FORMAT = "bertlite int8 2"
_FORMAT_OF_FOUR = "bertlite int4 1"
"""The same, with the integers of 4 bits packed (`packed.py`)."""
_KEY = "bertlite"
_SUM = "sha256"


@dataclasses.dataclass(frozen=True)
class Container:
    """Quantised weights.

    Attributes:
      model: the shape, as `Model.exported` has it.
      bits: of the kernels, as `integer_grid.bits_of` says.
      integers: int8 by stored name: `layers/3/ffn/up/kernel` [D, F], `pooler/kernel`, `embeddings/word/embedding`.
      scales: f32 by stored name; kernels [In, Out] have [Out], tables [V, E] have [V].
      floats: f32 by stored name: norms, biases, and the parts that were left out.
      head: of a task model.
      pair_task: what the pair head was trained on.
      sentence: how sentence vectors are made, as for `Weights`.
    """

    model: Model
    bits: Bits
    integers: Flat
    scales: Flat
    floats: Flat
    head: Head | None = None
    pair_task: str = "none"
    sentence: Sentence | None = None


# --- Stored names ----------------------------------------------------------------------------------------------------


def unstack(flat: Flat) -> Flat:
    """One array for each layer or group: `layers/ffn/up/kernel` [S, D, F] becomes `layers/0/ffn/up/kernel` [D, F].

    Pruned layers are like that already.
    """
    single: Flat = {}
    for path, value in flat.items():
        if path.startswith("layers/") and not _has_place(path):
            single |= {f"layers/{i}/{path.removeprefix('layers/')}": part for i, part in enumerate(value)}
        else:
            single[path] = value
    return single


def _has_place(path: str) -> bool:
    return path.split("/")[1].isdigit()


def stack(single: Flat, model: Model) -> Flat:
    """The inverse of `unstack`, for parameters of this shape."""
    if model.pruned:
        return single
    parts: dict[str, dict[int, np.ndarray]] = {}
    flat: Flat = {}
    for path, value in single.items():
        if path.startswith("layers/"):
            number, rest = path.removeprefix("layers/").split("/", 1)
            parts.setdefault(f"layers/{rest}", {})[int(number)] = value
        else:
            flat[path] = value
    return flat | {path: np.stack([group[i] for i in sorted(group)]) for path, group in parts.items()}


def belongs(path: str, name: str) -> bool:
    """Whether a stored tensor is part of `name`, such as `layers.3`, `layers/3/ffn/up`, `layers.ffn.up` or `pooler`."""
    wanted = name.replace(".", "/").strip("/") + "/"
    return f"{path}/".startswith(wanted) or f"{anywhere(path)}/".startswith(wanted)


def anywhere(path: str) -> str:
    """A stored name without its number: `layers/ffn/up` for `layers/3/ffn/up`."""
    first, *rest = path.split("/")
    return "/".join([first, *rest[1:]]) if first == "layers" else path


# --- Activations -----------------------------------------------------------------------------------------------------


def zero_point(path: str, activation: str) -> int:
    """The u8 number that represents 0 in all rows of a product (`integer_grid.zero_after`).

    Args:
      path: of the product, such as `layers/ffn/down`.
      activation: `Model.activation`.
    """
    return zero_after(activation) if path == "layers/ffn/down" else MIDDLE


def static_step(low: float, high: float) -> tuple[np.float32, int]:
    """Step and zero point with which u8 covers [low, high], widened to represent 0 exactly.

    Source: onnx/onnx:docs/Operators.md, DynamicQuantizeLinear.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    step = max((high - low) / 255, SMALLEST_STEP)
    return np.float32(step), int(np.clip(np.rint(-low / step), 0, 255))


# --- Numbers ---------------------------------------------------------------------------------------------------------


# The axis that shares a scale, by leaf: the inputs of a kernel, the columns of an embedding row. Others stay f32.
_AXES = {"kernel": -2, "embedding": -1}


def _leaf(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def quantize(weights: Weights, *, bits: Bits = 7, leave_out: tuple[str, ...] = ()) -> Container:
    """Kernels per output channel, embedding tables per row; norms, biases and low-rank pairs stay f32.

    Of weights that were trained for a file of integers, only the numbers of that file were trained to answer. Files of
    other bits, and parts that stay f32, are made of those (`as_trained`).

    Args:
      weights: a pretrained or a task model. Padded rows of the vocabulary are left out.
      bits: of the kernels, as `integer_grid.bits_of` says, and of the word table where the tied decoder multiplies with
        it. Other tables have 8.
      leave_out: parts that stay f32, as `belongs` reads them: `("pooler", "layers.ffn.down", "layers.11")`.

    Raises:
      UserError: a conditioned span head, values that are not finite, parameters that do not fit the model, or a name in
        `leave_out` that matches nothing.
    """
    parameters.refuse_conditioned(weights.head, "int8")
    if weights.trained_bits not in (0, bits):
        weights = as_trained(weights)
    flat = parameters.exported(weights.params, weights.model)
    model = weights.model.exported
    parameters.check_shapes(flat, model, "int8", weights.head)
    single = unstack(flat)
    parameters.check_finite(single, "int8")
    for name in leave_out:
        if not any(belongs(path, name) for path in single):
            known = fields_close_to(name, sorted({path.rsplit("/", 1)[0] for path in [*flat, *single]}))
            raise UserError(f"convert: int8: no parameter starts with {name}; {known}")
    integers, scales, floats = {}, {}, {}
    # A kernel that is multiplied with in both directions has no axis that could share scales; it is small.
    both_ways = "projection/kernel" if model.projects_words else ""
    for path, value in single.items():
        if _leaf(path) not in _AXES or path == both_ways or anywhere(path).startswith("layers/low_rank/"):
            floats[path] = np.asarray(value, np.float32)
        else:
            multiplied = is_multiplied(path, decodes="mlm" in weights.params)
            own_bits = bits_of(path, bits) if multiplied else TABLE_BITS
            integers[path], scales[path] = quantize_weights(value, _AXES[_leaf(path)], own_bits)
    for path in [path for path in integers if any(belongs(path, name) for name in leave_out)]:
        rounded = _times(path, integers.pop(path), scales.pop(path))
        floats[path] = rounded if weights.trained_bits else np.asarray(single[path], np.float32)
    return Container(model, bits, integers, scales, floats, weights.head, weights.pair_task, weights.sentence)


def is_multiplied(path: str, decodes: bool) -> bool:
    """Whether a stored tensor is used in a matrix product; of the tables only the tied decoder's is."""
    return _leaf(path) == "kernel" or (path == WORDS and decodes)


def restore(container: Container) -> dict[str, Any]:
    """Nested f32 parameters: integers times scales."""
    single = dict(container.floats)
    for path, integers in container.integers.items():
        single[path] = _times(path, integers, container.scales[path])
    return parameters.nest(stack(single, container.model))


def _times(path: str, integers: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Integers times their scales, f32."""
    return integers.astype(np.float32) * np.expand_dims(scales, _AXES[_leaf(path)])


def to_weights(container: Container, tokenizer: Tokenizer | None = None) -> Weights:
    """The container as f32 weights, for `to_hf`, ONNX and JAX. `quantised` in their `facts` is the number of bits."""
    return Weights(
        restore(container),
        container.model,
        container.head,
        tokenizer,
        container.pair_task,
        {"quantised": container.bits},
        container.sentence,
    )


def as_trained(weights: Weights) -> Weights:
    """What a float export holds: for weights that were trained for a file of integers, the values of that file."""
    if not weights.trained_bits:
        return weights
    return dataclasses.replace(
        weights,
        params=restore(quantize(weights, bits=weights.trained_bits)),
        model=weights.model.exported,
        trained_bits=0,
    )


def jax_params(container: Container) -> dict[str, Any]:
    """The parameters nested by stored name, for `model/int8_encoder.py`."""
    single: dict[str, Any] = container.floats | container.integers
    single |= {f"{path}_scale": scale for path, scale in container.scales.items()}
    for path, integers in container.integers.items():
        if _leaf(path) == "kernel":
            at = path.removesuffix("/kernel")
            zero = zero_point(anywhere(at), container.model.activation)
            single[f"{at}/zero"] = np.float32(zero)
            single[f"{at}/sums"] = ((128 - zero) * integers.sum(0, dtype=np.int64)).astype(np.int32)
    return parameters.nest(single)


def errors(weights: Weights, container: Container) -> dict[str, tuple[float, float]]:
    """The rounding errors of each quantised tensor, by stored name.

    Returns:
      (largest error relative to its channel's largest weight, root-mean-square error relative to the tensor's).
    """
    before = unstack(parameters.exported(weights.params, weights.model))
    after = unstack(parameters.flatten(restore(container)))
    relative = {}
    for path in container.integers:
        axis = _AXES[_leaf(path)]
        exact = before[path].astype(np.float64)
        off = np.abs(after[path] - exact)
        peak = np.abs(exact).max(axis)
        largest = off.max(axis) / np.where(peak > 0, peak, 1.0)
        norm = np.linalg.norm(exact)
        relative[path] = (float(largest.max()), float(np.linalg.norm(off) / norm) if norm else 0.0)
    return relative


# --- File ------------------------------------------------------------------------------------------------------------


def save(container: Container, path: os.PathLike[str] | str, *, overwrite: bool = False) -> int:
    """Writes the container to the file `path`, complete or not at all. Returns its size in bytes."""
    described = {
        name: {"axis": "row" if _leaf(name) == "embedding" else "output", "shape": list(value.shape)}
        | ({"packed": True} if _is_packed(name, value, container.bits) else {})
        for name, value in container.integers.items()
    }
    manifest = {
        "format": _FORMAT_OF_FOUR if container.bits == 4 else _FORMAT,
        "bits": container.bits,
        "model": dataclasses.asdict(container.model),
        "head": dataclasses.asdict(container.head) if container.head else None,
        "pair_task": container.pair_task,
        "sentence": dataclasses.asdict(container.sentence) if container.sentence else None,
        "quantized": described,
        "float32": sorted(container.floats),
    }
    scales = {f"{name}.scale": value for name, value in container.scales.items()}
    integers = {name: pack(v) if "packed" in described[name] else v for name, v in container.integers.items()}
    tensors = {name: np.ascontiguousarray(v) for name, v in (integers | scales | container.floats).items()}
    manifest[_SUM] = _digest(tensors)
    manifest[SUM_OF_DESCRIPTION] = sum_of_description(manifest)
    with new_file(path, overwrite) as temporary:
        safetensors.numpy.save_file(tensors, temporary, metadata={_KEY: json.dumps(manifest)})
    return os.path.getsize(path)


def _is_packed(name: str, integers: np.ndarray, bits: Bits) -> bool:
    return _leaf(name) == "kernel" and bits_of(name, bits) == 4 and integers.size % 2 == 0


def load(path: os.PathLike[str] | str) -> Container:
    """Reads what `save` wrote.

    Raises:
      UserError: the file is missing, damaged or of another format, or its tensors do not fit the manifest (all are
        listed).
    """
    path = pathlib.Path(path)
    check_readable(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise UserError(f"convert: {path} is damaged or no safetensors file: {error}") from error
    manifest = json_files.parse_object(metadata.get(_KEY, "{}"), str(path), "convert")
    if manifest.get("format") not in (_FORMAT, _FORMAT_OF_FOUR):
        raise UserError(f"convert: the format of {path} is not {_FORMAT}, which bertlite convert int8 writes")
    model = files.from_dict(Model, manifest["model"], str(path))
    checks.check_model(model)
    if model.residual_factor != 1:
        raise UserError(f"convert: {path}: model.residual_scale = {model.residual_scale} should be published")
    head = files.from_dict(Head, manifest["head"], str(path)) if manifest["head"] else None
    check_description(manifest, str(path))
    digest, tensors = _digest(tensors), _unpacked(tensors, manifest)
    _check_tensors(tensors, manifest, str(path))
    # Files of older versions have no sum.
    if manifest.get(_SUM, "") not in ("", digest):
        raise UserError(f"convert: {path} is damaged: the SHA-256 of its tensors is not the stated one; copy it again")
    integers = {name: tensors[name] for name in manifest["quantized"]}
    scales = {name: tensors[f"{name}.scale"] for name in manifest["quantized"]}
    floats = {name: tensors[name] for name in manifest["float32"]}
    parameters.check_shapes(stack(integers | floats, model), model, str(path), head)
    stated = manifest.get("sentence")
    sentence = files.from_dict(Sentence, stated, str(path)) if stated else None
    return Container(model, manifest["bits"], integers, scales, floats, head, manifest["pair_task"], sentence)


def _digest(tensors: Flat) -> str:
    """SHA-256 of the tensors' bytes in the order of their names."""
    digest = hashlib.sha256()
    for _, value in sorted(tensors.items()):
        digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()


def _unpacked(tensors: Flat, manifest: dict[str, Any]) -> Flat:
    """The tensors with an int8 for each integer. One that is not what its shape would be packed to stays as it is."""
    whole = dict(tensors)
    for name, stated in manifest["quantized"].items():
        if stated.get("packed") and name in tensors and holds(tensors[name], stated["shape"]):
            whole[name] = unpack(tensors[name], tuple(stated["shape"]))
    return whole


def _check_tensors(tensors: Flat, manifest: dict[str, Any], where: str) -> None:
    """Raises UserError unless every tensor of the manifest is present, of its type, with a scale for each channel."""
    quantized, floats = manifest["quantized"], manifest["float32"]
    wanted = {*quantized, *floats, *(f"{name}.scale" for name in quantized)}
    wrong = []
    for name in [name for name in quantized if {name, f"{name}.scale"} <= tensors.keys()]:
        integers, scale = tensors[name], tensors[f"{name}.scale"]
        channels = integers.shape[:-2] + integers.shape[-1:] if _leaf(name) == "kernel" else integers.shape[:-1]
        if integers.dtype != np.int8 or scale.shape != channels:
            wrong.append((f"{name}.scale", scale.shape, channels))
    parameters.raise_problems(where, sorted(wanted - tensors.keys()), sorted(tensors.keys() - wanted), wrong)
