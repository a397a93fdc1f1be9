"""`data.added_file`: further training examples stand behind those of the training split, and nowhere else."""

import dataclasses
import pathlib

import pytest
from toy_task import recipe, write_csv, write_jsonl, write_sst2

from bertlite_jax.config import files
from bertlite_jax.config.finetune import Examples
from bertlite_jax.config.model import Head
from bertlite_jax.convert import sources
from bertlite_jax.data import tasks
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import task_splits
from bertlite_jax.jobs.finetuning import own_data
from bertlite_jax.jobs.finetuning.examples import training_examples
from bertlite_jax.jobs.finetuning.few_labels import unlabelled
from bertlite_jax.jobs.finetuning.finetune import read_by
from bertlite_jax.jobs.finetuning.prepare import digests, prepare
from bertlite_jax.jobs.runs import workdir

MORE = [{"text": "again the queen", "label": "1"}, {"text": "again the rabbit", "label": "0"}]


@pytest.fixture
def data(tmp_path: pathlib.Path) -> Examples:
    added = write_jsonl(tmp_path / "more.jsonl", MORE)
    return recipe(write_sst2(tmp_path), data={"added_file": added, "train_examples": 5}).data


def test_added_examples_follow_on_the_training_split_and_are_not_counted_in_its_limit(data: Examples):
    task = tasks.TASKS["sst2"]
    found = list(training_examples(task, data, task.head))
    assert [(example.text, example.label) for example in found[5:]] == [("again the queen", 1), ("again the rabbit", 0)]
    assert found[:5] == list(training_examples(task, dataclasses.replace(data, added_file=""), task.head))


def test_a_run_learns_them_and_is_another_run_with_others(data: Examples, encoder: str):
    config = dataclasses.replace(recipe(data.folder), data=data)
    setup = prepare(config, sources.load(encoder), encoder)
    assert setup.train.encoded.counts["examples"] == 7
    assert setup.train.encoded.labels.tolist()[-2:] == [1, 0]
    assert len(setup.valid.examples) == 29
    texts = [example.text for example in unlabelled.examples_of_training(setup)]  # What a teacher is asked.
    assert texts[-2:] == ["again the queen", "again the rabbit"]
    before = digests(setup)
    write_jsonl(pathlib.Path(data.added_file), MORE[:1])
    assert digests(prepare(config, sources.load(encoder), encoder)) != before
    assert data.added_file in read_by(setup.start.config)


def test_a_run_may_go_on_with_the_file_in_another_place(data: Examples, tmp_path: pathlib.Path):
    """What is in it is part of the digest of the training examples."""
    config = dataclasses.replace(recipe(data.folder), data=data)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / workdir.CONFIG).write_text(files.to_json(config))
    moved = dataclasses.replace(config, data=dataclasses.replace(data, added_file="elsewhere.jsonl"))
    assert workdir.changed_fields(tmp_path / "run", moved) == []
    shorter = dataclasses.replace(config, data=dataclasses.replace(data, length=16))
    assert workdir.changed_fields(tmp_path / "run", shorter) == ["data.length: 32 -> 16"]


def test_columns_are_called_as_in_a_file_of_ones_own(tmp_path: pathlib.Path):
    """A column that the added file lacks has a usual name."""
    table = pathlib.Path(write_csv(tmp_path / "own.csv"))
    table.write_text(table.read_text().replace("text,label", "review,verdict", 1))
    for number, names in enumerate((("review", "verdict"), ("text", "label"))):
        rows = [dict(zip(names, ("a queen", "queen"), strict=True))]
        added = write_jsonl(tmp_path / f"{number}.jsonl", rows)
        config = recipe(str(table), "", data={"text_column": "review", "label_column": "verdict", "added_file": added})
        decided = own_data.decided(config, "nowhere").data
        task = task_splits.task_of(decided)
        *_, last = training_examples(task, decided, task.head)
        assert (last.text, last.label) == ("a queen", task.head.labels.index("queen"))
        validation = list(task_splits.examples_of(task, decided, "validation"))
        assert "a queen" not in {example.text for example in validation}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "a", "label": "maybe"}, r"more\.jsonl: example 1 has the label maybe; those of the task are: 0, 1"),
        ({"label": "1"}, r"more\.jsonl:1"),
    ],
)
def test_what_cannot_be_learnt_is_named(data: Examples, row: dict, said: str):
    write_jsonl(pathlib.Path(data.added_file), [row])
    task = tasks.TASKS["sst2"]
    with pytest.raises(UserError, match=said):
        list(training_examples(task, data, task.head))


def test_an_example_without_a_label_is_refused(data: Examples, encoder: str):
    write_jsonl(pathlib.Path(data.added_file), [{"text": "a"}])
    with pytest.raises(UserError, match="1 training examples have no label"):
        prepare(dataclasses.replace(recipe(data.folder), data=data), sources.load(encoder), encoder)


def test_questions_about_texts_have_none(data: Examples, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bertlite_jax.jobs.finetuning.examples.examples_of", lambda *given: [Example("1", "a")])
    with pytest.raises(UserError, match=r"data\.added_file is not for questions about a text"):
        list(training_examples(tasks.TASKS["squad1"], data, Head(kind="span")))
