"""What logits amount to, for each kind of head, by hand; and the folders that a report is made of."""

import json

import numpy as np
import pytest

from bertlite_jax.config.files import to_json
from bertlite_jax.config.finetune import Examples, Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.reports import tasks
from bertlite_jax.jobs.reports.report import report

LN3 = float(np.log(3))


def test_of_labels_the_likeliest_is_the_answer():
    """Logits (0, ln 3) are probabilities 1/4 and 3/4."""
    head = Head(labels=("bad", "good"))
    examples = [Example("1", "fine", label=1), Example("2", "dull", "or so", label=0)]
    found = tasks.judge(head, examples, [np.array([0.0, LN3])] * 2)
    first, second = found.examples
    assert (first.gold, first.answer) == ("good", "good")
    assert first.probability == pytest.approx(0.75)
    assert first.loss == pytest.approx(np.log(4 / 3))
    assert (second.text, second.gold, second.answer) == ("dull\nor so", "bad", "good")
    assert second.loss == pytest.approx(np.log(4))
    assert found.right.tolist() == [True, False]
    assert found.thresholds[0]["coverage"] == 1.0


def test_choices_have_no_confusions_but_are_sure_or_not():
    examples = [Example("1", "why?", choices=("so", "thus", "hence"), label=2)]
    found = tasks.judge(Head(kind="choose", labels=()), examples, [np.array([0.0, LN3, 0.0])])
    assert (found.examples[0].gold, found.examples[0].answer) == ("hence", "thus")
    assert found.confidence.tolist() == pytest.approx([0.6])
    assert found.right.tolist() == [False]
    assert not len(found.gold)


def test_each_of_several_labels_is_right_or_wrong():
    """Logits (ln 3, -ln 3): 3/4 and 1/4; the first is said, and it is right; the second is not, and it is wrong."""
    head = Head(labels=("sad", "long"), problem="multi_label")
    found = tasks.judge(head, [Example("1", "x", label=(1, 1))], [np.array([LN3, -LN3])])
    assert (found.examples[0].gold, found.examples[0].answer) == ("sad, long", "sad")
    assert found.examples[0].loss == pytest.approx((np.log(4 / 3) + np.log(4)) / 2)
    assert found.confidence.tolist() == pytest.approx([0.75, 0.75])
    assert found.right.tolist() == [True, False]
    groups = found.groups["by_label"]
    assert groups["sad"] == {"examples": 1, "precision": 100.0, "recall": 100.0, "F1": 100.0}
    assert groups["long"] == {"examples": 1, "recall": 0.0, "F1": 0.0}


def test_numbers_are_off_by_their_square():
    head = Head(labels=("score",), problem="regression")
    found = tasks.judge(head, [Example("1", "x", label=2.5)], [np.array([4.0])])
    assert found.examples[0].loss == pytest.approx(2.25)
    np.testing.assert_allclose(found.numbers, [[2.5, 4.0]])


def test_of_tags_only_words_with_a_label_that_fit_count():
    """Four words: right, without a label, wrong, cut off."""
    head = Head(kind="tag", labels=("O", "B-x"))
    example = Example("1", "", words=("to", "be", "in", "York"), label=(0, -1, 1, 1))
    found = tasks.judge(head, [example], [np.array([[LN3, 0.0]] * 3)])
    assert found.gold.tolist() == [0, 1]
    assert found.answered.tolist() == [0, 0]
    assert (found.examples[0].gold, found.examples[0].answer) == ("in B-x", "in O")
    assert found.examples[0].loss == pytest.approx((np.log(4 / 3) + np.log(4)) / 2)


def a_run(folder, data: str = "gone", **summary):
    folder.mkdir(parents=True)
    config = Finetuned(data=Examples(task="sst2", folder=data), head=Head(labels=("0", "1")), init="base")
    (folder / "config.json").write_text(to_json(config))
    lines = [{"step": 5, "loss": 0.5, "accuracy": 0.5}, {"step": 5, "valid_accuracy": summary["accuracy"]}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "summary.json").write_text(json.dumps({"task": "sst2", "metric": "accuracy"} | summary))


def test_a_run_whose_data_is_elsewhere_has_a_report(tmp_path):
    a_run(tmp_path / "run", accuracy=0.625)
    text = report(tmp_path / "run").read_text(encoding="utf-8")
    assert "Fine-tuning: run" in text
    assert "0.6250" in text
    assert "No answers to look at: task: gone" in text


def test_a_sweep_of_seeds_leads_to_its_best_run(tmp_path):
    for rate, best in (("lr-1", 0.7), ("lr-2", 0.9)):
        for seed, off in ((0, 0.0), (1, -0.1)):
            a_run(tmp_path / "sweep" / rate / f"seed-{seed}", accuracy=best + off)
        many = {"task": "sst2", "metric": "accuracy", "accuracy": best - 0.05, "best_run": f"elsewhere/{rate}/seed-0"}
        (tmp_path / "sweep" / rate / "summary.json").write_text(json.dumps(many | {"seeds": 2}))
    top = {"task": "sst2", "metric": "accuracy", "points": [], "best_run": "elsewhere/sweep/lr-2"}
    (tmp_path / "sweep" / "summary.json").write_text(json.dumps(top))
    text = report(tmp_path / "sweep").read_text(encoding="utf-8")
    assert "2 points of a sweep" in text
    assert "The best run: seed-0" in text
    assert "0.9000" in text


def test_a_summary_of_pruned_models_that_was_changed_is_named(tmp_path):
    row = {"speed_up": 2.0, "milliseconds": 3.0, "measured_speed_up": 2.0, "parameters": 5, "layers": 2, "f1": 0.5}
    known = {"task": "mrpc", "metric": "f1", "pruned_from": "runs/a", "length": 64, "threads": 1}
    summary = known | {"products": "int8", "cpu": "a CPU", "models": [row]}
    for changed, said in (
        ({"models": []}, "it has no models"),
        ({"models": [row | {"f1": "high"}]}, r"models\[0\]\.f1 should be"),
        ({"metric": "mcc"}, r"models\[0\]\.mcc is missing"),
        ({"threads": "one"}, "threads should be a whole number"),
    ):
        (tmp_path / "summary.json").write_text(json.dumps(summary | changed))
        with pytest.raises(UserError, match=rf"^report: .*summary\.json: {said}"):
            report(tmp_path)
