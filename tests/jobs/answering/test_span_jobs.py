"""Questions about texts, from a file to answers: a tiny model learns to find who is named, and that nobody is."""

import dataclasses
import io
import json
import pathlib

import numpy as np
import pytest
import thorough
from toy_task import MODEL, paragraphs, recipe_for, write_encoder, write_squad

from bertlite_jax.config.model import Head
from bertlite_jax.convert import sources
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.int8 import convert
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.model import build_onnx
from bertlite_jax.data.scores import squad_metrics
from bertlite_jax.data.scores.answers import Answer, Prediction
from bertlite_jax.data.tasks import questions
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import span_predict
from bertlite_jax.jobs.answering.predict import predict
from bertlite_jax.jobs.answering.predict_split import predict_split
from bertlite_jax.jobs.finetuning.examples import open_evaluation
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.jobs.finetuning.prepare import prepare

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def squad(tmp_path_factory) -> pathlib.Path:
    return write_squad(tmp_path_factory.mktemp("squad"))


@pytest.fixture(scope="module")
def encoder(prepared, tmp_path_factory) -> str:
    """An ALBERT, which transformers has a class for."""
    model = dataclasses.replace(MODEL, share="all")
    return write_encoder(tmp_path_factory.mktemp("encoder") / "encoder", prepared.tokenizer, model)


def trained_run(span: str, squad: pathlib.Path, encoder: str, folder: pathlib.Path) -> pathlib.Path:
    finetune(recipe_for(squad, span), str(folder / span), encoder)
    return folder / span


