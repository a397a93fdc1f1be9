"""The folder of a tokenizer is whole and undamaged, or it is refused."""

from __future__ import annotations

import json
import pathlib
import pickle
import signal
import subprocess
import sys

import pytest
from tokenizer_texts import ENGLISH

from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary, load_tokenizer, train_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host.whole_files import temporary_beside


def test_a_killed_training_leaves_nothing_that_passes_for_a_tokenizer(tmp_path):
    script = (
        "import sys, time, tests.examples.tokenizer_texts as here\n"
        "from bertlite_jax.data.vocabulary import tokenizer, codecs\n"
        "real = tokenizer.load_tokenizer\n"
        "def slow(folder):\n"
        "    real(folder); print('written', flush=True); time.sleep(60)\n"
        "tokenizer.load_tokenizer = slow\n"
        "tokenizer.train_tokenizer(here.ENGLISH, sys.argv[1], 100)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "t")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    with pytest.raises(UserError, match="does not exist"):
        load_tokenizer(tmp_path / "t")
    assert train_tokenizer(ENGLISH, tmp_path / "t", 100).vocab_size == 100


def test_a_tokenizer_that_is_there_is_replaced_only_on_request(tmp_path):
    old = train_tokenizer(ENGLISH, tmp_path / "t", 100)
    with pytest.raises(UserError, match="exists"):
        train_tokenizer(ENGLISH, tmp_path / "t", 110)
    assert load_tokenizer(tmp_path / "t").hash == old.hash
    assert train_tokenizer(ENGLISH, tmp_path / "t", 110, overwrite=True).vocab_size == 110
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    with pytest.raises(UserError, match="not a tokenizer folder"):
        train_tokenizer(ENGLISH, tmp_path / "notes", 110, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes", "t"]


def test_a_run_or_a_model_stands_for_the_tokenizer_that_it_has(tmp_path):
    own = train_tokenizer(ENGLISH, tmp_path / "run" / "tokenizer", 100)
    assert load_tokenizer(tmp_path / "run").hash == own.hash
    assert load_tokenizer(tmp_path / "run").folder == own.folder


def test_a_tokenizer_that_a_killed_training_was_replacing_comes_back(tmp_path):
    """Killed between two renames: the earlier tokenizer is the only one."""
    old = train_tokenizer(ENGLISH, tmp_path / "t", 100)
    (tmp_path / "t").rename(temporary_beside(tmp_path / "t", ".former"))
    with pytest.raises(UserError, match="exists; give another folder"):
        train_tokenizer(ENGLISH, tmp_path / "t", 110)
    assert load_tokenizer(tmp_path / "t").hash == old.hash


# --- Folders ---------------------------------------------------------------------------------------------------------


def test_settings_are_saved_and_decide_the_ids_and_the_hash(shared, tmp_path):
    model = shared / "vocab" / "albert_spiece.model"
    plain = adopt_vocabulary(model, tmp_path / "plain")
    cased = adopt_vocabulary(model, tmp_path / "cased", lower=False)
    assert plain.encode("Paris").tolist() == plain.encode("paris").tolist()
    assert cased.encode("Paris").tolist() != cased.encode("paris").tolist()
    again = load_tokenizer(tmp_path / "cased")
    assert again.settings["lower"] is False
    assert again.encode("Paris").tolist() == cased.encode("Paris").tolist()
    assert plain.hash != cased.hash == again.hash


def test_a_tokenizer_travels_to_another_process_as_its_folder(trained):
    for tokenizer in trained.values():
        data = pickle.dumps(tokenizer)
        assert len(data) < 1000
        assert pickle.loads(data) == tokenizer


def truncate(folder: pathlib.Path) -> None:
    model = folder / "spiece.model"
    model.write_bytes(model.read_bytes()[:-100])


def flip(folder: pathlib.Path) -> None:
    model = folder / "spiece.model"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)


def change(folder: pathlib.Path, part: str, name: str, value: object) -> None:
    path = folder / "bertlite_tokenizer.json"
    saved = json.loads(path.read_text())
    saved[part][name] = value
    path.write_text(json.dumps(saved))


DAMAGES = {
    "does not exist": lambda folder: folder.rename(folder.with_name("elsewhere")),
    "not a tokenizer folder": lambda folder: (folder / "bertlite_tokenizer.json").unlink(),
    "is missing": lambda folder: (folder / "spiece.model").unlink(),
    "not the file that the tokenizer was made with": truncate,
    "its SHA-256 differs": flip,
    "not JSON": lambda folder: (folder / "bertlite_tokenizer.json").write_text('{"format": 1, "kind": "sent'),
    "nested too deeply": lambda folder: (folder / "bertlite_tokenizer.json").write_text("[" * 100_000),
    "thousands of digits": lambda folder: (folder / "bertlite_tokenizer.json").write_text("9" * 5000),
    'settings.lower = "yes" should be true or false': lambda folder: change(folder, "settings", "lower", "yes"),
    "settings.keep_accents = null should be true or false": lambda f: change(f, "settings", "keep_accents", None),
    "settings.word_segmenter = 1 should be pieces or jieba": lambda f: change(f, "settings", "word_segmenter", 1),
    "specials.cls should be a piece": lambda folder: change(folder, "specials", "cls", 5),
    "no piece \\[END\\]": lambda folder: change(folder, "specials", "sep", "[END]"),
    "should have the keys": lambda folder: (folder / "bertlite_tokenizer.json").write_text('{"format": 1}'),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_damaged_folder_is_refused_in_one_line(message, tmp_path):
    train_tokenizer(ENGLISH, tmp_path / "t", 100)
    DAMAGES[message](tmp_path / "t")
    with pytest.raises(UserError, match=message) as caught:
        load_tokenizer(tmp_path / "t")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "t") in str(caught.value)


def test_decoded_text_reads_like_the_text(albert, uncased, trained):
    text = "the capital of france is paris, they say."
    for tokenizer in (albert, uncased, trained["bpe"]):
        assert tokenizer.decode(tokenizer.encode(text)).strip() == text
