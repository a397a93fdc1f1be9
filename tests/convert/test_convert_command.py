"""tools/convert.py on a run's work directory: what it writes, what it prints, how it refuses."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

from bertlite_jax import config_files
from bertlite_jax.config import Data, Model, Pretrain
from bertlite_jax.convert import parameters, quantize, sources
from bertlite_jax.data import tokenizer as tokenizers
from bertlite_jax.train import checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = ["The hall was long and low.", "A row of lamps hung from the roof.", "It was dark, and she was late."] * 5


@pytest.fixture(scope="module")
def command():
    """The script's `main`."""
    spec = importlib.util.spec_from_file_location("convert_script", ROOT / "tools" / "convert.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.main


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    """A work directory as pretraining leaves it, with one checkpoint and a padded vocabulary."""
    folder = tmp_path_factory.mktemp("run")
    tokenizer = tokenizers.train(TEXT, folder / "tokenizer", 36)
    model = Model(
        vocab_size=tokenizer.vocab_size,
        vocab_multiple=32,
        embed_size=8,
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        ffn_size=32,
        max_positions=64,
    )
    (folder / "config.json").write_text(config_files.to_json(Pretrain(model=model, data=Data(pair_task="sop"))))
    (folder / "summary.json").write_text(json.dumps({"steps": 3, "valid_mlm_accuracy": 0.25, "hf_max_abs_diff": None}))
    rng = np.random.default_rng(0)
    flat = {path: rng.normal(size=shape).astype(np.float32) for path, shape in parameters.shapes(model).items()}
    for path in ("embeddings/word/embedding", "mlm/bias"):
        flat[path][model.vocab_size :] = 0
    checkpoints = checkpoint.open_checkpoints(folder / "checkpoints", keep_last=1, keep_every=0)
    checkpoint.save(checkpoints, 3, parameters.nest(flat), {"count": np.int32(3)}, {"step": 3})
    checkpoint.finish(checkpoints)
    return folder


def test_a_run_becomes_a_folder_of_transformers(run, command, tmp_path, capsys):
    assert command(["to-hf", str(run), str(tmp_path / "out")]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "spiece.model",
        "README.md",
    }
    assert "albert" in capsys.readouterr().out
    loaded = sources.load(run)
    params, model, back = loaded.params, loaded.model, sources.load(tmp_path / "out").params
    for path, value in parameters.flatten(parameters.pad_vocabulary(back, model)).items():
        np.testing.assert_array_equal(value, parameters.flatten(params)[path])


def test_a_folder_of_transformers_becomes_one_to_start_from(run, command, tmp_path, capsys):
    assert command(["to-hf", str(run), str(tmp_path / "hf")]) == 0
    assert command(["from-hf", str(tmp_path / "hf"), str(tmp_path / "ours")]) == 0
    assert "not in the checkpoint" not in capsys.readouterr().out
    loaded = sources.load(tmp_path / "ours")
    params, model = loaded.params, loaded.model
    assert model.vocab_multiple == 1
    assert parameters.missing_parts(params, model) == []


def test_int8_writes_the_container_and_prints_errors_and_sizes(run, command, tmp_path, capsys):
    assert command(["int8", str(run), str(tmp_path / "out"), "--keep", "pooler", "pair"]) == 0
    printed = capsys.readouterr().out
    file = tmp_path / "out" / "model.int8.safetensors"
    assert f"{file.stat().st_size / 1e6:.2f} MB" in printed
    container = quantize.load(file)
    assert "pooler/kernel" in container.floats and "layers/ffn/up/kernel" in container.integers
    assert "largest error" in printed


def test_mistakes_are_one_line_and_exit_code_2(run, command, tmp_path, capsys):
    assert command(["to-hf", str(tmp_path / "nothing"), str(tmp_path / "out")]) == 2
    assert command(["int8", str(tmp_path), str(tmp_path / "out")]) == 2
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    assert command(["to-hf", str(run), str(tmp_path / "taken")]) == 2
    lines = capsys.readouterr().err.strip().split("\n")
    assert len(lines) == 3 and all(line.startswith(("convert:", "config:")) for line in lines)
    assert not (tmp_path / "out").exists()
