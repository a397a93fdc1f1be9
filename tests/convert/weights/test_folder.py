"""Folders of our own: what people serve from is as it was written, or refused in one line."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tiny

from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Sentence, Weights, load_weights, save_weights
from bertlite_jax.data.vocabulary.tokenizer import train_tokenizer
from bertlite_jax.errors import UserError

TEXT = ["The hall was long and low.", "A row of lamps hung from the roof."] * 10


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Weights:
    tokenizer = train_tokenizer(TEXT, tmp_path_factory.mktemp("made") / "tokenizer", 60, "wordpiece")
    model = tiny.model(vocab_size=tokenizer.vocab_size)
    draw = np.random.default_rng(0)
    flat = {path: draw.normal(size=shape).astype(np.float32) for path, shape in parameters.shapes(model).items()}
    return Weights(parameters.nest(flat), model, tokenizer=tokenizer, pair_task="sop")


@pytest.fixture
def folder(weights, tmp_path) -> pathlib.Path:
    save_weights(weights, tmp_path / "best")
    return tmp_path / "best"


def refused(folder: pathlib.Path) -> str:
    with pytest.raises(UserError) as caught:
        load_weights(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(path: pathlib.Path, at: int, content: bytes = b"ZZZZ") -> None:
    """What `printf ZZZZ | dd of=PATH bs=1 seek=AT conv=notrunc` does."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def test_what_was_written_is_read_again(weights, folder):
    read = load_weights(folder)
    assert read.model == weights.model
    np.testing.assert_array_equal(read.params["pooler"]["kernel"], weights.params["pooler"]["kernel"])


@pytest.mark.parametrize("share", [0.3, 0.6, 0.999])
def test_four_changed_bytes_of_the_weights_are_found(share, folder):
    path = folder / "params.safetensors"
    change(path, int(path.stat().st_size * share) - 4)
    assert "params.safetensors is damaged: its SHA-256 is not the one in config.json" in refused(folder)


def test_every_file_of_the_tokenizer_is_checked(folder):
    files = [path for path in (folder / "tokenizer").iterdir() if path.is_file()]
    assert len(files) >= 2
    for path in files:
        before = path.read_bytes()
        change(path, len(before) // 2, bytes([before[len(before) // 2] ^ 1]))
        assert f"{path} is damaged" in refused(folder)
        path.unlink()
        assert f"{path} is missing; copy the whole folder" in refused(folder)
        path.write_bytes(before)
    load_weights(folder)


def test_a_folder_in_place_of_the_weights_is_one_line(folder):
    path = folder / "params.safetensors"
    path.unlink()
    path.mkdir()
    assert refused(folder) == f"convert: {path} cannot be read: Is a directory"
    path.rmdir()
    assert refused(folder) == f"convert: {path} is missing; copy the whole folder"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({key: config[key] for key in config if key != "sha256"}))
    assert refused(folder) == f"convert: {path} does not exist"


def test_a_folder_without_sums_is_read(folder):
    """As every version before this one wrote it."""
    config = json.loads((folder / "config.json").read_text())
    assert sorted(config.pop("sha256"))[0] == "params.safetensors"
    (folder / "config.json").write_text(json.dumps(config))
    load_weights(folder)


CHANGES = {
    "labels in another order": {"head": {"labels": ["good", "bad"]}},
    "another problem": {"head": {"problem": "multi_label"}},
    "another activation": {"model": {"activation": "relu"}},
    "an attention that reads less": {"model": {"num_heads": 1}},
    "another pair task": {"pair_task": "nsp"},
    "another pooling": {"sentence": {"pooling": "cls"}},
    "texts that are cut": {"sentence": {"max_length": 5}},
}
"""What would be read without a complaint, and give other answers."""


@pytest.fixture
def task_folder(weights, tmp_path) -> pathlib.Path:
    model = dataclasses.replace(weights.model, pooler=True, pair_classes=0)
    head = Head("classify", ("bad", "good"))
    draw = np.random.default_rng(0)
    flat = {path: draw.normal(size=shape).astype(np.float32) for path, shape in parameters.shapes(model, head).items()}
    made = Weights(parameters.nest(flat), model, head, weights.tokenizer, sentence=Sentence())
    save_weights(made, tmp_path / "task")
    return tmp_path / "task"


def rewrite(folder: pathlib.Path, change: dict) -> None:
    config = json.loads((folder / "config.json").read_text())
    for name, value in change.items():
        config[name] = config[name] | value if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_changed_description_is_found(change, task_folder):
    rewrite(task_folder, change)
    where = task_folder / "config.json"
    assert refused(task_folder).startswith(f"convert: {where} is damaged: its fields do not have the SHA-256")
    changed = json.loads(where.read_text())
    where.write_text(json.dumps({key: changed[key] for key in changed if key != "sha256_of_description"}))
    load_weights(task_folder)


def test_a_description_may_be_laid_out_anew(task_folder):
    """The order of fields and the space between them say nothing."""
    config = json.loads((task_folder / "config.json").read_text())
    (task_folder / "config.json").write_text(json.dumps(dict(reversed(config.items()))))
    assert load_weights(task_folder).head == Head("classify", ("bad", "good"))


def test_sums_of_another_form_are_one_line(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"sha256": ["x"]}))
    assert "sha256 is ['x']; it should be a table of files" in refused(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value, weights, tmp_path):
    flat = parameters.flatten(weights.params)
    flat["pooler/bias"] = np.full_like(flat["pooler/bias"], value)
    save_weights(Weights(parameters.nest(flat), weights.model), tmp_path / "out")
    assert "NaN or infinity in pooler/bias" in refused(tmp_path / "out")


@pytest.mark.parametrize("content", ["[" * 200_000, '{"model": ' + "9" * 5000 + "}", "\xff", "[]", '"a"', ""])
def test_a_config_that_is_no_usable_json_is_one_line(content, folder):
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    assert f"{folder / 'config.json'}: " in refused(folder)
