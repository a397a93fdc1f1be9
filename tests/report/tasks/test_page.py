"""The report of a task model: figures known from arithmetic, and a page with all its parts."""

import dataclasses
import re
import sys

import numpy as np
import pytest

from bertlite_jax.config.finetune import Examples, Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.errors import UserError
from bertlite_jax.report import plots
from bertlite_jax.report.tasks import figures, page, task_plots
from bertlite_jax.report.tasks.figures import Answers, Shown

CONFIG = Finetuned(data=Examples(task="sst2", folder="GLUE"), head=Head(labels=("bad", "good")), init="runs/base")


# --- Confusions ------------------------------------------------------------------------------------------------------


def test_confusions_have_what_is_in_the_data_in_rows():
    found = figures.confusion(np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2]), 3)
    np.testing.assert_array_equal(found, [[1, 1, 0], [0, 1, 0], [1, 0, 2]])


def test_labels_have_precision_recall_and_f1():
    """Label 0: 1 right of 2 answers and 2 in the data. Label 1: of 2 and 1. Label 2: 2 of 2 and 3. Label 3: none."""
    rows = figures.by_label(np.array([[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]))
    assert rows[0] == (2, 0.5, 0.5, 0.5)
    assert rows[1] == (1, 0.5, 1.0, pytest.approx(2 / 3))
    assert rows[2] == (3, 1.0, pytest.approx(2 / 3), pytest.approx(4 / 5))
    assert rows[3] == (0, None, None, 0.0)


def test_scikit_learn_agrees():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    gold, answered = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    counts = figures.confusion(gold, answered, 5)
    np.testing.assert_array_equal(counts, sklearn.confusion_matrix(gold, answered))
    wanted = sklearn.precision_recall_fscore_support(gold, answered)
    ours = np.array(figures.by_label(counts), float)
    np.testing.assert_allclose(ours[:, [1, 2, 3, 0]].T, wanted)


def test_the_commonest_mistakes_come_first_and_right_answers_are_none():
    counts = np.array([[9, 1, 0], [4, 9, 0], [0, 2, 9]])
    assert figures.most_confused(counts) == [(1, 0, 4), (2, 1, 2), (0, 1, 1)]


# --- Calibration -----------------------------------------------------------------------------------------------------


def test_calibration_error_is_the_weighted_distance_of_confidence_and_right():
    """Two answers in either bin: (2 |0.5 - 0.55| + 2 |1 - 0.95|) / 4 = 0.05.

    Bin (0.5, 0.6]: mean probability 0.55, 1 of 2 right. Bin (0.9, 1]: mean probability 0.95, 2 of 2 right.
    """
    bins = figures.calibration(np.array([0.52, 0.58, 0.91, 0.99]), np.array([1, 0, 1, 1]))
    assert [(each.low, each.count, each.right) for each in bins] == [(0.5, 2, 0.5), (0.9, 2, 1.0)]
    assert figures.expected_calibration_error(bins) == pytest.approx(0.05)


def test_the_ends_of_the_scale_lie_in_the_outer_bins():
    bins = figures.calibration(np.array([0.0, 0.1, 0.1000001, 1.0]), np.array([0, 0, 1, 1]))
    assert [(each.low, each.high, each.count) for each in bins] == [(0.0, 0.1, 2), (0.1, 0.2, 1), (0.9, 1.0, 1)]


def test_answers_as_often_right_as_their_probability_have_no_error():
    confidence = np.repeat([0.65, 0.95], [100, 100])
    right = np.r_[np.arange(100) < 65, np.arange(100) < 95]
    assert figures.expected_calibration_error(figures.calibration(confidence, right)) == pytest.approx(0.0)
    assert figures.expected_calibration_error([]) == 0.0


# --- Losses ----------------------------------------------------------------------------------------------------------


def test_losses_are_in_nats_and_finite():
    assert figures.cross_entropy(np.array([0.25, 0.75]), 0) == pytest.approx(np.log(4))
    assert figures.cross_entropy(np.array([0.0, 1.0]), 0) == 100.0
    found = figures.binary_cross_entropy(np.array([0.5, 0.25]), (1, 0))
    assert found == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)


def test_the_hardest_come_first_and_equal_ones_in_their_order():
    made = [Shown(name, "a", "b", 0.5, loss) for name, loss in (("one", 1.0), ("two", 3.0), ("three", 1.0))]
    assert [each.text for each in figures.hardest(made, 3)] == ["two", "one", "three"]
    assert [each.text for each in figures.hardest(made, 1)] == ["two"]


# --- The page --------------------------------------------------------------------------------------------------------


def a_run(**parts) -> page.TaskRun:
    lines = [{"step": 10, "loss": 0.7, "accuracy": 0.5}, {"step": 20, "loss": 0.4, "accuracy": 0.8}]
    lines.append({"step": 20, "valid_accuracy": 0.75})
    summary = {"task": "sst2", "metric": "accuracy", "accuracy": 0.75, "majority_share": 0.5, "train_examples": 1234}
    return page.TaskRun(**({"name": "my run", "config": CONFIG, "lines": lines, "summary": summary} | parts))


def of_labels() -> Answers:
    gold, answered = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    shown = [Shown("a <b>fine</b> film", "good", "bad", 0.875, 2.25), Shown("dull", "bad", "bad", 0.9, 0.1)]
    rows = [{"threshold": 0.5, "precision": 0.75, "recall": 0.625, "coverage": 1.0}]
    return Answers(shown, gold, answered, np.array([0.9, 0.8, 0.875, 0.6]), gold == answered, thresholds=rows)


