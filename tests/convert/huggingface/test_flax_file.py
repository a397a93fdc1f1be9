"""Weights of the Flax classes that transformers had before version 5 are read like those of PyTorch."""

import json

import numpy as np
import pytest
from flax import serialization
from foreign_folders import MODELS, Folder, classifier, drawn, same

from bertlite_jax.convert.huggingface.folder import from_hf
from bertlite_jax.convert.weights import parameters
from bertlite_jax.errors import UserError


@pytest.fixture
def task(tmp_path) -> Folder:
    return Folder(tmp_path / "task", classifier())


def flax_tree(tensors: dict[str, np.ndarray]) -> dict:
    """As the Flax classes of transformers 4 name them: kernels [in, out], scale and embedding; nested."""
    tree: dict = {}
    for name, value in tensors.items():
        *modules, leaf = name.split(".")
        if leaf == "weight":
            table = modules[-1].endswith("_embeddings")
            normed = "norm" in modules[-1].lower()
            leaf = "embedding" if table else "scale" if normed else "kernel"
            value = value.T if leaf == "kernel" else value
        place = tree
        for module in modules:
            place = place.setdefault(module, {})
        place[leaf] = np.ascontiguousarray(value)
    return tree


@pytest.mark.parametrize("family", list(MODELS))
@pytest.mark.parametrize("beside", [None, {}, {"step": 5, "opt_state": {"mu": {"a": np.ones(2)}}}])
def test_flax_weights_are_read(family, beside, tmp_path):
    """huggingface/transformers #23810, #12554; the tree may lie under `params`, beside the state of a training."""
    weights = drawn(MODELS[family])
    folder = Folder(tmp_path / "hf", weights)
    tree = flax_tree(folder.tensors)
    (folder.path / "model.safetensors").unlink()
    content = serialization.msgpack_serialize(tree if beside is None else {"params": tree} | beside)
    (folder.path / "flax_model.msgpack").write_bytes(content)
    same(from_hf(folder.path), weights)


def test_flax_weights_in_shards_are_read(task):
    tree = flax_tree(task.tensors)
    parts = {"flax_model-00001-of-00002.msgpack": {"bert": tree["bert"]}}
    parts["flax_model-00002-of-00002.msgpack"] = {"classifier": tree["classifier"]}
    listed = {}
    for file, part in parts.items():
        (task.path / file).write_bytes(serialization.msgpack_serialize(part))
        listed |= {path: file for path in parameters.flatten(part)}
    (task.path / "flax_model.msgpack.index.json").write_text(json.dumps({"weight_map": listed}))
    (task.path / "model.safetensors").unlink()
    same(from_hf(task.path), classifier())


def test_two_leaves_that_are_one_tensor_of_pytorch_are_named(task):
    tree = flax_tree(task.tensors)
    tree["classifier"]["scale"] = np.ones(3, np.float32)
    (task.path / "model.safetensors").unlink()
    (task.path / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(tree))
    with pytest.raises(UserError, match="classifier/kernel and classifier/scale are two spellings"):
        from_hf(task.path)


@pytest.mark.parametrize(
    "content",
    [b"x\n", b"", b"\xc1", b"\x81\xa1a\xc7\x03\x01abc", serialization.msgpack_serialize({"a": [1, 2]}), b"\x91" * 5000],
)
def test_files_that_are_no_flax_weights_are_one_line(content, task):
    (task.path / "model.safetensors").unlink()
    (task.path / "flax_model.msgpack").write_bytes(content)
    with pytest.raises(UserError) as caught:
        from_hf(task.path)
    assert "flax_model.msgpack" in str(caught.value)
    assert "\n" not in str(caught.value)
