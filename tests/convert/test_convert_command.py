"""`bertlite convert` on a run's work directory: what it writes, what it prints, how it refuses."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tiny

from bertlite_jax.cli.main import main
from bertlite_jax.config import files
from bertlite_jax.config.pretrain import Data, Pretrain
from bertlite_jax.convert import sources
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.data.vocabulary.tokenizer import train_tokenizer
from bertlite_jax.train import checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = ["The hall was long and low.", "A row of lamps hung from the roof.", "It was dark, and she was late."] * 5


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    """A work directory as pretraining leaves it, with one checkpoint and a padded vocabulary."""
    folder = tmp_path_factory.mktemp("run")
    tokenizer = train_tokenizer(TEXT, folder / "tokenizer", 36)
    model = tiny.model(vocab_size=tokenizer.vocab_size, vocab_multiple=32, max_positions=64)
    (folder / "config.json").write_text(files.to_json(Pretrain(model=model, data=Data(pair_task="sop"))))
    (folder / "summary.json").write_text(json.dumps({"steps": 3, "valid_mlm_accuracy": 0.25, "hf_max_abs_diff": None}))
    rng = np.random.default_rng(0)
    flat = {path: rng.normal(size=shape).astype(np.float32) for path, shape in parameters.shapes(model).items()}
    for path in ("embeddings/word/embedding", "mlm/bias"):
        flat[path][model.vocab_size :] = 0
    checkpoints = checkpoint.open_checkpoints(folder / "checkpoints", keep_last=1, keep_every=0)
    checkpoint.save(checkpoints, 3, parameters.nest(flat), {"count": np.int32(3)}, {"step": 3})
    checkpoint.finish(checkpoints)
    return folder


def test_a_run_becomes_a_folder_of_transformers(run, tmp_path, capsys):
    assert main(["convert", "to-hf", str(run), str(tmp_path / "out")]) == 0
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


def test_a_folder_of_transformers_becomes_one_to_start_from(run, tmp_path, capsys):
    assert main(["convert", "to-hf", str(run), str(tmp_path / "hf")]) == 0
    assert main(["convert", "from-hf", str(tmp_path / "hf"), str(tmp_path / "ours")]) == 0
    assert "not in the checkpoint" not in capsys.readouterr().out
    loaded = sources.load(tmp_path / "ours")
    params, model = loaded.params, loaded.model
    assert model.vocab_multiple == 1
    assert parameters.missing_parts(params, model) == []


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> pathlib.Path:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\n".join(TEXT))
    return file


def test_onnx_writes_a_folder_that_is_complete(run, tmp_path, capsys):
    assert main(["convert", "onnx", str(run), str(tmp_path / "out")]) == 0
    size = (tmp_path / "out" / "onnx" / "model.onnx").stat().st_size
    assert f"{size / 1e6:.2f} MB" in capsys.readouterr().out
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert (tmp_path / "out" / "config.json").is_file()


def test_int8_writes_both_models_with_the_container_and_prints_what_it_cost(run, text, tmp_path, capsys):
    options = ["--calibrate", str(text), "--leave-out", "layers.ffn.down", "--max-drop", "1", "--rows", "8"]
    assert main(["convert", "int8", str(run), str(tmp_path / "out"), *options]) == 0
    printed = capsys.readouterr().out
    assert "products of integers: 13 of 15; float32: layers.ffn.down" in printed
    assert "same answer as float32" in printed
    assert "cpu:" in printed
    container = quantized.load(tmp_path / "out" / "model.int8.safetensors")
    assert "layers/0/ffn/down/kernel" in container.floats
    assert "layers/0/ffn/up/kernel" in container.integers
    assert (tmp_path / "out" / "onnx" / "model_quantized.onnx").is_file()
    again = sources.load(tmp_path / "out")
    assert again.tokenizer is not None
    assert again.model.vocab_size == again.tokenizer.vocab_size


def test_a_model_that_loses_more_than_allowed_is_not_written(run, text, tmp_path, capsys):
    # The cosine of rounded states is below 1, if only a little.
    options = ["--calibrate", str(text), "--output", "states", "--max-drop", "0", "--rows", "8"]
    assert main(["convert", "int8", str(run), str(tmp_path / "out"), *options]) == 2
    (line,) = capsys.readouterr().err.strip().split("\n")
    assert "by more than --max-drop 0" in line
    assert "--leave-out" in line
    assert not (tmp_path / "out").exists()


def test_files_for_phones_keep_to_their_budget(run, text, tmp_path, capsys):
    options = ["--text", str(text), "--min-agreement", "0"]
    assert main(["convert", "ort", str(run), str(tmp_path / "model.ort"), *options, "--max-mb", "0.001"]) == 2
    assert "is more than --max-mb 0.001" in capsys.readouterr().err
    assert not (tmp_path / "model.ort").exists()
    assert main(["convert", "ort", str(run), str(tmp_path / "model.ort"), *options]) == 0
    printed = capsys.readouterr().out
    assert f"size: {(tmp_path / 'model.ort').stat().st_size / 1e6:.2f} MB" in printed
    assert "of at most 15 MB" in printed
    assert "products of integers: 15 of 15" in printed
    assert "same answer as float32: " in printed


def test_a_bundle_is_made_and_its_examples_are_the_users(run, tmp_path, capsys):
    (tmp_path / "examples.jsonl").write_text('{"text": "the [MASK] was dark"}\n')
    options = ["--examples", str(tmp_path / "examples.jsonl")]
    assert main(["convert", "bundle", str(run), str(tmp_path / "out"), *options]) == 0
    assert "predict.py --check" in capsys.readouterr().out
    about = json.loads((tmp_path / "out" / "bundle.json").read_text())
    assert [case["input"]["text"] for case in about["check"]] == ["the [MASK] was dark"]
    (tmp_path / "examples.jsonl").write_text('{"text": "fine"}\n{"test": "misspelt"}\n')
    assert main(["convert", "bundle", str(run), str(tmp_path / "other"), *options]) == 2
    assert "examples.jsonl:2:" in capsys.readouterr().err


def test_a_folder_of_transformers_keeps_its_tokenizer_and_is_never_written_over_itself(run, tmp_path, capsys):
    """Neither under its own name, nor under another, nor with a folder around it."""
    here = tmp_path / "hf"
    assert main(["convert", "to-hf", str(run), str(here)]) == 0
    assert main(["convert", "to-hf", str(here), str(tmp_path / "again")]) == 0
    for name in ("tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (here / name).read_bytes()
    capsys.readouterr()
    (tmp_path / "link").symlink_to(here)
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    for form, *options in (
        ["to-hf"], ["from-hf"], ["onnx"], ["int8", "--calibrate", "x"], ["ort", "--text", "x"], ["bundle"]
    ):  # fmt: skip
        for out in (here, tmp_path / "link", tmp_path, f"{here}/../hf/"):
            assert main(["convert", form, str(here), str(out), *options, "--overwrite"]) == 2
            (line,) = capsys.readouterr().err.strip().split("\n")
            assert "name another place to write" in line
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before


def test_a_checkpoint_of_tensorflow_is_told_how_to_be_read(tmp_path, capsys):
    """google-research/albert #224, #116: `--init` with a path that ends in .index or .data-00000-of-00001."""
    (tmp_path / "model.ckpt.index").touch()
    (tmp_path / "model.ckpt.data-00000-of-00001").touch()
    for name in (".", "model.ckpt", "model.ckpt.index", "model.ckpt.data-00000-of-00001"):
        assert main(["convert", "to-hf", str(tmp_path / name), str(tmp_path.parent / "out")]) == 2
        assert "read it with bertlite convert from-tf" in capsys.readouterr().err


