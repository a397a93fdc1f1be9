"""`flax_model.msgpack`, the weights of the Flax classes that transformers had before version 5.

The file is a tree of arrays in MessagePack, which holds no code. Its names are those of PyTorch's modules; the leaves
have Flax's names, and kernels are [in, out].
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from bertlite_jax.convert.weights import renaming
from bertlite_jax.convert.weights.parameters import Flat
from bertlite_jax.errors import UserError

FILE = "flax_model.msgpack"

# The parts of a training state, of which `params` are the weights.
_OF_TRAINING = {"params", "batch_stats", "step", "opt_state", "dropout_rng"}
# Flax's leaf, PyTorch's.
_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}


def read(path: pathlib.Path) -> Flat:
    """The arrays of a file by PyTorch's names, kernels as [out, in].

    Raises:
      UserError: the file is damaged or is no tree of arrays, or two leaves of one module are PyTorch's same tensor.
    """
    # Flax and JAX are loaded for such a file alone: an export needs neither.
    from flax import serialization

    content = path.read_bytes()
    try:
        tree = serialization.msgpack_restore(content)
    except MemoryError:
        raise
    # For bytes that are no MessagePack, its reader and Flax's hooks raise all kinds of errors.
    except Exception as error:
        reason = f"{type(error).__name__} {error}".split("\n")[0].strip()
        raise UserError(f"convert: {path} is damaged or no file of Flax weights: {reason}") from error
    if isinstance(tree, dict) and set(tree) <= _OF_TRAINING and isinstance(tree.get("params"), dict):
        tree = tree["params"]
    arrays: Flat = {}
    _collect(tree, "", arrays, path)
    return renaming.renamed(arrays, torch_name, str(path))


def torch_name(name: str) -> str:
    """`bert/pooler/dense/kernel` as PyTorch has it: `bert.pooler.dense.weight`."""
    *modules, leaf = name.split("/")
    return ".".join([*modules, _LEAVES.get(leaf, leaf)])


def _collect(value: Any, name: str, arrays: Flat, path: pathlib.Path) -> None:
    """Adds the arrays below a node of the tree to `arrays`, kernels as [out, in]."""
    if isinstance(value, dict):
        for key, part in value.items():
            _collect(part, f"{name}/{key}" if name else str(key), arrays, path)
    elif isinstance(value, np.ndarray) and name:
        kernel = name.endswith("/kernel") and value.ndim == 2
        arrays[name] = value.T if kernel else value
    else:
        raise UserError(f"convert: {path}: {name or 'the whole'} is {type(value).__name__} and not an array of weights")
