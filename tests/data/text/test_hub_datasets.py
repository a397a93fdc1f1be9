"""Text out of datasets on this disk, which are read by the same calls as those of the hub; or refused in one line."""

import json
import pathlib
import sys
from collections import Counter

import pytest

from bertlite_jax.cli.main import main
from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.data.text import hub_datasets
from bertlite_jax.data.text.documents import read_documents, read_sentences
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.text.corpus import build_corpus

datasets = pytest.importorskip("datasets")
pytestmark = [
    # Of pyarrow and pandas, on their way through `datasets`.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TEXTS = ["First paragraph. Two sentences.\nSecond one.", "你好。我是谁？", "No end of a sentence"]
DOCUMENTS = [["First paragraph. Two sentences.", "Second one."], ["你好。我是谁？"], ["No end of a sentence"]]


def rows(texts: list[str]):
    columns = {"id": list(range(len(texts))), "text": texts, "title": [text[:3] for text in texts]}
    return datasets.Dataset.from_dict(columns)


@pytest.fixture
def places(tmp_path, monkeypatch) -> dict[str, str]:
    """The same texts in each kind of place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    split = datasets.DatasetDict({"train": rows(TEXTS), "test": rows(["Another text."])})
    (tmp_path / "files").mkdir()
    for name, part in split.items():
        part.to_parquet(str(tmp_path / "files" / f"{name}-00000-of-00001.parquet"))
    split.save_to_disk(str(tmp_path / "saved"))
    rows(TEXTS).save_to_disk(str(tmp_path / "one"))
    return {
        "JSON lines": "rows.jsonl",
        "Parquet files": "hf://datasets/./files?split=train",
        "an absolute path": f"hf://datasets/{tmp_path}/files?split=train&field=text",
        "saved splits": "hf://datasets/./saved?split=train",
        "a saved split": "one",
        "a split in its folder": "saved/train",
    }


def read(place: str, **options) -> list[list[str]]:
    return list(read_documents([place], **options))


def refusal(place: str, **options) -> str:
    with pytest.raises(UserError) as caught:
        read(place, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_place_gives_the_same_documents(places):
    for name, place in places.items():
        counts = Counter()
        assert read(place, counts=counts) == DOCUMENTS, name
        assert counts["files"] == 1
    assert counts["bytes"] == sum(len(text.encode()) for text in TEXTS)


def test_without_a_split_it_is_train_or_the_only_one(places, caplog):
    assert read("hf://datasets/./saved") == DOCUMENTS
    assert read("saved") == DOCUMENTS
    assert "the split is train" in caplog.text
    assert read("hf://datasets/./files?split=test") == [["Another text."]]


def test_another_field_and_the_option_for_it(places):
    titles = [["Fir"], ["你好。"], ["No"]]
    assert read("hf://datasets/./files?field=title&split=train") == titles
    assert read("hf://datasets/./files?split=train", text_field="title") == titles


def test_an_example_without_text_is_an_empty_document(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    datasets.Dataset.from_dict({"text": ["one", None, "two"]}).save_to_disk(str(tmp_path / "gaps"))
    counts = Counter()
    assert read("gaps", counts=counts) == [["one"], ["two"]]
    assert counts["empty_documents"] == 1


def test_a_corpus_has_the_bytes_of_the_text_wherever_it_came_from(prepared, tmp_path, monkeypatch):
    """By one process or two. And tokenizers are trained on the same sentences."""
    monkeypatch.chdir(tmp_path)
    texts = ["\n".join(paragraphs) for paragraphs in read_documents([prepared.text])]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    rows(texts).save_to_disk(str(tmp_path / "one"))
    options = CorpusOptions(length=64, validation_fraction=0.1)
    for out, place, workers in (("a", "rows.jsonl", 1), ("b", "one", 1), ("c", "hf://datasets/./one?split=train", 2)):
        build_corpus([place], prepared.tokenizer, out, options, workers=workers)
    written = [
        {path.name: path.read_bytes() for path in pathlib.Path(out).iterdir() if path.suffix != ".json"}
        for out in ("a", "b", "c")
    ]
    assert written[0] == written[1] == written[2]
    assert list(read_sentences(["rows.jsonl"])) == list(read_sentences(["one"]))


REFUSED = {
    "hf://datasets/./files?split=dev": "no split 'dev'; name one with split=: ",
    "hf://datasets/./saved?split=dev": "no split 'dev'; name one with split=: train, test",
    "hf://datasets/./files?split=train&field=body": "no field 'body'; it has: id, text, title; name one with field=",
    "hf://datasets/./files?split=train&field=id": "example 1: the field 'id' holds int, not a string",
    "hf://datasets/./files?splt=train": "splt is none of what can be asked for: split, field, config, revision",
    "hf://datasets/./nowhere?split=train": "./nowhere is no folder on this disk",
    "hf://datasets/?split=train": "names no dataset; write hf://datasets/NAME?split=train&field=text",
    "hf://datasets/./empty?split=train": "there is no such dataset",
    "hf://datasets/./damaged?split=train": "cannot be read: ",
}


@pytest.mark.parametrize("place", REFUSED)
def test_what_is_wrong_is_one_line(place, places, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/train.parquet").write_bytes(b"PAR1 no more")
    line = refusal(place)
    assert line.startswith(f"corpus: {place}")
    assert REFUSED[place] in line


def test_several_configs_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}.parquet\n" for name in ("en", "de")
    )
    (tmp_path / "both").mkdir()
    (tmp_path / "both/README.md").write_text(card + "---\n")
    for name in ("en", "de"):
        rows([name]).to_parquet(str(tmp_path / "both" / f"{name}.parquet"))
    assert read("hf://datasets/./both?config=de") == [["de"]]
    assert "it has several configs; name one with config=: en, de" in refusal("hf://datasets/./both")
    assert "no config 'fr'; name one with config=: en, de" in refusal("hf://datasets/./both?config=fr")


def test_the_command_refuses_in_one_line_and_leaves_nothing(places, prepared, tmp_path, monkeypatch, capsys):
    out = str(tmp_path / "out")
    command = ["corpus", "hf://datasets/./files?split=dev", "--tokenizer", prepared.tokenizer, "--out", out]
    assert main([*command, "--workers", "1"]) == 2
    assert capsys.readouterr().err.startswith("corpus: hf://datasets/./files?split=dev: no split 'dev'")
    assert main([*command, "--beam"]) == 2
    assert "a dataset is read by one process; leave --beam out" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert main([*command, "--workers", "1"]) == 2
    assert capsys.readouterr().err.endswith("needs datasets; pip install 'bertlite_jax[datasets]'\n")
    assert not pathlib.Path(out).exists()
    assert not list(tmp_path.glob("out*"))


def test_a_dataset_that_the_hub_does_not_have_is_told(hub):
    hub_datasets._commit.cache_clear()
    assert refusal("hf://datasets/alice/nothing?split=train").startswith(
        "corpus: hf://datasets/alice/nothing?split=train: no such repository that this token may read; check the name"
    )
