"""Two columns of one name: refused where it would be a guess which one is meant."""

import pytest
from task_files import examples, own, put

from bertlite_jax.config.model import Head
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import inputs


def refused(path: str, **settings) -> str:
    with pytest.raises(UserError) as caught:
        examples(own(path, **settings), "")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def parquet_of(tmp_path, names: list[str]) -> str:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    arrays = [pyarrow.array(["a", "b"]), pyarrow.array(["x", "y"]), pyarrow.array(["y", "x"])]
    parquet.write_table(pyarrow.Table.from_arrays(arrays, names=names), tmp_path / "own.parquet")
    return str(tmp_path / "own.parquet")


def file_with(tmp_path, suffix: str, names: list[str]) -> str:
    """A file of two examples with three columns of these names."""
    if suffix == "parquet":
        return parquet_of(tmp_path, names)
    rows = [("a", "x", "y"), ("b", "y", "x")]
    if suffix in ("csv", "tsv"):
        gap = "," if suffix == "csv" else "\t"
        return put(tmp_path, f"own.{suffix}", *(gap.join(row) for row in (names, *rows)))
    lines = [
        "{" + ", ".join(f'"{name}": "{cell}"' for name, cell in zip(names, row, strict=True)) + "}" for row in rows
    ]
    return put(tmp_path, f"own.{suffix}", *(lines if suffix == "jsonl" else [f"[{','.join(lines)}]"]))


FORMATS = ["csv", "tsv", "jsonl", "json", "parquet"]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("names", "option"),
    [
        (["text", "label", "Label"], "--data.label-column label"),
        (["Text", "TEXT", "label"], "--data.text-column Text"),
        (["text", "LABELS", "Labels"], "--data.label-column LABELS"),
    ],
)
def test_names_that_differ_only_in_case_are_asked_about(tmp_path, suffix, names, option):
    path = file_with(tmp_path, suffix, names)
    alike = [name for name in names if [each.casefold() for each in names].count(name.casefold()) > 1]
    said = refused(path)
    assert path in said
    assert f"the columns {alike[0]!r} and {alike[1]!r} differ only in case" in said
    assert said.endswith(f"name the one that is meant as it is written: {option}")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_column_that_is_named_as_it_is_written_is_no_guess(tmp_path, suffix):
    path = file_with(tmp_path, suffix, ["text", "label", "Label"])
    for name, first in (("label", "x"), ("Label", "y")):
        task = own(path, label=name)
        assert task.head.labels[examples(task, "")[0].label] == first  # type: ignore[index]
    assert "differ only in case" in refused(path, label="LABEL")


@pytest.mark.parametrize("suffix", FORMATS)
def test_namesakes_that_nobody_reads_are_left_alone(tmp_path, suffix):
    assert len(examples(own(file_with(tmp_path, suffix, ["text", "label", "x"])), "")) == 2
    path = put(tmp_path, "more.csv", "text,label,note,Note", "a,x,1,2", "b,y,1,2")
    assert len(examples(own(path), "")) == 2


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("names", [["text", "label", "label"], ["text", "text", "label"]])
def test_the_same_name_twice_is_refused(tmp_path, suffix, names):
    """Python's reader of JSON keeps the last, Arrow's rows too."""
    path = file_with(tmp_path, suffix, names)
    twice = next(name for name in names if names.count(name) > 1)
    said = refused(path)
    assert path in said
    assert f"two columns are called {twice!r}" in said or f"an object has the name {twice!r} twice" in said


def test_the_line_of_an_object_with_a_name_twice_is_told(tmp_path):
    good, bad = '{"text": "a", "label": "x"}', '{"text": "b", "label": "y", "label": "z"}'
    path = put(tmp_path, "own.jsonl", good, bad)
    assert refused(path) == f"task: {path}:2: an object has the name 'label' twice; only one of them can be meant"
    path = put(tmp_path, "own.json", "[", f"{good},", bad, "]")
    assert refused(path) == f"task: {path}:3: an object has the name 'label' twice; only one of them can be meant"


def test_predict_asks_too(tmp_path):
    head = Head(labels=("x", "y"))
    for name, line in (("a.jsonl", {"Text": "a", "TEXT": "b"}), ("b.jsonl", '{"text": "a", "text": "b"}')):
        path = put(tmp_path, name, line)
        with pytest.raises(UserError, match=rf"predict: {path}:1: .*('Text' and 'TEXT'|'text' twice)"):
            list(inputs.read(path, head))
