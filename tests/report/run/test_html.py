"""The report is one file that needs nothing else, shows what the run measured, and never passes text off as markup."""

import base64
import dataclasses
import math
import re
import sys
import typing
import xml.etree.ElementTree

import pytest
from html_reader import Reader

from bertlite_jax.config.distillation.settings import Distill, Distillation
from bertlite_jax.config.pretrain import Data, Mask, Optim, Pretrain, Run
from bertlite_jax.config.schedule import stages
from bertlite_jax.errors import UserError
from bertlite_jax.report import plots
from bertlite_jax.report.cost import flops
from bertlite_jax.report.run import html

CONFIG = Pretrain(data=Data(corpus=("corpora/a",), batch_rows=64))
TRAIN = [
    {
        "step": step, "loss": 7 - step / 100, "mlm_loss": 6 - step / 100, "mlm_accuracy": step / 1000,
        "pair_accuracy": 0.5, "learning_rate": 1e-3, "grad_norm": 0.7, "tokens_per_second": 1000.0 + step,
        "mfu": 0.41, "data_wait": 0.004,
    }
    for step in range(10, 110, 10)
]  # fmt: skip
VALID = {
    "step": 100, "valid_mlm_loss": 5.1, "valid_mlm_accuracy": 0.123, "unigram_entropy": 6.2, "majority_accuracy": 0.05,
    "valid_pair_accuracy": 0.61, "pair_label_prior": 0.52,
}  # fmt: skip
SUMMARY = {"steps": 100, "wall_seconds": 723.4, "parameters": 11_813_810, "hf_max_abs_diff": None,
           "valid_mlm_loss": 5.1, "time_shares": {"step": 0.93, "data": 0.07}}  # fmt: skip
RUN = html.Run(name="base", config=CONFIG, lines=[*TRAIN, VALID], summary=SUMMARY)


def picture_texts(reader: Reader) -> list[str]:
    return [base64.b64decode(picture["src"].split(",", 1)[1]).decode() for picture in reader.pictures]


# --- The page ----------------------------------------------------------------------------------------------------


def test_it_needs_no_other_file_and_runs_no_script():
    text = html.render(RUN)
    reader = Reader(text)
    assert reader.links
    assert all(link.startswith("data:image/svg+xml;base64,") for link in reader.links)
    assert not {"script", "link", "iframe"} & reader.tags
    assert "url(" not in text
    assert "@import" not in text


def test_a_schedule_is_a_table_with_what_a_step_costs():
    assert "Schedule" not in Reader(html.render(RUN)).text
    run = Run(steps=200, lengths=((128, 50),), batches=((16, 100),))
    changing = Pretrain(data=Data(length=512, batch_rows=64), mask=Mask(first_rate=0.3), run=run)
    page = html.render(dataclasses.replace(RUN, config=changing))
    assert '<td>1 to 50</td><td class="number">128</td><td class="number">16</td>' in page
    text = Reader(page).text
    for stage in stages(changing):
        assert f"{flops.train_flops_per_step(stage.config) / 1e12:.4g} TFLOP" in text
    assert "64 rows of 512 tokens a step at the end (see the schedule)" in text


def test_the_headline_gives_each_figure_beside_what_needs_no_model():
    text = Reader(html.render(RUN)).text
    for figure, baseline in (("5.100", "6.200"), ("12.3 %", "5.0 %"), ("61.0 %", "52.0 %")):
        assert text.index(figure) < text.index(baseline)
    assert "1,060" in text  # the median of 1,010 to 1,100, the upper of the two in the middle
    assert "12:03" in text
    assert "11,813,810" in text


def test_the_headline_names_every_optimiser_that_there_is():
    assert set(html.OPTIMISERS) == set(typing.get_args(typing.get_type_hints(Optim)["name"]))
    config = dataclasses.replace(CONFIG, optim=Optim(name="normuon"))
    assert "tokens a step; NorMuon." in Reader(html.render(html.Run(name="x", config=config))).text


def test_every_asked_curve_is_drawn_as_well_formed_svg_and_described():
    reader = Reader(html.render(RUN))
    titles = [picture["alt"] for picture in reader.pictures]
    wanted_titles = ("model: loss, nats", "model: accuracy, %", "sentence order", "Learning rate", "Gradient")
    for wanted in (*wanted_titles, "Throughput", "Waiting for data, % of the time"):
        assert sum(wanted in title for title in titles) == 1
    assert len(titles) == 7
    for picture in picture_texts(reader):
        assert xml.etree.ElementTree.fromstring(picture).tag.endswith("svg")


def test_the_same_run_gives_the_same_bytes():
    assert html.render(RUN) == html.render(RUN)


def test_without_a_pair_task_there_is_no_pair_curve():
    lines = [{name: value for name, value in line.items() if "pair" not in name} for line in RUN.lines]
    reader = Reader(html.render(html.Run(name="x", config=CONFIG, lines=lines)))
    assert len(reader.pictures) == 6


