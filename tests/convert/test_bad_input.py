"""Broken input of users: one clear line, exit code 2, and nothing left where the output should be."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from bertlite_jax.cli.main import main
from bertlite_jax.config.model import Model
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "convert.py"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
MODEL = Model(
    vocab_size=len(PIECES), embed_size=4, hidden_size=8, num_layers=2, num_heads=2, ffn_size=8, max_positions=16
)


@pytest.fixture
def source(tmp_path) -> pathlib.Path:
    """A folder of transformers in order: an ALBERT with a vocabulary of 31 pieces."""
    draw = np.random.default_rng(0)
    flat = {path: draw.normal(size=shape).astype(np.float32) for path, shape in parameters.shapes(MODEL).items()}
    folder = tmp_path / "source"
    to_hf(Weights(parameters.nest(flat), MODEL, pair_task="sop"), folder)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return folder


@pytest.fixture
def refused(source, tmp_path, capsys):
    """Runs from-hf on the folder; checks the exit code and that nothing is left; gives the line."""

    def run(*options: str) -> str:
        before = sorted(path.name for path in tmp_path.iterdir())
        assert main(["convert", "from-hf", str(source), str(tmp_path / "out"), *options]) == 2
        printed = capsys.readouterr()
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        assert "out" not in before
        assert printed.out == ""
        assert printed.err.endswith("\n")
        assert printed.err.count("\n") == 1
        assert printed.err.startswith(("convert: ", "tokenizer: ", "config: "))
        return printed.err

    return run


def test_the_folder_is_read_when_nothing_is_wrong(source, tmp_path, capsys):
    """This shows that every refusal below is due to the damage."""
    assert main(["convert", "from-hf", str(source), str(tmp_path / "out")]) == 0
    assert "31 pieces" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["config.json", "params.safetensors", "tokenizer"]


@pytest.mark.parametrize("kept", [0, 7, 100, 2000])
def test_a_truncated_safetensors_file(kept, source, refused):
    path = source / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert f"{path} is damaged or no safetensors file" in refused()


class Payload:
    """An object whose unpickling makes a folder."""

    def __init__(self, mark: pathlib.Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_with_code_in_it(source, refused, tmp_path):
    torch = pytest.importorskip("torch")
    (source / "model.safetensors").unlink()
    torch.save({"weight": torch.ones(2), "code": Payload(tmp_path / "owned")}, source / "pytorch_model.bin")
    line = refused()
    assert "pytorch_model.bin holds more than tensors" in line
    assert "Nothing of it was run" in line
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_size": 16, "num_attention_heads": 4}, "albert.pooler.weight is (8, 8), wanted (16, 16)"),
        ({"vocab_size": 32}, "albert.embeddings.word_embeddings.weight is (31, 4), wanted (32, 4)"),
        ({"num_hidden_groups": 2}, "missing: albert.encoder.albert_layer_groups.1"),
        ({"model_type": "roberta"}, "model_type is roberta"),
        ({"num_attention_heads": 3}, "num_heads"),
        ({"hidden_size": "8"}, "hidden_size is '8'"),
        ({"layer_norm_eps": None}, "layer_norm_eps is None"),
    ],
)
def test_a_config_that_disagrees_with_the_weights(change, named, source, refused):
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | change))
    assert named in refused()


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}', "[]", "\x00\x01"])
def test_a_config_that_is_none(content, source, refused):
    (source / "config.json").write_text(content)
    assert "config.json" in refused()


@pytest.mark.parametrize("pieces", [PIECES[:-1], [*PIECES, "aa"]])
def test_a_vocabulary_of_another_size(pieces, source, refused):
    (source / "vocab.txt").write_text("\n".join(pieces) + "\n")
    assert f"tokenizer has {len(pieces)} pieces and the model's table 31 rows" in refused()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a\na\n", b"", b"hello\nworld\n"])
def test_a_vocabulary_that_is_none(content, source, refused):
    (source / "vocab.txt").write_bytes(content)
    assert "vocab.txt" in refused()


def test_a_tokenizer_config_that_is_no_json(source, refused):
    (source / "tokenizer_config.json").write_text("{oops")
    assert "tokenizer_config.json: not JSON" in refused()


def test_a_tokenizer_that_does_not_exist(source, refused, tmp_path):
    assert "nowhere.txt" in refused("--tokenizer", str(tmp_path / "nowhere.txt"))


def test_a_folder_without_a_tokenizer_comes_in_with_a_note(source, tmp_path, capsys):
    """Weights alone are enough to continue training; the note says what needs a tokenizer."""
    (source / "vocab.txt").unlink()
    assert main(["convert", "from-hf", str(source), str(tmp_path / "out")]) == 0
    assert "has no tokenizer" in capsys.readouterr().out
    assert not (tmp_path / "out" / "tokenizer").exists()


def test_an_empty_folder_and_none_at_all(source, refused):
    for path in source.iterdir():
        path.unlink()
    assert "config.json does not exist" in refused()
    source.rmdir()
    assert "config.json does not exist" in refused()


@pytest.mark.parametrize("limit", [64, 1500])
def test_a_full_disk(limit, source, tmp_path):
    """No file may grow beyond the limit: the first to fail is the tokenizer's or that of the weights."""
    (tmp_path / "tmp").mkdir()
    program = (
        "import resource, runpy, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "sys.argv = ['convert.py', *sys.argv[1:]]\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "from-hf", str(source), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "cannot be written: File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_output_in_the_way_is_kept(source, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("mine")
    assert main(["convert", "from-hf", str(source), str(tmp_path / "out")]) == 2
    assert main(["convert", "from-hf", str(source), str(tmp_path / "out"), "--overwrite"]) == 2
    assert "pass --overwrite" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["diary.txt"]
