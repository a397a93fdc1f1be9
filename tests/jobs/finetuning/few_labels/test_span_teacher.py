"""A student of spans answers what its teacher answers, whatever the answers in its own file."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from toy_task import lines_of, paragraphs, recipe_for, write_jsonl, write_questions, write_squad

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.jobs.finetuning.finetune import finetune

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def teacher(encoder, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("teacher")
    finetune(recipe_for(write_squad(folder / "squad"), "independent"), str(folder / "run"), encoder)
    return folder / "run"


def without_answers(made: list[dict]) -> list[dict]:
    """The same questions, of which none has an answer any longer."""
    qas = [part["qas"][0] | {"answers": [], "is_impossible": True} for part in made]
    return [part | {"qas": [qa]} for part, qa in zip(made, qas, strict=True)]


@pytest.mark.thorough
def test_the_students_answers_are_the_teachers_where_the_file_has_none(teacher, encoder, tmp_path):
    write_questions(tmp_path / "squad/train-v2.0.json", without_answers(paragraphs(160, 0)))
    write_questions(tmp_path / "squad/dev-v2.0.json", paragraphs(37, 1))
    learn = Learn(teacher=str(teacher), teacher_weight=1.0, temperature=1.0)
    config = dataclasses.replace(recipe_for(tmp_path / "squad", "independent"), learn=learn)
    summary = finetune(config, str(tmp_path / "run"), encoder)
    theirs, ours = (json.loads((run / "predictions.json").read_text()) for run in (teacher, tmp_path / "run"))
    assert np.mean([ours[name] == theirs[name] for name in theirs]) > 0.85
    assert summary["answerable_f1"] > 0.7
    (file,) = (tmp_path / "run/learning").iterdir()
    assert np.load(file).shape[1] == 2


@pytest.mark.slow
def test_questions_without_answers_and_copies_are_taught_too(teacher, encoder, tmp_path):
    squad = write_squad(tmp_path / "squad")
    asked = [{"question": "Who was it?", "context": part["context"]} for part in paragraphs(30, 5)]
    texts = write_jsonl(tmp_path / "asked.jsonl", asked)
    learn = Learn(teacher=str(teacher), unlabelled=texts, unlabelled_batch=16, copies=1)
    config = recipe_for(squad, "independent")
    config = dataclasses.replace(config, learn=learn, run=dataclasses.replace(config.run, steps=40, eval_every=40))
    finetune(config, str(tmp_path / "run"), encoder)
    losses = [line["teacher_loss"] for line in lines_of(tmp_path / "run") if "teacher_loss" in line]
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
