"""What a bundle's predict.py reads, and what it says of files and inputs that it cannot read."""

import io
import json
import pathlib
import runpy
import shutil
import sys

import numpy as np
import pytest
from bundle_examples import MODEL, drawn, weights_of

from bertlite_jax.config.model import Head
from bertlite_jax.convert.bundle import write_bundle
from bertlite_jax.convert.bundled import labels
from bertlite_jax.convert.huggingface.folder import from_hf, to_hf
from bertlite_jax.convert.onnx.folder import write as write_onnx
from bertlite_jax.convert.weights.folder import Weights, save_weights
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.jobs.answering.predict import predict as answer_lines
from bertlite_jax.jobs.answering.predict import readable


@pytest.fixture(scope="module")
def tagger(prepared, tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("bundle") / "tagger"
    write_bundle(weights_of(prepared, "tag"), out)
    return out


# --- The command line, in this process -------------------------------------------------------------------------------


@pytest.fixture
def called(monkeypatch, capsys):
    """Runs a bundle's predict.py with arguments; returns the exit status, standard output and standard error."""

    def run(folder: pathlib.Path, *words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["predict.py", *words])
        status: object = 0
        try:
            runpy.run_path(str(folder / "predict.py"), run_name="__main__")
        except SystemExit as ended:
            status = ended.code or 0
        return status, *capsys.readouterr()

    return run


def test_arguments_that_the_script_does_not_understand_show_its_usage(tagger, called):
    for words, said in (
        ([], "0 texts; one is expected"),
        (["--bogus"], "unknown option --bogus"),
        (["a text", "--flaot32"], "unknown option --flaot32"),
        (["a", "b", "c"], "3 texts; one is expected, or two that are a pair"),
        (["--file"], "--file takes the name of one file"),
        (["--file", "a", "b"], "--file takes the name of one file"),
        (["a", "--check"], "--check stands alone"),
    ):
        status, out, _ = called(tagger, *words)
        assert str(status).startswith(f"predict.py: {said}")
        assert "python predict.py --check" in str(status)
        assert not out
    status, out, _ = called(tagger, "--help")
    assert status == 0
    assert "python predict.py --check" in out


def test_the_name_of_a_file_is_a_text_with_a_warning(tagger, tmp_path, called):
    (tmp_path / "inputs.jsonl").write_text('{"text": "a"}\n')
    name = str(tmp_path / "inputs.jsonl")
    status, out, said = called(tagger, name)
    assert (status, len(out.splitlines())) == (0, 1)
    assert said == f"predict.py: {name} is answered as a text; --file reads the file of this name\n"
    for words in (["--file", name], ["-- a text of " + "many words " * 200]):
        status, _, said = called(tagger, *words)
        assert status == 0
        assert "--file" not in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "bundle.json cannot be read: "),
        ("", "bundle.json cannot be read: "),
        ("[" * 200_000, "bundle.json cannot be read: "),
        ('{"max_length": ' + "9" * 5000 + "}", "bundle.json cannot be read: "),
        ("[]", "bundle.json is damaged: kind, labels"),
        ('{"kind": "tag", "max_length": "96"}', "bundle.json is damaged: labels, max_length"),
    ],
)
def test_a_damaged_description_is_told_in_one_line(tagger, tmp_path, called, content, message):
    shutil.copytree(tagger, tmp_path / "copy")
    (tmp_path / "copy/bundle.json").unlink()
    if content is not None:
        (tmp_path / "copy/bundle.json").write_text(content)
    for words in (["--check"], ["a text"]):
        status, out, _ = called(tmp_path / "copy", *words)
        assert str(status).startswith(f"predict.py: {message}")
        assert len(str(status).splitlines()) == 1
        assert not out


