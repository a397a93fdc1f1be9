"""Agora with real models, as small as they can be: two rounds, and what is done with the best model of them."""

import json
import pathlib

import numpy as np
import pytest
from toy_task import recipe, write_pretrained, write_sst2

from bertlite_jax.cli.main import main
from bertlite_jax.config import files
from bertlite_jax.config.agora.settings import Agora
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.convert import sources
from bertlite_jax.data import tasks
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.agora import agora, mistakes
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.jobs.reports.report import report

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("compiled_once")]

SETTINGS = Agora(learning_rates=(2e-3, 1e-5), batches=(16,), seeds=(0,), points=3, candidates=4, rounds=2)


@pytest.fixture(scope="module")
def place(prepared, encoder, tmp_path_factory) -> pathlib.Path:
    """`glue`, `pretrained` (the encoder, with its masked-LM head), `teacher`, and `out`: the loop."""
    place = tmp_path_factory.mktemp("agora")
    glue = write_sst2(place / "glue")
    init = write_pretrained(place / "pretrained", prepared.tokenizer)
    finetune(recipe(glue, run={"steps": 72, "eval_every": 24}), str(place / "teacher"), encoder)
    agora.agora(config(place), SETTINGS, str(place / "teacher"), str(place / "out"), init)
    return place


def config(place: pathlib.Path):
    return recipe(str(place / "glue"), run={"steps": 6, "eval_every": 6})


def lines(place: pathlib.Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (place / "out" / name).read_text().splitlines()]


def test_two_rounds_with_points_that_the_teacher_labelled(place: pathlib.Path):
    summary = json.loads((place / "out/summary.json").read_text())
    assert summary["teacher_right"] > 0.95
    first, *_ = lines(place, "history.jsonl")
    assert first["mistakes"] > 0
    points = (place / "out/points/round-002.jsonl").read_text().splitlines()
    assert 0 < len(points) == first["points"] <= 3 * first["mistakes"]
    head = tasks.TASKS["sst2"].head
    made = [Example(row["id"], row["text"]) for row in map(json.loads, points)]
    answers = mistakes.open_model(str(place / "teacher"), head)(made)
    assert [json.loads(row)["label"] for row in points] == [head.labels[int(each.argmax())] for each in answers]


def test_some_points_have_words_that_the_masked_language_model_proposed(place: pathlib.Path):
    validation = {e.id: e for e in tasks.read(tasks.TASKS["sst2"], str(place / "glue"), "validation")}
    rows = list(map(json.loads, (place / "out/points/round-002.jsonl").read_text().splitlines()))
    firsts = [(row["text"].split(), validation[row["id"].split("-")[1]].text.split()) for row in rows]
    assert any(len(new) == len(old) and not set(new) <= set(old) for new, old in firsts)
    assert list((place / "out/learning").glob("candidates-*.npy"))


def test_the_best_model_is_a_run_like_any_other(place: pathlib.Path, capsys):
    best, summary = place / "out/best", json.loads((place / "out/summary.json").read_text())
    assert json.loads((best / "summary.json").read_text())["accuracy"] == summary["accuracy"]
    stored = files.read_json(best / "config.json", Finetuned)
    assert stored.init == str(place / "pretrained")
    loaded = sources.load(best)
    assert loaded.head is not None
    assert loaded.head.labels == ("0", "1")
    texts = place / "texts.txt"
    texts.write_text("the queen went\nthe rabbit went\n")
    assert main(["predict", str(best), "--input", str(texts)]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 2
    assert main(["predict", str(best), "--task", "sst2", "--data", str(place / "glue"), "--split", "validation"]) == 0
    assert f"accuracy {summary['accuracy']:.4f}" in capsys.readouterr().err
    assert main(["convert", "onnx", str(best), str(place / "onnx")]) == 0
    assert "best" in report(best).read_text(encoding="utf-8")


def test_a_dry_run_times_a_few_steps(place: pathlib.Path, capsys):
    before = sorted(place.rglob("*"))
    init, teacher = str(place / "pretrained"), str(place / "teacher")
    agora.agora(config(place), SETTINGS, teacher, str(place / "dry"), init, dry_run=True)
    assert "2 sets in the first round" in capsys.readouterr().out
    assert sorted(place.rglob("*")) == before


def test_a_teacher_of_another_kind_is_refused_by_its_option(place: pathlib.Path, encoder):
    with pytest.raises(UserError, match=r"agora: --teacher .* is no fine-tuned model"):
        agora.agora(config(place), SETTINGS, encoder, str(place / "other"), str(place / "pretrained"))
    assert not (place / "other").exists()


def test_the_losses_of_the_second_round_are_those_of_fine_tuning_with_the_points(place: pathlib.Path):
    """The model of a set is what `bertlite finetune` makes of its recipe."""
    second = [line for line in lines(place, "results.jsonl") if line["round"] == 2]
    if not second:  # Both sets have gone in the first round.
        pytest.skip("there was no second round")
    (line,) = second
    rate = float(line["set"].split("-decay")[0].removeprefix("lr-"))
    one = recipe(
        str(place / "glue"),
        rate=rate,
        run={"steps": 6, "eval_every": 6, "seed": 0},
        data={"added_file": str(place / "out/points/round-002.jsonl")},
    )
    figures = finetune(one, str(place / "again"), str(place / "pretrained"))
    assert np.isclose(figures["accuracy"], line["score"])