def test_pruned_models_are_shown_beside_the_whole_one():
    """0.72 is 90 % of 0.8."""
    whole = {"speed_up": 1.0, "accuracy": 0.8, "milliseconds": 9.0, "measured_speed_up": 1.0}
    half = {"speed_up": 2.5, "accuracy": 0.72, "milliseconds": 3.0, "measured_speed_up": 3.0}
    sizes = [{"parameters": 1_234_567, "layers": 6}, {"parameters": 345_678, "layers": 3}]
    summary = {
        **{"task": "sst2", "metric": "accuracy", "pruned_from": "runs/<sst2>", "length": 128, "threads": 1},
        **{"products": "int8", "cpu": "A CPU", "models": [whole | sizes[0], half | sizes[1]]},
    }
    text = page.render_pruned("small", summary)
    for wanted in ("Pruning: small", "runs/&lt;sst2&gt;", "128 tokens, on 1 thread(s) of A CPU, in int8", "2.5x"):
        assert wanted in text, wanted
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", text)
    assert cells[:7] == ["whole", "0.8000", "100.0 %", "9.000", "1.00", "1,234,567", "6"]
    assert cells[7:] == ["2.5x", "0.7200", "90.0 %", "3.000", "3.00", "345,678", "3"]
    assert text.count("<img") == 1


def test_a_page_has_scores_confusions_calibration_thresholds_and_hard_examples():
    text = page.render(a_run(answers=of_labels()))
    for wanted in ("my run", "0.7500", "1,234", "Commonest label: 50.0 %", "Confusions", "Calibration", "62.5 %"):
        assert wanted in text, wanted
    assert "a &lt;b&gt;fine&lt;/b&gt; film" in text, "texts are data, never HTML"
    assert "answered: <b>bad</b> (87.5 %); loss 2.25" in text
    assert text.index("a &lt;b&gt;fine") < text.index("dull")
    assert text.count("<img") == 4, "loss, accuracy, confusions, calibration"
    assert "Not finished" not in text
    assert "http" not in text.replace("http://www.w3.org", ""), "nothing is fetched"


def test_an_unfinished_run_without_data_here_has_a_page():
    text = page.render(a_run(summary={}, missing="task: GLUE: no validation file"))
    assert "Not finished: step 20" in text
    assert "No answers to look at: task: GLUE: no validation file." in text


def test_numbers_and_groups_have_their_own_parts():
    groups = {"by_question_word": {"who": {"questions": 12, "exact": 50.0, "f1": 66.666}}}
    text = page.render(a_run(answers=Answers(numbers=np.array([[1.0, 2.0], [4.0, 4.0]]), groups=groups)))
    assert "Mean distance 0.5, root of the mean square 0.707." in text  # (1 + 0) / 2; sqrt((1 + 0) / 2)
    assert "By question word" in text
    assert "66.7" in text
    assert "Confusions" not in text
    assert "Calibration" not in text


def test_several_seeds_show_their_spread_and_the_best():
    summary = {"task": "sst2", "metric": "accuracy", "accuracy": 0.8, "accuracy_min": 0.7, "accuracy_max": 0.9}
    runs = [(f"seed-{seed}", {"accuracy": value, "steps": 30}) for seed, value in enumerate((0.7, 0.8, 0.9))]
    text = page.render_several(page.Several("many", summary | {"seeds": 3}, runs, a_run(name="seed-2")))
    for wanted in ("3 seeds", "Median accuracy", "0.7000 to 0.9000", "seed-1", "The best run: seed-2"):
        assert wanted in text, wanted


def test_a_probe_shows_each_layer():
    rows = [{"layer": layer, "accuracy": value} for layer, value in enumerate((0.5, 0.875, 0.75))]
    summary = {"task": "sst2", "metric": "accuracy", "accuracy": 0.875, "best_layer": 1, "layers": rows, "init": "base"}
    text = page.render_probe("p", summary | {"majority_share": 0.5})
    assert "Layer 1" in text
    assert "0.8750" in text
    assert text.count("<img") == 1


def test_long_examples_lose_their_middle():
    run = a_run(answers=Answers([Shown("a" * 5000 + "z", "good", "bad", None, 1.0)]))
    text = page.render(run)
    assert "a" * 400 + " … " in text
    assert "a" * 700 not in text
    assert "z</p>" in text


def test_pictures_are_svg_and_the_same_each_time():
    bins = figures.calibration(np.array([0.6, 0.7, 1.0]), np.array([1, 0, 1]))
    made = [
        lambda: task_plots.matrix(np.array([[3, 1], [0, 2000]]), ("bad", "a label of many many letters")),
        lambda: task_plots.reliability(bins),
        lambda: task_plots.numbers(np.array([[0.0, 1.0]])),
        lambda: task_plots.spread([0.5], ["seed-0"], "accuracy"),
        lambda: task_plots.layers([0.5, 0.25], "accuracy", [plots.Level("commonest label", 0.5)]),
    ]
    for draw in made:
        assert draw().startswith(b"<?xml")
        assert draw() == draw()


def test_a_missing_matplotlib_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="matplotlib is not installed"):
        page.render(a_run(answers=dataclasses.replace(of_labels())))
