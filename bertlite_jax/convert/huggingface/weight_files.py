"""The tensors of a folder of `transformers`: safetensors, PyTorch's own files or Flax's, whole or in shards.

PyTorch's files are pickles, which can contain any program. They are only read with `weights_only=True`, which builds
tensors and calls nothing else.
"""

from __future__ import annotations

import pathlib
import pickle
import re
import warnings
from typing import Any

# Without this import numpy does not know bfloat16, and safetensors cannot read such a tensor.
import ml_dtypes  # noqa: F401
import numpy as np
import safetensors

from bertlite_jax.convert.huggingface import flax_file
from bertlite_jax.convert.weights.folder import read_json
from bertlite_jax.convert.weights.parameters import Flat, is_float
from bertlite_jax.errors import UserError

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"
_READABLE = ("F64", "F32", "F16", "BF16", "I64", "I32", "BOOL")
_POINTER = b"version https://git-lfs"
KERAS = "tf_model.h5"
# Older versions run code from a crafted file in spite of weights_only (CVE-2025-32434).
_SAFE_TORCH = (2, 6)
_LONGEST_NAME_BYTES = 255
_LONGEST_SHOWN = 100
# Training loops put the weights beside their counters and the optimiser under one of these keys.
_TABLES = ("state_dict", "model_state_dict", "model")


def read_tensors(folder: pathlib.Path) -> Flat:
    """All tensors of a folder by their names there, as numpy arrays; every float is float32.

    Reads the first of these that exists: model.safetensors; pytorch_model.bin (needs torch); flax_model.msgpack; or the
    index of one of them with its shards. Tensors of Flax get the names and the orientation that PyTorch's have.

    Args:
      folder: as `save_pretrained` of any version writes it.

    Returns:
      Floats of 16 and 64 bits as f32; integers and booleans unchanged.

    Raises:
      UserError: none of these files, a damaged one, a Git LFS pointer in place of one, a pickle with code in it (which
        is not run), an index that does not fit its shards, a number format that cannot be read, or torch is missing.
    """
    folder = pathlib.Path(folder)
    for name, read in ((SAFETENSORS, _read_safetensors), (PICKLE, _read_pickle), (flax_file.FILE, _read_flax)):
        if (folder / name).is_file():
            return _floats_to_f32(read(folder / name))
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _floats_to_f32(_read_shards(index, read))
    if (folder / KERAS).is_file():
        raise UserError(
            f"convert: {folder} has its weights in {KERAS} alone, which cannot be read; save them once more from "
            "transformers 4: AutoModel.from_pretrained(FOLDER, from_tf=True).save_pretrained(OUT)"
        )
    raise UserError(
        f"convert: {folder} has neither {SAFETENSORS} nor {PICKLE} nor {flax_file.FILE}, nor an index of one of them; "
        f"{_way_out(folder)}"
    )


def _way_out(folder: pathlib.Path) -> str:
    """What to do where the weights have another name, or are not there."""
    if (folder / "adapter_model.safetensors").is_file():
        return "adapter_model.safetensors changes another model's weights: save model.merge_and_unload()"
    for ending, usual in (
        ("safetensors", SAFETENSORS),
        ("bin", PICKLE),
        ("pt", PICKLE),
        ("pth", PICKLE),
        ("ckpt", PICKLE),
    ):
        found = sorted(folder.glob(f"*.{ending}"))
        if len(found) == 1:
            return f"if {found[0].name} holds them, rename it to {usual}"
    return "save the model with save_pretrained"


def _floats_to_f32(tensors: Flat) -> Flat:
    return {name: value.astype(np.float32, copy=False) if is_float(value) else value for name, value in tensors.items()}


# --- Shards ----------------------------------------------------------------------------------------------------------