@pytest.fixture(scope="module")
def independent(squad, encoder, tmp_path_factory) -> pathlib.Path:
    return trained_run("independent", squad, encoder, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def conditioned(squad, encoder, tmp_path_factory) -> pathlib.Path:
    return trained_run("conditioned", squad, encoder, tmp_path_factory.mktemp("trained"))


@pytest.fixture(params=thorough.but(["independent"], ["independent", "conditioned"]))
def trained(request) -> pathlib.Path:
    return request.getfixturevalue(request.param)


def summary_of(run: pathlib.Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def predicted(run, inputs: pathlib.Path, **options) -> list[dict]:
    out = io.StringIO()
    predict(str(run), str(inputs), out, **options)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_it_finds_what_is_asked_for_and_that_it_is_not_there(trained):
    summary = summary_of(trained)
    assert summary["validation_questions"] == 37 < summary["validation_examples"]  # Windows.
    assert summary["answer_exact"] > 0.8
    assert summary["answerable_f1"] > 0.7
    assert summary["unanswerable_exact"] > 0.7


def test_the_score_of_the_best_threshold_stands_apart(trained):
    summary = summary_of(trained)
    assert summary["best_f1"] >= summary["answer_f1"] - 1e-9
    assert np.isfinite(summary["best_f1_threshold"])


def test_the_official_file_has_the_official_score(trained, squad):
    texts = json.loads((trained / "predictions.json").read_text())
    examples = list(questions.read([str(squad / "dev-v2.0.json")]))
    assert squad_metrics.score(examples, texts)["f1"] == pytest.approx(100 * summary_of(trained)["answer_f1"])


def test_the_tables_hold_every_question_once(trained):
    summary = summary_of(trained)
    for table in ("by_answer_length", "by_question_word"):
        assert sum(row["questions"] for row in summary[table].values()) == 37
    assert summary["by_question_word"].keys() == {"who"}
    assert summary["by_answer_length"].keys() == {"none", "1"}  # Articles do not count.


def test_answers_come_with_their_characters(trained, squad, tmp_path):
    asked = [(part["context"], part["qas"][0]) for part in paragraphs(37, 1)]
    lines = tmp_path / "asked.jsonl"
    lines.write_text("".join(json.dumps({"question": qa["question"], "context": c}) + "\n" for c, qa in asked))
    found = predicted(trained, lines, n_best=3)
    right = json.loads((trained / "predictions.json").read_text())
    assert [line["id"] for line in found] == [str(number) for number in range(1, 38)]
    assert [line["answer"] for line in found] == [right[qa["id"]] for _, qa in asked]
    for line, (context, _) in zip(found, asked, strict=True):
        for answer in [line, *line["answers"]]:
            if answer["answer"]:
                assert context[answer["start"] : answer["end"]] == answer["answer"]
        assert 1 <= len(line["answers"]) <= 3
        scores = [answer["score"] for answer in line["answers"]]
        assert scores == sorted(scores, reverse=True)
        assert 0 <= line["no_answer_probability"] <= 1


@pytest.mark.parametrize("span", ["independent", "conditioned"])
def test_the_threshold_decides_whether_there_is_an_answer(span):
    """Two answers, of scores 2 and 1, and no answer with a score of 2.5 or a logit of 0.5."""
    head = Head(kind="span", labels=(), span=span, no_answer=True)
    found = Prediction("q", (Answer("a b", 3, 6, 2.0, 0.7), Answer("b", 5, 6, 1.0, 0.3)), 0.5)
    given = span_predict.readable(found, head, 2, null_threshold=0.6)
    assert (given["answer"], given["start"], given["end"]) == ("a b", 3, 6)
    refused = span_predict.readable(found, head, 2, null_threshold=0.4)
    assert (refused["answer"], refused["start"], refused["score"]) == ("", None, None)
    assert [answer["answer"] for answer in refused["answers"]] == ["a b", "b"]
    scores = np.exp([2.0, 1.0, 2.5])
    share = scores[2] / scores.sum() if span == "independent" else 1 / (1 + np.exp(-0.5))
    assert refused["no_answer_probability"] == pytest.approx(share, abs=1e-6)
    assert "no_answer_score" not in span_predict.readable(found, head, 1, null_threshold=None)


def test_a_text_without_a_character_has_no_answer_and_is_json():
    nothing = Prediction("q", (), float("inf"))
    line = span_predict.readable(nothing, Head(kind="span", labels=(), no_answer=True), 3, null_threshold=0.0)
    assert json.loads(json.dumps(line, allow_nan=False)) | {"answer": "", "answers": []} == line


def test_a_split_is_answered_and_scored(independent, squad, tmp_path):
    official = tmp_path / "answers.json"
    scores = predict_split(
        str(independent), "squad2", str(squad), "validation", io.StringIO(), predictions=str(official)
    )
    summary = summary_of(independent)
    assert {name: summary[name] for name in scores} == pytest.approx(scores, abs=1e-4)
    assert json.loads(official.read_text()) == json.loads((independent / "predictions.json").read_text())


def test_a_folder_in_place_of_the_official_file_is_refused_before_the_work(independent, squad, tmp_path):
    out, place = io.StringIO(), str(tmp_path)
    with pytest.raises(UserError, match="is a folder and is not replaced; name a file"):
        predict(str(independent), str(squad / "dev-v2.0.json"), out, predictions=place)
    with pytest.raises(UserError, match="is a folder and is not replaced; name a file"):
        predict_split(str(independent), "squad2", str(squad), "validation", out, predictions=place)
    assert not out.getvalue()


def test_windows_of_other_questions_in_the_row_do_not_matter(trained, squad):
    loaded = sources.load(trained)
    assert loaded.head
    setup = prepare(recipe_for(squad, loaded.head.span, pack=False), loaded, str(trained))
    pad_id = setup.start.tokenizer.pad_id
    evaluate = open_evaluation(setup.task, setup.start.config, setup.model, setup.mesh, 32, pad_id)
    figures = evaluate(loaded.params, setup.valid)
    summary = summary_of(trained)
    assert {name: summary[name] for name in figures} == pytest.approx(figures, abs=1e-4)


def test_an_export_answers_as_the_run_does_or_is_refused_in_a_line(trained, squad, tmp_path):
    loaded = sources.load(trained)
    assert loaded.head
    if loaded.head.conditioned:
        for write in (
            lambda: to_hf(loaded, tmp_path / "hf"),
            lambda: build_onnx(loaded, float32(loaded)),
            lambda: convert.int8(loaded, tmp_path / "int8", []),
        ):
            with pytest.raises(UserError, match=r"head.span = conditioned"):
                write()
        return
    to_hf(loaded, tmp_path / "hf")
    back = sources.load(tmp_path / "hf")
    assert back.head
    assert back.head.kind == "span"
    np.testing.assert_array_equal(back.params["head"]["output"]["kernel"], loaded.params["head"]["output"]["kernel"])


def test_files_with_answers_are_scored_as_the_task_is(independent, squad, tmp_path, capsys):
    """The same questions in SQuAD's layout, and as the lines that `datasets` writes, with further columns."""
    rows = []
    for part in paragraphs(37, 1):
        (qa,) = part["qas"]
        answers = {name: [answer[name] for answer in qa["answers"]] for name in ("text", "answer_start")}
        rows.append({"title": "x", "context": part["context"], "question": qa["question"], "answers": answers})
    lines = tmp_path / "dev.jsonl"
    lines.write_text("".join(json.dumps(row | {"id": f"q{n}"}) + "\n" for n, row in enumerate(rows)))
    summary = summary_of(independent)
    for place in (lines, squad / "dev-v2.0.json"):
        predicted(independent, place, metrics=str(tmp_path / "metrics.json"))
        figures = json.loads((tmp_path / "metrics.json").read_text())
        assert figures.pop("examples") == 37
        assert {name: summary[name] for name in figures} == pytest.approx(figures, abs=1e-4)
        assert f"answer_f1 {figures['answer_f1']:.4f}" in capsys.readouterr().err


def test_an_endless_question_is_cut_and_counted(trained, tmp_path, capsys):
    """huggingface/transformers #2548: what is left for the text behind a question of 600 words?"""
    asked = {"question": "who was it " * 200, "context": "she said so . " * 60 + "the queen"}
    (tmp_path / "asked.jsonl").write_text(json.dumps(asked) + "\n")
    (found,) = predicted(trained, tmp_path / "asked.jsonl")
    assert found["answer"] in asked["context"]
    assert "1 questions cut" in capsys.readouterr().err


@pytest.mark.parametrize(
    "context",
    [
        "T\x10his  is a \u2026na\u00efve caf\u0065\u0301 with the queen in Bonn",
        "\u00a0\u2028 the  queen\u200b\u00ad, \ufb01ne",
        "\U0001f4a9\U0001f4a9\U0001f4a9 the queen \U0001f469\u200d\U0001f467",
        "THE QUEEN \u0130\u1e9e the queen",
    ],
)
def test_answers_are_pieces_of_odd_texts_at_their_places(independent, context, tmp_path):
    """PaddleNLP #875, huggingface/transformers #3058: offsets shift behind such characters."""
    (tmp_path / "asked.jsonl").write_text(json.dumps({"question": "Who was it?", "context": context}) + "\n")
    (found,) = predicted(independent, tmp_path / "asked.jsonl", n_best=20, null_threshold=1e9)
    assert found["answers"]
    for answer in found["answers"]:
        assert answer["answer"] == context[answer["start"] : answer["end"]] != ""


def test_options_for_answers_are_refused_elsewhere(encoder):
    with pytest.raises(UserError, match="are for models that answer questions, not for"):
        predict(encoder, "-", io.StringIO(), n_best=3)
    with pytest.raises(UserError, match="does not answer questions"):
        predict_split(encoder, "squad2", "nowhere", "validation", io.StringIO())
