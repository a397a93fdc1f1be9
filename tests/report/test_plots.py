"""Whatever finite numbers a run's files hold, a picture comes out: no file says how large a loss may become."""

import sys

import numpy as np
import pytest
import thorough

from bertlite_jax.report import plots
from bertlite_jax.report.plots import Bar, Curve, Level
from bertlite_jax.report.tasks import task_plots

MOST, LEAST = sys.float_info.max, 5e-324
EXTREMES = {
    "both ends": [MOST, -MOST],
    "the largest often": [MOST] * 1000,
    "the smallest": [LEAST, 2 * LEAST],
    "the smallest and the largest": [LEAST, MOST],
    "only below zero": [-MOST],
    "a whole number": [10**300, 1],
}


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", EXTREMES.values(), ids=list(EXTREMES))
def test_curves_of_any_finite_numbers_are_drawn(values, log):
    lines = [{"step": step, "loss": value} for step, value in enumerate(values)]
    curve = Curve("training", *plots.series(lines, "loss"), "thin")
    for from_zero in (False, True):
        assert b"</svg>" in plots.draw([curve], "nats", [Level("best", values[0])], from_zero=from_zero, log=log)


@pytest.mark.parametrize("steps", [[0, 10**299], [-(10**299), 10**299], [2**63, 2**63 + 1]])
def test_curves_at_any_steps_are_drawn(steps):
    lines = [{"step": step, "loss": 1.0} for step in steps]
    assert b"</svg>" in plots.draw([Curve("training", *plots.series(lines, "loss"), "thin")], "nats")


@pytest.mark.parametrize("values", thorough.but([EXTREMES["both ends"]], EXTREMES.values()), ids=list(EXTREMES))
def test_so_are_the_other_pictures(values):
    few = values[:4]
    assert b"</svg>" in plots.draw_bars([Bar(f"runtime {n}", abs(value), "x") for n, value in enumerate(few)], "ms")
    assert b"</svg>" in task_plots.spread(few, [f"seed {n}" for n in range(len(few))], "accuracy")
    assert b"</svg>" in task_plots.layers(few, "accuracy", [Level("commonest label", few[-1])])
    assert b"</svg>" in task_plots.numbers(np.array([few, few[::-1]], np.float64).T)


def test_usual_values_are_drawn_as_they_are():
    lines = [{"step": 1, "loss": 0.1}, {"step": 2, "loss": -7}]
    assert plots.series(lines, "loss") == ([1, 2], [0.1, -7.0])
