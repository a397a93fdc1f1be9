"""Folders of weights that are damaged, incomplete or of another model: the file, the tensor or the key is named."""

import json
import pathlib
import pickle
import shutil

import damage
import pytest

READERS = {
    "from-hf": ("convert from-hf hf out", "hf/model.safetensors"),
    "embed": ("embed hf --input text.txt --out out.npy", "hf/model.safetensors"),
    "to-hf": ("convert to-hf finetuned out", "finetuned/best/params.safetensors"),
    "predict": ("predict finetuned --input text.txt", "finetuned/best/params.safetensors"),
    "finetune": ("finetune FINETUNE --data task.csv --init hf --workdir out", "hf/model.safetensors"),
}
"""Command and the file of weights that it reads."""


@pytest.mark.parametrize("job", READERS)
@pytest.mark.parametrize("name", damage.SAFETENSORS)
def test_a_damaged_file_of_weights_is_named(name, job, bench):
    command, file = READERS[job]
    bench.arguments(command)
    damage.apply(bench.here / file, damage.SAFETENSORS[name])
    bench.refuses(command, pathlib.PurePath(file).name)


@pytest.mark.parametrize("job", READERS)
def test_weights_that_are_missing_are_told(job, bench):
    command, file = READERS[job]
    bench.arguments(command)
    (bench.here / file).unlink()
    bench.refuses(command, file.split("/")[0])


@pytest.mark.parametrize("job", READERS)
def test_a_folder_in_the_place_of_the_weights_is_told(job, bench):
    command, file = READERS[job]
    bench.arguments(command)
    damage.make_folder(bench.here / file)
    bench.refuses(command, file.split("/")[0])


@pytest.mark.parametrize("job", READERS)
def test_weights_that_may_not_be_read_are_named(job, bench, not_root):
    command, file = READERS[job]
    bench.arguments(command)
    (bench.here / file).chmod(0)
    bench.refuses(command, pathlib.PurePath(file).name, "Permission denied")


OPENS_OURS = {
    "predict": "predict ours --input text.txt",
    "embed": "embed ours --input text.txt --out out.npy",
    "finetune": "finetune FINETUNE --data task.csv --init ours --workdir out",
    "pretrain": "pretrain PRETRAIN --data.corpus corpus --data.tokenizer tokenizer --init ours --workdir out",
    "to-hf": "convert to-hf ours out",
    "onnx": "convert onnx ours out",
    "int8": "convert int8 ours out --calibrate text.txt",
    "bundle": "convert bundle ours out",
    "push": "convert push ours alice/model --dry-run",
}
"""Commands that open a folder of our own, of which from-hf writes one."""


def write_ours(bench) -> pathlib.Path:
    assert bench.run("convert from-hf hf ours")[0] == 0
    return bench.here / "ours"


@pytest.mark.parametrize("job", OPENS_OURS)
def test_labels_in_another_order_are_found_by_whoever_opens_the_folder(job, bench):
    bench.copy("text.txt")
    config = json.loads((write_ours(bench) / "config.json").read_text())
    config["head"]["labels"].reverse()
    (bench.here / "ours" / "config.json").write_text(json.dumps(config))
    line = bench.refuses(OPENS_OURS[job], "config.json is damaged: its fields do not have the SHA-256")
    assert line.startswith(f"{job if OPENS_OURS[job].startswith(job) else 'convert'}: ")


@pytest.mark.parametrize("command", ["evaluate pretrained", "fill-mask pretrained 'a [MASK]'"])
def test_the_job_that_opens_a_run_is_named(command, bench):
    shutil.rmtree(bench.copy("pretrained") / "checkpoints")
    assert bench.refuses(command, "pretrained").startswith(f"{command.split()[0]}: ")


