"""A bundle answers in any folder, without this package and without a network, and detects damage to itself."""

import dataclasses
import json
import pathlib
import shlex
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import thorough
from bundle_examples import HEADS, weights_of

from bertlite_jax.convert import bundle, sources
from bertlite_jax.convert.bundle import read_examples, write_bundle
from bertlite_jax.convert.bundled import regress, tag
from bertlite_jax.errors import UserError

PREAMBLE = """
import runpy, socket, sys
for name in ("bertlite_jax", "jax", "flax", "onnx", "torch", "transformers", "safetensors", "sentencepiece"):
    sys.modules[name] = None  # Importing it fails.
def refused(*args, **kwargs):
    raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = refused
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def predict(folder: pathlib.Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", PREAMBLE, str(folder / "predict.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def tagger(prepared, tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("bundle") / "tagger"
    write_bundle(weights_of(prepared, "tag"), out)
    return out


@pytest.mark.parametrize("kind", thorough.but(["classify", "fill_mask", "span"], HEADS))
def test_every_kind_answers_after_a_move_without_network_and_other_packages(kind, prepared, tmp_path):
    made = write_bundle(weights_of(prepared, kind), tmp_path / "here")
    assert made["kind"] == kind
    there = tmp_path / "somewhere else" / "moved"
    there.parent.mkdir()
    shutil.move(tmp_path / "here", there)
    checked = predict(there, "--check")
    assert (checked.returncode, checked.stderr) == (0, "")
    item = {"text": "alice was [MASK] tired", "pair": "of sitting by her sister on the bank"}
    if kind == "fill_mask":
        del item["pair"]
    if kind == "choose":
        item = {"text": "alice was", "choices": ["tired", "a rabbit", "late"]}
    (tmp_path / "inputs.jsonl").write_text(json.dumps(item) + "\n")
    answered = predict(there, "--file", str(tmp_path / "inputs.jsonl"))
    assert answered.returncode == 0, answered.stderr
    found = json.loads(answered.stdout)
    assert {"answer", "score"} <= found.keys()
    if kind == "span":
        assert found["answer"] == item["pair"][found["start"] : found["end"]]
    if kind == "choose":
        assert found["answer"] == int(np.argmax(found["scores"]))
        assert len(found["scores"]) == 3
    if kind == "fill_mask":
        assert len(found["answer"]) == 1
        assert len(found["top"][0]) == 5
    if kind in ("classify", "labels", "regress"):
        assert list(found["scores"]) == list(HEADS[kind].labels)
    if kind == "regress":
        assert found["answer"] == found["score"] == found["scores"][HEADS[kind].labels[0]]
        assert made["agreement"] == 1.0


def test_other_jobs_name_the_command_of_a_bundle(tmp_path):
    folder = tmp_path / "my bundle"
    folder.mkdir()
    (folder / "bundle.json").write_text("{}")
    with pytest.raises(UserError) as caught:
        sources.load(folder, "predict")
    assert str(caught.value).startswith(f"predict: {folder} is a bundle, which answers by itself: python ")
    typed = str(caught.value).partition("by itself: ")[2].partition(";")[0]
    assert shlex.split(typed) == ["python", f"{folder}/predict.py", "--file", "FILE.jsonl"]


def test_several_numbers_are_a_list_of_them():
    numbers = {"logits": np.array([0.5, -2.0], np.float32)}
    found = regress.answer({}, None, numbers, None, {"labels": ["a", "b"]})
    assert found == {"answer": [0.5, -2.0], "score": 0.5, "scores": {"a": 0.5, "b": -2.0}}


def test_a_vector_where_there_is_no_head(prepared, tmp_path):
    given = weights_of(prepared, "fill_mask")
    bare = {name: part for name, part in given.params.items() if name != "mlm"}
    assert write_bundle(dataclasses.replace(given, params=bare), tmp_path / "out")["kind"] == "embed"
    vectors = [
        json.loads(predict(tmp_path / "out", *extra, "a text").stdout)["vector"] for extra in ([], ["--float32"])
    ]
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert np.dot(*vectors) > 0.99


def test_spans_join_words_of_one_label_and_follow_the_first_piece():
    """Worked out by hand: `B-` opens a span, `I-` continues it, later pieces of a word do not count."""
    text = "to New York, Geneva"

    row = types.SimpleNamespace(
        offsets=[(0, 0), (0, 2), (3, 6), (7, 9), (9, 11), (11, 12), (13, 19), (0, 0)],
        word_ids=[None, 0, 1, 2, 2, 3, 4, None],
    )
    best = [1, 0, 1, 2, 0, 0, 1, 1]
    logits = np.eye(3, dtype=np.float32)[best] * 9
    about = {"labels": ["O", "B-place", "I-place"], "splits": ["punctuation", "chinese"]}
    found = tag.answer({"text": text}, row, {"logits": logits}, None, about)
    assert found["answer"] == [["place", "New York"], ["place", "Geneva"]]
    assert found["spans"] == [[3, 11], [13, 19]]


@pytest.mark.parametrize("name", ["onnx/model_quantized.onnx", "tokenizer.json"])
def test_the_check_names_a_damaged_file(tagger, tmp_path, name):
    shutil.copytree(tagger, tmp_path / "copy")
    content = bytearray((tmp_path / "copy" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "copy" / name).write_bytes(content)
    checked = predict(tmp_path / "copy", "--check")
    assert checked.returncode == 1
    assert f"{name} is damaged" in checked.stderr


def test_the_check_names_another_answer(tagger, tmp_path):
    shutil.copytree(tagger, tmp_path / "copy")
    about = json.loads((tmp_path / "copy" / "bundle.json").read_text())
    about["check"][0]["int8"]["answer"] = [["place", "Atlantis"]]
    (tmp_path / "copy" / "bundle.json").write_text(json.dumps(about))
    checked = predict(tmp_path / "copy", "--check")
    assert checked.returncode == 1
    assert "int8 weights" in checked.stderr
    assert "Atlantis" in checked.stderr


def test_own_examples_are_stored(prepared, tmp_path):
    write_bundle(weights_of(prepared, "classify"), tmp_path / "out", examples=[{"text": "mine", "pair": "own"}])
    stored = json.loads((tmp_path / "out" / "bundle.json").read_text())["check"]
    assert [case["input"] for case in stored] == [{"text": "mine", "pair": "own"}]


@pytest.mark.parametrize(
    ("kind", "example", "message"),
    [
        ("classify", {"text": "a", "choices": ["x"]}, "cannot have"),
        ("classify", {"text": "a", "pair": 5}, 'an input of this model is {"text": "..."} or'),
        ("choose", {"text": "a"}, r'an input of this model is .*"choices"'),
        ("choose", {"text": "a", "choices": ["x", 5]}, "a list of texts"),
        ("span", {"text": "who?"}, '"pair": "the text that answers it"'),
        ("tag", {"words": "a b"}, r'or {"words": \["...", "..."\]}'),
        ("fill_mask", {"text": "nothing hidden"}, r"there is no \[MASK\] in the text"),
    ],
)
def test_examples_that_cannot_be_answered_are_refused(prepared, tmp_path, kind, example, message):
    with pytest.raises(UserError, match=message):
        write_bundle(weights_of(prepared, kind), tmp_path / "out", examples=[example])
    assert list(tmp_path.iterdir()) == []


def test_files_of_examples_name_the_wrong_line(tmp_path):
    file = tmp_path / "examples.jsonl"
    for content, message in (
        ('{"text": "a"}\n{', ":2: not JSON"),
        ('{"text": "a", "id": ' + "9" * 5000 + "}", ":1: .*thousands of digits"),
        ('{"text": ' + "[" * 200_000, ":1: .*nested too deeply"),
        ('{"text": "\\ud800"}', ":1: .*without its other half"),
        ('{"txt": 1}', ":1: an example is"),
        ("\n", "no example"),
    ):
        file.write_text(content)
        with pytest.raises(UserError, match=message):
            read_examples(file)
    file.write_bytes(b'\xef\xbb\xbf{"text": "a\xe2\x80\xa8b"}\r\n')
    assert read_examples(file) == [{"text": "a\u2028b"}]


def test_the_check_names_a_missing_file(tagger, tmp_path):
    shutil.copytree(tagger, tmp_path / "copy")
    (tmp_path / "copy" / "tokenizer.json").unlink()
    checked = predict(tmp_path / "copy", "--check")
    assert checked.returncode == 1
    assert checked.stderr.strip() == "tokenizer.json is missing"


def test_a_bundle_needs_a_tokenizer_and_leaves_nothing_without(prepared, tmp_path):
    given = dataclasses.replace(weights_of(prepared, "classify"), tokenizer=None)
    with pytest.raises(UserError, match="have no tokenizer"):
        write_bundle(given, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_files_are_the_script_the_models_and_their_description(tagger):
    files = {path.relative_to(tagger).as_posix() for path in tagger.rglob("*") if path.is_file()}
    assert files == {"README.md", "bundle.json", "predict.py", "tokenizer.json", *bundle.MODELS.values()}
    script = (tagger / "predict.py").read_text()
    assert "bertlite_jax" not in script
    assert script.count("def answer(") == 1


@pytest.mark.slow
def test_an_empty_environment_with_the_two_packages_is_enough(tagger, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "onnxruntime", "tokenizers"]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip("onnxruntime and tokenizers cannot be installed here")
    checked = subprocess.run([python, tagger / "predict.py", "--check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