def test_mistakes_are_one_line_and_exit_code_2(run, text, tmp_path, capsys):
    assert main(["convert", "to-hf", str(tmp_path / "nothing"), str(tmp_path / "out")]) == 2
    assert main(["convert", "int8", str(tmp_path), str(tmp_path / "out"), "--calibrate", str(text)]) == 2
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    assert main(["convert", "to-hf", str(run), str(tmp_path / "taken")]) == 2
    lines = capsys.readouterr().err.strip().split("\n")
    assert len(lines) == 3
    assert all(line.startswith(("convert:", "config:")) for line in lines)
    assert not (tmp_path / "out").exists()


@pytest.mark.thorough
def test_the_script_in_tools_is_the_same_command(run, tmp_path):
    """Same files, same line, same exit codes."""
    script = [sys.executable, str(ROOT / "tools/convert.py")]
    for out, command in (("a", script), ("b", [sys.executable, "-m", "bertlite_jax", "convert"])):
        (tmp_path / out).mkdir()
        done = subprocess.run(
            [*command, "to-hf", str(run), "hf"], cwd=tmp_path / out, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("hf: ")
        refused = subprocess.run(
            [*command, "to-hf", "nowhere", "other"], cwd=tmp_path / out, capture_output=True, text=True
        )
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
    files_of = [{path.name: path.read_bytes() for path in (tmp_path / out / "hf").iterdir()} for out in ("a", "b")]
    assert files_of[0] == files_of[1]