def test_a_damaged_model_is_told_in_one_line(tagger, tmp_path, called):
    shutil.copytree(tagger, tmp_path / "copy")
    for name in ("onnx/model_quantized.onnx", "tokenizer.json"):
        (tmp_path / "copy" / name).write_bytes(b"\x08broken")
        status, _, _ = called(tmp_path / "copy", "a text")
        assert str(status).startswith("predict.py: the model cannot be loaded, see predict.py --check")
    about = json.loads((tagger / "bundle.json").read_text())
    (tmp_path / "copy/bundle.json").write_text(json.dumps(about | {"check": [{"input": 5}], "sha256": {}}))
    status, _, _ = called(tmp_path / "copy", "--check")
    assert "cannot be loaded" in str(status)
    shutil.copytree(tagger, tmp_path / "other")
    (tmp_path / "other/bundle.json").write_text(json.dumps(about | {"check": [{"input": 5}]}))
    status, _, _ = called(tmp_path / "other", "--check")
    assert "bundle.json is damaged: example 1 of its check" in str(status)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", ":2: not JSON"),
        (b"5", ":2: an input is an object"),
        (b'{"text": 5}', ":2: an input of this model is"),
        (b'{"text": "\xff"}', ":2: not JSON"),
        (b'{"text": "a", "id": ' + b"9" * 5000 + b"}", ":2: not JSON"),
        (b"[" * 200_000, ":2: not JSON"),
    ],
)
def test_a_bad_line_of_a_file_is_named_after_the_good_ones_are_answered(tagger, tmp_path, called, line, message):
    (tmp_path / "in.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "alice"}\r\n' + line + b"\n")
    status, out, _ = called(tagger, "--file", str(tmp_path / "in.jsonl"))
    assert str(status).startswith(f"predict.py: {tmp_path}/in.jsonl{message}")
    assert len(out.splitlines()) == 1
    status, _, _ = called(tagger, "--file", str(tmp_path / "none.jsonl"))
    assert "cannot be read: No such file" in str(status)


def test_halves_of_surrogate_pairs_are_replaced_and_counted(tagger, tmp_path, called):
    (tmp_path / "in.jsonl").write_text('{"text": "alice \\ud800 sat"}\n{"text": "and \\ud83d\\ude00"}\n')
    status, out, err = called(tagger, "--file", str(tmp_path / "in.jsonl"))
    assert status == 0
    assert len(out.splitlines()) == 2
    assert "1 inputs with half of a surrogate pair" in err
    status, out, _ = called(tagger, "bytes \udcc3\udca9 \udcff")
    assert status == 0


# --- What is read ----------------------------------------------------------------------------------------------------


def answers_of(folder: pathlib.Path, *items: dict, weights: str = "float32") -> list[dict]:
    script = runpy.run_path(str(folder / "predict.py"))
    model = script["load"](weights)
    return [script["predict"](model, item) for item in items]


def test_long_input_is_cut_and_said(tagger, tmp_path, called):
    long, short = answers_of(tagger, {"text": "alice sat " * 500}, {"text": "alice sat"})
    assert long["cut"] is True
    assert "cut" not in short
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": "a " * 500}) + '\n{"text": "a"}\n')
    _, _, err = called(tagger, "--file", str(tmp_path / "in.jsonl"))
    assert "predict.py: 1 of 2 inputs cut to 96 pieces" in err


def test_a_mask_behind_the_cut_is_refused(prepared, tmp_path):
    write_bundle(weights_of(prepared, "fill_mask"), tmp_path / "out")
    with pytest.raises(ValueError, match=r"1 \[MASK\] behind the 96 pieces that the model reads"):
        answers_of(tmp_path / "out", {"text": "a [MASK] " + "alice " * 500 + " [MASK]"})
    with pytest.raises(ValueError, match=r"there is no \[MASK\] in the text"):
        answers_of(tmp_path / "out", {"text": "alice"})
    (found,) = answers_of(tmp_path / "out", {"text": "a [MASK] " + "alice " * 500})
    assert len(found["answer"]) == 1


def test_a_tagger_reads_text_as_words_and_words_as_they_are(tagger):
    """The second and third input have the same words."""
    text = "alice, in New York, sat."
    plain, apart, joined = answers_of(
        tagger,
        {"text": text},
        {"words": ["alice", ",", "in", "New", "York", ",", "sat", "."]},
        {"words": ["alice,", "in", "New", "York,", "sat."]},
    )
    assert plain["score"] == apart["score"] != joined["score"]
    for label, part in plain["answer"]:
        assert label == "place"
        assert part in text
    assert [text[start:end] for start, end in plain["spans"]] == [part for _, part in plain["answer"]]
    for item in ({"text": ""}, {"text": " "}, {"words": []}):
        assert answers_of(tagger, item)[0]["answer"] == []


def test_a_tagger_finds_the_spans_that_predict_finds(prepared, tagger, tmp_path):
    texts = [
        "Alice, in New York (U.S.) on Monday, 3.14 p.m.: don't!",
        "\u6211\u5728\u5317\u4eac\uff0c ok",
        "\U0001f4a9 x \u200b y",
    ]
    save_weights(weights_of(prepared, "tag"), tmp_path / "ours")
    (tmp_path / "in.txt").write_text("".join(text + "\n" for text in texts))
    out = io.StringIO()
    answer_lines(str(tmp_path / "ours"), str(tmp_path / "in.txt"), out)
    ours = [json.loads(line)["spans"] for line in out.getvalue().splitlines()]
    theirs = answers_of(tagger, *({"text": text} for text in texts))
    assert any(ours)
    for spans, found in zip(ours, theirs, strict=True):
        assert [[span["start_char"], span["end_char"]] for span in spans] == found["spans"]
        assert [[span["label"], span["text"]] for span in spans] == found["answer"]


SPECIALS = ["nice [SEP] bad", "nice [MASK] day", "[PAD] x", "[CLS] [UNK]"]


@pytest.fixture(scope="module")
def odd_labels(prepared, tmp_path_factory) -> tuple[Weights, pathlib.Path]:
    """Labels that are no plain names (setfit #462, #587), and a bundle with them."""
    weights = drawn(prepared, MODEL, Head(labels=("1", "None", "true", " two words ", "1.0")), seed=1)
    out = tmp_path_factory.mktemp("odd") / "bundle"
    write_bundle(weights, out)
    return weights, out


def test_a_special_piece_in_a_text_is_text_as_in_predict(odd_labels, tmp_path):
    """As huggingface/tokenizers #722: the text would become the id that separates two texts."""
    weights, bundled = odd_labels
    save_weights(weights, tmp_path / "ours")
    (tmp_path / "in.txt").write_text("\n".join([*SPECIALS, "alice sat"]) + "\n")
    out = io.StringIO()
    answer_lines(str(tmp_path / "ours"), str(tmp_path / "in.txt"), out)
    ours = [json.loads(line) for line in out.getvalue().splitlines()]
    theirs = answers_of(bundled, *({"text": text} for text in (*SPECIALS, "alice sat")))
    for one, other in zip(ours, theirs, strict=True):
        assert one["label"] == other["answer"]
        assert list(one["probabilities"]) == list(other["scores"]) == list(weights.head.labels)
        assert list(one["probabilities"].values()) == pytest.approx(list(other["scores"].values()), abs=2e-3)
    separate = answers_of(bundled, {"text": "nice", "pair": "bad"})[0]["scores"]
    assert separate["1"] != pytest.approx(theirs[0]["scores"]["1"], abs=1e-4)


def test_labels_keep_name_and_order_in_every_export(odd_labels, tmp_path):
    weights, bundled = odd_labels
    names = list(weights.head.labels)
    assert json.loads((bundled / "bundle.json").read_text())["labels"] == names
    to_hf(weights, tmp_path / "hf")
    assert "split_special_tokens=True" in (tmp_path / "hf/README.md").read_text()
    write_onnx(weights, tmp_path / "onnx")
    for place in ("hf", "onnx"):
        stated = json.loads((tmp_path / place / "config.json").read_text())
        assert [stated["id2label"][str(number)] for number in range(5)] == names
        assert stated["label2id"] == {label: number for number, label in enumerate(names)}
    back = from_hf(tmp_path / "hf").head
    assert back is not None
    assert list(back.labels) == names


def test_several_labels_are_those_above_one_half_as_in_predict():
    logits = np.array([0.0, 1.0, -1.0], np.float32)
    found = labels.answer({}, None, {"logits": logits}, None, {"labels": ["a", "b", "c"]})
    head = Head(labels=("a", "b", "c"), problem="multi_label")
    assert found["answer"] == readable(head, Example("1", "x"), logits)["labels"] == ["b"]