def test_each_loss_against_a_teacher_has_a_curve_and_none_stands_for_the_text():
    """Relations alone: the loss of the run is not that of a masked language model."""
    lines = [{"step": step, "loss": 2.0, "relations_loss": 2.0} for step in (10, 20)]
    titles = Reader(html.render(dataclasses.replace(RUN, config=Distill(), lines=lines))).text
    assert "Against the teacher: relations of queries, keys, values" in titles
    assert "Against the teacher: predictions" not in titles
    assert "Masked language model: loss" not in titles
    weights = {f"{name.removesuffix('loss')}weight" for name in html.LEARNT_FROM_TEACHER}
    assert weights == {field.name for field in dataclasses.fields(Distillation) if field.name.endswith("_weight")} - {
        "mlm_weight",
        "pair_weight",
    }


def test_text_of_the_user_stays_text():
    bad = "<script>alert('x')</script>&amp;"
    run = html.Run(
        name=bad, config=Pretrain(data=Data(corpus=(bad,), tokenizer=bad)), lines=[*TRAIN, VALID],
        summary={"note" + bad: bad}, corpora={bad: {"statistics": {bad: bad}, "splits": {bad: {bad: bad}}}},
        samples=[{"text": bad + "[MASK]", "truth": bad, "predictions": [[bad, 0.5]]}], environment={bad: bad},
    )  # fmt: skip
    reader = Reader(html.render(run))
    assert "script" not in reader.tags
    # name twice, config twice, results twice, corpus: heading, split, count, its value, statistic, its value; sample:
    # text, truth, prediction; environment twice
    assert reader.text.count(bad) >= 17


def test_a_run_without_a_summary_is_said_to_be_unfinished():
    text = Reader(html.render(html.Run(name="x", config=CONFIG, lines=TRAIN))).text
    assert "Not finished: step 100 of 125,000." in text
    assert "Not finished" not in Reader(html.render(RUN)).text


def test_values_that_are_not_finite_are_named_with_their_step():
    lines = [*TRAIN, {"step": 1100, "loss": None, "not_finite": {"loss": "nan"}}]
    assert "loss at step 1,100" in Reader(html.render(html.Run(name="x", config=CONFIG, lines=lines))).text


def test_a_run_that_has_logged_nothing_still_has_a_page():
    reader = Reader(html.render(html.Run(name="x", config=CONFIG)))
    assert not reader.pictures
    assert "Not finished: step 0" in reader.text


def test_the_config_marks_what_is_not_the_default():
    text = html.render(RUN)
    changed = re.findall(r'<tr class="changed"><td>(\w+)</td><td>([^<]*)</td><td class="quiet">([^<]*)', text)
    assert changed == [("corpus", "corpora/a", "default empty"), ("batch_rows", "64", "default 256")]
    assert text.count("<td>share_groups</td>") == 1


def test_a_corpus_that_is_elsewhere_is_said_to_be_missing():
    found = {"splits": {"train": {"windows": 1234}, "validation": {"windows": 56}}, "statistics": {"edge_rule": 0.51}}
    run = html.Run(name="x", config=CONFIG, lines=TRAIN, corpora={"here": found, "there": None})
    text = Reader(html.render(run)).text
    assert "windows1,23456" in text
    assert "edge_rule0.51" in text
    assert "thereNot found on this machine." in text


def test_samples_mark_the_gap_and_the_right_guess():
    sample = {"text": "the [MASK] sat", "truth": "cat", "predictions": [["cat", 0.5], ["dog", 0.25]]}
    text = html.render(html.Run(name="x", config=CONFIG, lines=TRAIN, samples=[sample]))
    assert "the <mark>[MASK]</mark> sat" in text
    assert "<b>cat</b> ✓" in text
    assert "<b>dog</b>" not in text
    assert 'style="width:25.0%"' in text


def test_a_missing_matplotlib_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"matplotlib is not installed; pip install matplotlib") as caught:
        html.render(RUN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "text"), [
    (None, "–"), (True, "yes"), (1234567, "1,234,567"), (1.76e-3, "0.00176"), (1e-12, "1e-12"), (5.1234567, "5.123"),
    (12345.678, "12,345.7"), (("a", 2), "a, 2"), (float("nan"), "nan"), ((), "–"),
])  # fmt: skip
def test_numbers_are_written_for_people(value, text):
    assert html.number(value) == text


# --- The plots ---------------------------------------------------------------------------------------------------


def test_series_take_only_numbers_and_sort_by_step():
    lines = [
        {"step": 3, "x": 1.0},
        {"step": 1, "x": 2},
        {"step": 2, "x": None},
        {"step": 4},
        {"step": 5, "x": math.nan},
    ]
    assert plots.series(lines, "x") == ([1, 3], [2.0, 1.0])


def test_long_curves_are_means_of_consecutive_lines():
    steps, values = plots.thin_out(list(range(1, 8)), [1.0, 2, 3, 4, 5, 6, 7], most=3)
    assert (steps, values) == ([3, 6, 7], [2.0, 5.0, 7.0])
    assert plots.thin_out([5, 6], [1.0, 2.0], most=3) == ([5, 6], [1.0, 2.0])


@pytest.mark.parametrize("log", [False, True])
def test_a_single_point_and_a_zero_can_be_drawn(log):
    curve = plots.Curve("training", [1], [0.0], "thin")
    assert plots.draw([curve], "unit", log=log).startswith(b"<?xml")


def test_png_is_a_png():
    curve = plots.Curve("training", [1, 2], [3.0, 4.0], "thin")
    assert plots.draw([curve], "unit", image="png").startswith(b"\x89PNG")
