"""Lines of metrics.jsonl that a resumed run will write again go, and all others stay."""

import json
import os

import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.jobs.runs import resumed_metrics


def line(step: int, **values) -> str:
    return json.dumps({"step": step, **values})


def truncated(folder, text: str, step: int) -> str:
    path = folder / "metrics.jsonl"
    path.write_text(text)
    resumed_metrics.truncate(path, step)
    return path.read_text()


def test_metrics_after_the_restored_step_are_dropped(tmp_path):
    """Evaluations have lines of their own beside those of training, with the same step."""
    kept = [line(10, loss=2.0), line(20, loss=1.0), line(20, valid_mlm_loss=3.0)]
    gone = [line(30, loss=0.5), line(30, valid_mlm_loss=2.0)]
    assert truncated(tmp_path, "\n".join(kept + gone) + "\n", 20) == "\n".join(kept) + "\n"
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_a_line_that_was_cut_off_is_dropped_wherever_it_was_cut(tmp_path):
    """But if only its line break is missing it is whole."""
    first, last = line(10, loss=2.0), line(20, loss=1.25)
    for end in range(len(last)):
        assert truncated(tmp_path, f"{first}\n{last[:end]}", 20) == f"{first}\n"
    assert truncated(tmp_path, f"{first}\n{last}", 20) == f"{first}\n{last}\n"
    assert truncated(tmp_path, f"{first}\n{last}", 10) == f"{first}\n"


def test_starting_at_zero_leaves_no_line(tmp_path):
    assert truncated(tmp_path, line(10) + "\n" + line(20) + "\n", 0) == ""


def test_no_metrics_is_no_error(tmp_path):
    resumed_metrics.truncate(tmp_path / "metrics.jsonl", 10)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "bad",
    ["{", "3", '{"loss": 1}', "\0\0", '{"step": "2"}', '{"step": null}', '{"step": true}', "[" * 9999, "9" * 5000],
)
def test_a_broken_line_in_the_middle_is_named(tmp_path, bad):
    with pytest.raises(UserError, match=r"metrics.jsonl:2: not a JSON object with a step"):
        truncated(tmp_path, f"{line(1)}\n{bad}\n{line(2)}\n", 10)
