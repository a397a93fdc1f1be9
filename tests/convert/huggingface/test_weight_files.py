"""Every layout of weights that `save_pretrained` has ever written gives the same arrays; other files give one line."""

import json
import os
import pathlib
import pickle
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from bertlite_jax.convert.huggingface.weight_files import read_tensors
from bertlite_jax.errors import UserError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 438007537\n"
LAYOUTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def tensors() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    drawn = {f"layer.{i}.weight": draw.normal(size=(4, 3)).astype(np.float32) for i in range(3)}
    return drawn | {"embeddings.position_ids": np.arange(5)[None]}


def write_file(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    if path.suffix == ".safetensors":
        safetensors.numpy.save_file(arrays, path)
    else:
        torch = pytest.importorskip("torch")
        torch.save({name: torch.from_numpy(value.copy()) for name, value in arrays.items()}, path)


def write_layout(folder: pathlib.Path, layout: str, arrays: dict[str, np.ndarray]) -> None:
    if not layout.endswith(".index.json"):
        return write_file(folder / layout, arrays)
    stem, suffix = layout.removesuffix(".index.json").rsplit(".", 1)
    places = {}
    for i, part in enumerate((sorted(arrays)[:2], sorted(arrays)[2:])):
        name = f"{stem}-0000{i + 1}-of-00002.{suffix}"
        write_file(folder / name, {tensor: arrays[tensor] for tensor in part})
        places |= dict.fromkeys(part, name)
    (folder / layout).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


def refusal(folder: pathlib.Path) -> str:
    """The one line with which a folder is refused."""
    with pytest.raises(UserError) as caught:
        read_tensors(folder)
    line = str(caught.value)
    assert line.startswith("convert: ")
    assert "\n" not in line
    assert str(folder) in line
    return line


# --- What is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_arrays_that_were_written(layout, tmp_path):
    write_layout(tmp_path, layout, tensors())
    read = read_tensors(tmp_path)
    assert read.keys() == tensors().keys()
    for name, value in tensors().items():
        np.testing.assert_array_equal(read[name], value)
        assert read[name].dtype == value.dtype


def test_pytorchs_format_before_zip_files_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    value = torch.arange(6.0).reshape(2, 3)
    torch.save({"a": value.T}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(read_tensors(tmp_path)["a"], [[0, 3], [1, 4], [2, 5]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("layout", ["model.safetensors", "pytorch_model.bin"])
def test_every_float_becomes_float32(layout, dtype, tmp_path):
    """The numbers 1, 1/3 and -2.5 rounded to the narrow format, computed with ml_dtypes and numpy."""
    exact = np.array([1, 1 / 3, -2.5])
    narrow = exact.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    if layout == "model.safetensors":
        safetensors.numpy.save_file({"a": narrow}, tmp_path / layout)
    else:
        torch = pytest.importorskip("torch")
        torch.save({"a": torch.tensor(exact).to(getattr(torch, dtype))}, tmp_path / layout)
    read = read_tensors(tmp_path)["a"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, narrow.astype(np.float32))


def test_safetensors_come_before_a_pickle_of_the_same_folder(tmp_path):
    write_file(tmp_path / "model.safetensors", {"a": np.ones(2, np.float32)})
    (tmp_path / "pytorch_model.bin").write_bytes(b"never opened")
    assert read_tensors(tmp_path).keys() == {"a"}


def test_shards_may_be_links_as_in_a_cache_of_downloads(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    write_file(tmp_path / "blobs" / "x.safetensors", {"a": np.ones(2, np.float32)})
    (tmp_path / "snapshot" / "model-1.safetensors").symlink_to("../blobs/x.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors"}}
    (tmp_path / "snapshot" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_tensors(tmp_path / "snapshot").keys() == {"a"}


# --- What is refused -------------------------------------------------------------------------------------------------


class Payload:
    """An object whose unpickling makes a folder."""

    def __init__(self, mark: pathlib.Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(protocol, zipped, tmp_path):
    torch = pytest.importorskip("torch")
    mark = tmp_path / "mark"
    path = tmp_path / "pytorch_model.bin"
    if zipped:
        torch.save({"a": torch.ones(2), "b": Payload(mark)}, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps({"b": Payload(mark)}, protocol=protocol))
    assert "othing of it was run" in refusal(tmp_path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists(), "the payload would have worked"


def test_the_function_that_a_pickle_wants_is_named(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.nn.Linear(2, 2)}, tmp_path / "pytorch_model.bin")
    assert "it calls torch.nn.modules.linear.Linear" in refusal(tmp_path)


@pytest.mark.parametrize("content", [{"a": 1}, {"model": {}}, [1, 2]])
def test_a_file_of_something_else_than_tensors_is_refused(content, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(content, tmp_path / "pytorch_model.bin")
    assert "not a plain table of tensors" in refusal(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.98])
@pytest.mark.parametrize("layout", ["model.safetensors", "pytorch_model.bin"])
def test_a_truncated_file_is_named(layout, kept, tmp_path):
    write_layout(tmp_path, layout, tensors())
    path = tmp_path / layout
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert f"{path} is damaged" in refusal(tmp_path)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_pickle_is_one_line_or_gives_tensors(seed, tmp_path):
    """Random bytes at random places, in the format whose pickle is not inside a zip file."""
    torch = pytest.importorskip("torch")
    path = tmp_path / "pytorch_model.bin"
    torch.save({f"w{i}": torch.zeros(4) for i in range(3)}, path, _use_new_zipfile_serialization=False)
    draw = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    for at in draw.integers(0, len(content), 12):
        content[at] = draw.integers(256)
    path.write_bytes(content)
    try:
        values = list(read_tensors(tmp_path).values())
    except UserError as refusal:
        message = str(refusal)
    else:
        message = ""
        assert all(isinstance(value, np.ndarray) for value in values)
    assert "\n" not in message


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_pointer_of_git_lfs_is_recognised(layout, tmp_path):
    write_layout(tmp_path, layout, tensors())
    name = (
        layout if not layout.endswith("index.json") else sorted(p.name for p in tmp_path.iterdir() if "of" in p.name)[0]
    )
    (tmp_path / name).write_text(POINTER)
    assert f"{name} is a Git LFS pointer" in refusal(tmp_path)


@pytest.mark.parametrize("place", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..\\x", "C:x", "..", ""])
def test_an_index_reaches_no_file_outside_its_folder(place, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    write_file(tmp_path / "x.safetensors", {"a": np.ones(2, np.float32)})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": place}}))
    assert "is not beside the index" in refusal(folder)


def test_a_missing_shard_is_named(tmp_path):
    write_layout(tmp_path, "model.safetensors.index.json", tensors())
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors missing" in refusal(tmp_path)


def test_an_index_that_disagrees_with_its_shards_is_refused(tmp_path):
    write_layout(tmp_path, "model.safetensors.index.json", tensors())
    index = tmp_path / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    lost = {**places, "layer.9.weight": "model-00001-of-00002.safetensors"}
    index.write_text(json.dumps({"weight_map": lost}))
    assert "its files lack layer.9.weight" in refusal(tmp_path)
    del places["layer.1.weight"]
    index.write_text(json.dumps({"weight_map": places}))
    assert "its files have tensors that it does not list: layer.1.weight" in refusal(tmp_path)


@pytest.mark.parametrize("content", ['{"weight_map": []}', "{}", '{"weight_map": {"a": 1}}', '{"weight_map": {}}'])
def test_an_index_of_something_else_is_refused(content, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    assert "no weight_map" in refusal(tmp_path)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, ml_dtypes.float8_e4m3fn])
def test_quantised_tensors_are_refused_by_name(dtype, tmp_path):
    """Their scales are in other tensors, so the bare numbers would be mistaken for weights."""
    torch = pytest.importorskip("torch")
    import safetensors.torch

    names = {"int8": torch.int8, "uint8": torch.uint8, "float8_e4m3fn": torch.float8_e4m3fn}
    value = torch.ones(2, 2).to(names[np.dtype(dtype).name])
    safetensors.torch.save_file({"a.weight": value}, tmp_path / "model.safetensors")
    assert "number formats that cannot be read: a.weight" in refusal(tmp_path)


def test_a_folder_without_weights_says_what_was_looked_for(tmp_path):
    assert "has neither model.safetensors nor pytorch_model.bin" in refusal(tmp_path)
    (tmp_path / "tf_model.h5").touch()
    assert "tf_model.h5 alone, which cannot be read; save them once more" in refusal(tmp_path)


def test_without_torch_the_install_command_is_given(tmp_path, monkeypatch):
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert refusal(tmp_path).endswith('pip install "bertlite_jax[torch]"')


def test_a_torch_whose_safe_reading_is_not_safe_is_refused(tmp_path, monkeypatch):
    """CVE-2025-32434: before 2.6.0, `weights_only=True` ran code."""
    torch = pytest.importorskip("torch")
    write_layout(tmp_path, "pytorch_model.bin", tensors())
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    assert "torch 2.5.1 may run code" in refusal(tmp_path)


# --- Tables of other forms -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "module", "net", "weights"])
def test_the_table_inside_a_training_checkpoint_is_read(key, tmp_path):
    """Training loops save the weights beside their counters and the optimiser: NVIDIA-NeMo/Speech #973."""
    torch = pytest.importorskip("torch")
    torch.save({key: {"a": torch.ones(2)}, "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "pytorch_model.bin")
    np.testing.assert_array_equal(read_tensors(tmp_path)["a"], [1, 1])


def test_a_checkpoint_with_several_tables_or_an_optimiser_alone_is_one_line(tmp_path):
    """s6juncheng/BERTMHC #2: the file with the optimiser, taken for the one with the weights."""
    torch = pytest.importorskip("torch")
    tables = {"net": {"a": torch.ones(2)}, "ema": {"a": torch.zeros(2)}}
    torch.save(tables, tmp_path / "pytorch_model.bin")
    assert "several tables of tensors: net, ema; save the one with the weights" in refusal(tmp_path)
    torch.save({"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}, tmp_path / "pytorch_model.bin")
    assert "not a plain table of tensors" in refusal(tmp_path)


def test_tensors_without_names_or_values_are_one_line(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({0: torch.ones(2), 1: torch.ones(2)}, tmp_path / "pytorch_model.bin")
    assert "its tensors are numbered and have no names" in refusal(tmp_path)
    torch.save({"a": torch.ones(2, device="meta")}, tmp_path / "pytorch_model.bin")
    assert "tensors without values (device meta): a" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["x" * 5000, "é" * 128, "x" * 256])
def test_a_file_name_longer_than_any_is_one_short_line(name, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    line = refusal(tmp_path)
    assert "is not beside the index" in line
    assert len(line) < 400 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        ("best.pt", "pytorch_model.bin"),
        ("epoch=3.ckpt", "pytorch_model.bin"),
        ("weights.safetensors", "model.safetensors"),
    ],
)
def test_weights_of_another_name_are_pointed_out(name, usual, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    assert f"if {name} holds them, rename it to {usual}" in refusal(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    assert "save model.merge_and_unload()" in refusal(tmp_path)


def test_an_index_too_deep_or_with_an_endless_number_is_one_line(tmp_path):
    for content in ("[" * 200_000, '{"weight_map": ' + "9" * 5000 + "}", '{"weight_map": {"a": "\\ud800"}}'):
        (tmp_path / "model.safetensors.index.json").write_text(content)
        assert "model.safetensors.index.json: " in refusal(tmp_path)
