"""Lines of trials: what a kill tears is left out, what is damaged is named, and what an error is."""

import dataclasses
import json
import math

import pytest

from bertlite_jax.config.search.settings import Shape, Surrogate
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.searching import results
from bertlite_jax.jobs.searching.results import Line

FIGURES: dict[str, dict[str, list[float | None]]] = {
    "2": {"mlm": [6.0, 6.2], "teacher_divergence": [0.6, 0.7]},
    "4": {"mlm": [5.0, 5.2], "teacher_divergence": [0.5, 0.6]},
    "8": {"mlm": [4.5, 4.7], "teacher_divergence": [0.4, 0.5]},
}
LINE = Line("a", "t", "done", "", dataclasses.asdict(Shape(2, 2, 32, 64, 32)), 1e-3, 8, [0, 1], 1.5, FIGURES)


def test_lines_are_read_as_they_were_written(tmp_path):
    path = tmp_path / results.FILE
    assert results.read(path) == []
    other = dataclasses.replace(LINE, key="b", status="diverged", reason="why", figures={"8": {"mlm": [None, 4.0]}})
    results.append(path, [LINE])
    results.append(path, [other])
    assert results.read(path) == [LINE, other]
    assert path.read_text().count("\n") == 2


def test_a_line_that_a_kill_has_torn_is_left_out_and_goes_with_the_next_one(tmp_path):
    path = tmp_path / results.FILE
    results.append(path, [LINE])
    whole = path.read_bytes()
    for end in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole + whole[:end])
        assert results.read(path) == [LINE]
    results.append(path, [dataclasses.replace(LINE, key="b")])
    assert [line.key for line in results.read(path)] == ["a", "b"]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_line_is_found_with_its_maximum_point_and_without_any():
    """Its loss of the masked language model does not depend on what it was compared with beside."""
    other, alone = dataclasses.replace(LINE, teacher="u"), dataclasses.replace(LINE, key="b", teacher="")
    found = results.by_key([LINE, other, alone])
    assert found == {("a", "t"): LINE, ("a", "u"): other, ("a", ""): other, ("b", ""): alone}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[]", ":1: a JSON object is expected"),
        ("{", ":1: not JSON"),
        ("{}", ":1: key is missing"),
        (json.dumps(dataclasses.asdict(LINE) | {"steps": "8"}), ":1: steps should be a whole number"),
        (json.dumps(dataclasses.asdict(LINE) | {"shape": {"depth": 2}}), ":1: shape does not have the fields"),
    ],
)
def test_a_damaged_line_is_named(line, said, tmp_path):
    path = tmp_path / results.FILE
    path.write_text(f"{line}\n")
    with pytest.raises(UserError, match=results.FILE) as error:
        results.read(path)
    assert said in str(error.value)


def test_each_kind_of_error_is_read_from_the_same_line():
    """A law that falls by 1, then by 1/2, for each doubling falls by 1/4 more: 4.25 after sixteen steps."""
    assert results.errors(LINE, "mlm") == [4.5, 4.7]
    assert results.errors(LINE, "mlm", share=4) == [6.0, 6.2]
    assert results.errors(LINE, "teacher_divergence", share=2) == [0.5, 0.6]
    assert results.errors(LINE, "extrapolated", 16) == pytest.approx([4.25, 4.45])
    assert results.error(LINE, Surrogate("mlm")) == pytest.approx(4.6)


def test_what_was_not_looked_at_or_is_no_number_gives_no_error():
    assert all(map(math.isnan, results.errors(LINE, "teacher_cross_entropy")))
    assert all(map(math.isnan, results.errors(LINE, "mlm", share=8)))
    diverged = dataclasses.replace(LINE, status="diverged")
    assert math.isnan(results.error(diverged, Surrogate("mlm")))
    half = dataclasses.replace(LINE, figures={"8": {"mlm": [4.0, None]}})
    assert math.isnan(results.error(half, Surrogate("mlm")))