def _read_shards(index: pathlib.Path, read: Any) -> Flat:
    """The tensors that an index lists, from the files beside it."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(f, str) for f in weight_map.values()):
        raise UserError(f"convert: {index}: no weight_map from tensors to files; is it the index of a sharded model?")
    files = sorted(set(weight_map.values()))
    # The name decides and not the target of a link: a download cache is full of links to other folders.
    outside = [file for file in files if not _is_plain_name(file)]
    if outside:
        shown = outside[0] if len(outside[0]) < _LONGEST_SHOWN else f"{outside[0][:_LONGEST_SHOWN]}..."
        raise UserError(f"convert: {index}: the file {shown!r} is not beside the index; only plain names are read")
    absent = [file for file in files if not (index.parent / file).is_file()]
    if absent:
        raise UserError(f"convert: {index}: {_listed(absent)} missing; download the whole folder")
    tensors: Flat = {}
    extra, missing = [], []
    for file in files:
        shard = read(index.parent / file)
        listed = {name for name, place in weight_map.items() if place == file}
        if read is _read_flax:
            listed = {flax_file.torch_name(name) for name in listed}
        extra += sorted(shard.keys() - listed)
        missing += sorted(listed - shard.keys())
        tensors |= {name: value for name, value in shard.items() if name in listed}
    if missing:
        raise UserError(f"convert: {index}: its files lack {_listed(missing)}; are they from the same download?")
    if extra:
        raise UserError(
            f"convert: {index}: its files have tensors that it does not list: {_listed(extra)}; are they "
            "from the same download?"
        )
    return tensors


def _is_plain_name(file: str) -> bool:
    names = pathlib.PurePosixPath(file), pathlib.PureWindowsPath(file)
    # Linux and macOS refuse to look for a longer name, and no program writes one.
    short = len(file.encode()) <= _LONGEST_NAME_BYTES
    return short and file not in ("", ".", "..") and all(path.name == file for path in names)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(f"{name[:_LONGEST_SHOWN]}..." if len(name) > _LONGEST_SHOWN else name for name in names[:8]) + more


# --- One file --------------------------------------------------------------------------------------------------------


def _refuse_pointer(path: pathlib.Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except OSError as error:
        raise UserError(f"convert: {path} cannot be read: {error.strerror}") from error
    if start == _POINTER:
        raise UserError(
            f"convert: {path} is a Git LFS pointer, not the weights; fetch them with `git lfs pull` in its folder"
        )


def _read_safetensors(path: pathlib.Path) -> Flat:
    _refuse_pointer(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = file.keys()  # The file itself is not iterable.
            formats = {name: file.get_slice(name).get_dtype() for name in names}
            unreadable = [f"{name} ({kind})" for name, kind in formats.items() if kind not in _READABLE]
            if unreadable:
                raise UserError(
                    f"convert: {path}: number formats that cannot be read: {_listed(unreadable)}; save the model in "
                    "float32, float16 or bfloat16"
                )
            return {name: file.get_tensor(name) for name in formats}
    except safetensors.SafetensorError as error:
        raise UserError(f"convert: {path} is damaged or no safetensors file: {error}") from error


def _read_pickle(path: pathlib.Path) -> Flat:
    _refuse_pointer(path)
    torch = _torch(path)
    try:
        with warnings.catch_warnings():
            # It warns of unusual protocols, which then fail with a message of their own.
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(_unpickling_line(path, str(error))) from error
    except MemoryError:
        raise
    # For bytes that are no pickle of tensors, torch's reader raises all kinds of errors.
    except Exception as error:
        reason = f"{type(error).__name__} {error}".split("\n")[0].strip()
        raise UserError(f"convert: {path} is damaged or no file of PyTorch weights: {reason}") from error
    if isinstance(loaded, dict):
        loaded = _inner_table(torch, loaded, path)
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise UserError(f"convert: {path}: not a plain table of tensors; save the model with save_pretrained")
    if not all(isinstance(name, str) for name in loaded):
        raise UserError(f"convert: {path}: its tensors are numbered and have no names; save the model's state_dict()")
    if empty := [name for name, value in loaded.items() if value.is_meta]:
        raise UserError(
            f"convert: {path}: tensors without values (device meta): {_listed(empty)}; save the model again"
        )
    unreadable = [f"{name} ({value.dtype})" for name, value in loaded.items() if not _is_readable(torch, value)]
    if unreadable:
        raise UserError(
            f"convert: {path}: number formats that cannot be read: {_listed(unreadable)}; save the model in float32"
        )
    return {name: _array(torch, value) for name, value in loaded.items()}


def _inner_table(torch: Any, loaded: dict[Any, Any], path: pathlib.Path) -> dict[Any, Any]:
    """The weights in a checkpoint of a training loop, under a usual key or as the only table of tensors.

    Raises:
      UserError: there are several tables of tensors, of which none has a usual key.
    """
    usual = [loaded[key] for key in _TABLES if isinstance(loaded.get(key), dict)]
    if table := next(filter(None, usual), None):
        return table
    tables = [
        key
        for key, value in loaded.items()
        if isinstance(value, dict) and value and all(isinstance(each, torch.Tensor) for each in value.values())
    ]
    if len(tables) > 1:
        raise UserError(
            f"convert: {path}: several tables of tensors: {_listed(list(map(str, tables)))}; save the one with the "
            "weights"
        )
    return loaded[tables[0]] if tables else loaded


def _read_flax(path: pathlib.Path) -> Flat:
    _refuse_pointer(path)
    return flax_file.read(path)


def _torch(path: pathlib.Path) -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise UserError(f'convert: {path} needs torch to be read; pip install "bertlite_jax[torch]"') from error
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < _SAFE_TORCH:
        raise UserError(
            f"convert: {path}: torch {torch.__version__} may run code while it reads a pickle; "
            'pip install --upgrade "bertlite_jax[torch]"'
        )
    return torch


def _unpickling_line(path: pathlib.Path, message: str) -> str:
    called = re.search(r"GLOBAL (\S+)|unrecognized function (.+)", message)
    if called:
        return (
            f"convert: {path} holds more than tensors: it calls {called[1] or called[2]}. Nothing of it was run; save "
            "the model with safetensors"
        )
    # torch's message is a page of advice to load the file unsafely, with the reason in one line of it.
    advice = ("Weights only load failed", "Please file an issue", "Check the documentation")
    lines = [line.strip() for line in message.split("\n") if line.strip() and not line.startswith(advice)]
    reason = lines[0] if lines else "it cannot be unpickled"
    return f"convert: {path} is damaged or no file of PyTorch weights, and nothing of it was run: {reason}"


def _is_readable(torch: Any, value: Any) -> bool:
    known = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool)
    return value.layout == torch.strided and value.dtype in known


def _array(torch: Any, value: Any) -> np.ndarray:
    value = value.detach()
    return np.ascontiguousarray((value.float() if value.dtype == torch.bfloat16 else value).numpy())