CONFIGS = {
    "model_type": [5, "gpt2", [], {}],
    "architectures": [5, [5], [[]]],
    "vocab_size": ["300", 0, -1, 10**12, 3.5, True, None, 299],
    "hidden_size": ["24", 0, -24, 10**12, [24], 23],
    "num_hidden_layers": [0, -2, 10**9, "2", 1.5, [2]],
    "num_attention_heads": [0, 5, "2", 10**9, None],
    "intermediate_size": [0, 10**12, "48", {}],
    "max_position_embeddings": [0, 10**12, "64"],
    "type_vocab_size": [-1, 10**12, "2"],
    "layer_norm_eps": ["1e-12", -1, None, []],
    "hidden_act": ["swish", 5, None, ["gelu"]],
    "hidden_dropout_prob": ["0.1", 2, -1],
    "id2label": [5, "x", [1]],
    "num_labels": ["3", 3.5, 10**9, -1],
    "problem_type": [["x"], 5, "other"],
}
VALUES = [(key, value) for key, values in CONFIGS.items() for value in values]


@pytest.mark.parametrize(("key", "value"), VALUES, ids=[f"{key} = {str(value)[:12]}" for key, value in VALUES])
def test_a_config_of_transformers_with_an_odd_value_is_read_or_refused(key, value, bench):
    """Some of these values say nothing that the weights do not say themselves, and pass."""
    damage.apply(bench.copy("hf") / "config.json", damage.edit_json(key, to=value))
    code, _, err = bench.run("convert from-hf hf out")
    assert code == 0 or (code == 2 and err.count("\n") == 1), err
    assert (bench.here / "out").exists() == (code == 0)


INDEX = {
    "empty": b"",
    "no map": b"{}",
    "map is a list": b'{"weight_map": []}',
    "map of numbers": b'{"weight_map": {"a": 1}}',
    "a missing shard": b'{"weight_map": {"a": "b.safetensors"}}',
    "a path upwards": b'{"weight_map": {"a": "../b.safetensors"}}',
    "an absolute path": b'{"weight_map": {"a": "/etc/passwd"}}',
    "a null byte": b'{"weight_map": {"a": "b\\u0000c"}}',
    "a name of 5,000 letters": b'{"weight_map": {"a": "' + b"b" * 5_000 + b'"}}',
    "an empty name": b'{"weight_map": {"a": ""}}',
    "a dot": b'{"weight_map": {"a": "."}}',
}


@pytest.mark.parametrize("name", [*INDEX, *damage.JSON])
def test_an_index_of_shards_that_cannot_be_followed_is_named(name, bench):
    hf = bench.copy("hf")
    weights = (hf / "model.safetensors").rename(hf / "model-00001-of-00001.safetensors")
    right = json.dumps({"weight_map": {"a": weights.name}}).encode()
    content = INDEX[name] if name in INDEX else damage.JSON[name](right)
    (hf / "model.safetensors.index.json").write_bytes(content)
    bench.refuses("convert from-hf hf out", "hf")


class Runs:
    """A pickle that would make a file."""

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("ran"),)


PICKLES = {
    "runs code": pickle.dumps({"weight": Runs()}),
    "a list": pickle.dumps([1, 2]),
    "integers as keys": pickle.dumps({1: 2}),
    "text": b"version https://git-lfs.github.com/spec/v1\n",
    "empty": b"",
    "cut off": pickle.dumps({"weight": 1})[:-4],
    "a zip file": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_never_runs_and_is_named(name, bench):
    pytest.importorskip("torch")
    hf = bench.copy("hf")
    (hf / "model.safetensors").unlink()
    (hf / "pytorch_model.bin").write_bytes(PICKLES[name])
    bench.refuses("convert from-hf hf out", "pytorch_model.bin")
    assert not (bench.here / "ran").exists()


TENSORFLOW = {
    "missing": lambda path: None,
    "an empty folder": lambda path: path.mkdir(),
    "a text file": lambda path: path.write_text("text"),
    "a cut index": lambda path: path.with_suffix(".index").write_bytes(b"\0" * 10),
    "a dead link": damage.make_dead_link,
}


@pytest.mark.parametrize("name", TENSORFLOW)
def test_a_checkpoint_that_is_none_is_named(name, bench):
    TENSORFLOW[name](bench.here / "model.ckpt")
    bench.refuses("convert from-tf model.ckpt out", "")
