"""A quantised task model is measured by the first metric that `predict` prints, for every head with labels."""

import json
import pathlib

import numpy as np
import pytest
import thorough
from int8_examples import MODEL, WORDS, trained_like, write_text

from bertlite_jax.config.int8 import Int8Options
from bertlite_jax.config.model import Head
from bertlite_jax.convert.int8 import convert, labelled, measuring_text
from bertlite_jax.convert.int8.labelled import Scorer
from bertlite_jax.data.examples import features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import open_model, scoring
from bertlite_jax.jobs.answering.predict import readable

CLASSIFIER = Head(labels=("no", "yes"))
TEXTS = [" ".join(WORDS[i : i + 4]) for i in range(11)]
HEADS = {
    "accuracy": CLASSIFIER,
    "f1_micro": Head(labels=("a", "b", "c"), problem="multi_label"),
    "pearson": Head(labels=("score",), problem="regression"),
    "span_f1": Head(kind="tag", labels=("B-X", "B-Y", "I-X")),
    "choose": Head(kind="choose", labels=()),
}


def record(head: Head, text: str) -> dict:
    """An input without its label."""
    if head.kind == "tag":
        return {"words": text.split()}
    if head.kind == "choose":
        return {"text": text, "choices": ["the lamp", "nobody knew why", text]}
    return {"text": text, "pair": text.split()[0]}


def answers_as_data(weights, head: Head, folder: pathlib.Path) -> str:
    """A file whose labels are the float32 model's own answers, as `predict` gives them."""
    kinds = {"label": "label", "labels": "labels", "value": "label", "tags": "tags", "choice": "label"}
    records = [record(head, text) for text in TEXTS]
    examples = [
        Example(
            str(n),
            each.get("text", ""),
            each.get("pair"),
            tuple(each.get("choices", ())),
            words=tuple(each.get("words", ())),
        )
        for n, each in enumerate(records)
    ]
    logits, _ = open_model.open_task_model(str(folder), weights).answer(examples)
    for each, example, row in zip(records, examples, logits, strict=True):
        answer = readable(head, example, row)
        each |= {kinds[name]: value for name, value in answer.items() if name in kinds}
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return str(folder / "data.jsonl")


@pytest.mark.parametrize("name", thorough.but(["accuracy", "span_f1"], HEADS))
def test_the_float_model_is_right_in_its_own_answers(name, tmp_path):
    """So float32 scores 1, whichever the head; both halves of a window and every row of the last batch are in place."""
    head = HEADS[name]
    weights = trained_like(tmp_path, MODEL, head)
    data = answers_as_data(weights, head, tmp_path)
    options = Int8Options(data=data, max_drop=1, rows=8, length=32)
    scorer = scoring.scorer_of(str(tmp_path), head)
    figures = convert.int8(weights, tmp_path / "out", [write_text(tmp_path)], options, scorer=scorer)
    assert figures["metric"] == ("accuracy" if name == "choose" else name)
    assert figures["before"] == pytest.approx(1.0, abs=1e-3)  # JAX may compute in bfloat16.
    assert figures["answers"] == len(TEXTS)
    assert figures["drop"] == figures["before"] - figures["after"]
    assert f"{figures['metric']}: {figures['before']:.4f} to {figures['after']:.4f} (11 answers)" in convert.report(
        figures
    )


def test_the_logits_of_tags_are_those_of_the_first_pieces_of_words(tmp_path):
    weights = trained_like(tmp_path, MODEL, HEADS["span_f1"])
    assert weights.tokenizer is not None
    examples = [Example("0", "", words=("lamp", "nobody")), Example("1", "", words=("darkest",))]
    encoded = features.encode(examples, weights.tokenizer, HEADS["span_f1"], 32, "here")
    numbered = np.repeat(np.arange(len(encoded.tokens)), 3).reshape(-1, 3)
    found = labelled.of_examples(numbered, encoded, HEADS["span_f1"])
    assert [len(rows) for rows in found] == [2, 1]
    assert [rows[0, 0] for rows in found] == [1, encoded.offsets[1] + 1]  # Behind [CLS].


def test_every_text_is_measured_once_also_those_of_the_last_part_of_a_batch(tmp_path):
    weights = trained_like(tmp_path, MODEL, CLASSIFIER)
    lines = [json.dumps({"text": text, "label": "yes"}) for text in TEXTS]
    (tmp_path / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    scorer = scoring.scorer_of(str(tmp_path), CLASSIFIER)
    text = convert.read_text(weights, [write_text(tmp_path)], str(tmp_path / "data.jsonl"), 8, 16, scorer=scorer)
    assert [len(batch["input_ids"]) for batch in text.evaluation] == [8, 3]


def test_an_unknown_label_is_named_with_those_that_exist(tmp_path):
    weights = trained_like(tmp_path, MODEL, CLASSIFIER)
    (tmp_path / "data.tsv").write_text("text\tlabel\nthe lamp\tperhaps\n", encoding="utf-8")
    scorer = Scorer("accuracy", lambda *_: 0.0)
    with pytest.raises(UserError, match=r'data.tsv:2: the label is "perhaps"; the model\'s labels are: no, yes$'):
        measuring_text.labelled(weights, str(tmp_path / "data.tsv"), 16, scorer)


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (HEADS["f1_micro"], '{"text": "...", "label": ["a"]}'),
        (HEADS["pearson"], '{"text": "...", "label": 0.5}'),
        (HEADS["span_f1"], '{"words": ["..."], "tags": ["B-X"]}'),
        (HEADS["choose"], '{"text": "...", "choices": ["...", "..."], "label": 0}'),
    ],
)
def test_a_missing_label_is_refused_with_a_line_of_the_models_own_kind(head, line, tmp_path):
    (tmp_path / "data.jsonl").write_text(json.dumps(record(head, "the lamp")), encoding="utf-8")
    with pytest.raises(UserError) as raised:
        labelled.read_labelled(str(tmp_path / "data.jsonl"), head)
    assert str(raised.value) == f"convert: {tmp_path}/data.jsonl:1: no label; {line} is a valid line"


@pytest.mark.parametrize(
    ("head", "output", "answers"),
    [
        (CLASSIFIER, "states", r"has no answers with labels \(its output is states\)"),
        (CLASSIFIER, "sentence", r"has no answers with labels \(its output is sentence\)"),
        (Head(kind="span", labels=()), "auto", "answers questions about texts"),
    ],
)
def test_examples_are_refused_where_no_answer_has_a_label(head, output, answers, tmp_path):
    weights = trained_like(tmp_path, MODEL, head)
    with pytest.raises(UserError, match=f"--data scores labels, .* {answers}; leave --data out"):
        convert.int8(weights, tmp_path / "out", ["text"], Int8Options(output=output, data="data.jsonl"))
