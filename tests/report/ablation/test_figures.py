"""Means, spreads and paired differences of a grid, by hand; and which losses are not compared."""

import dataclasses
import io
import json
import math
import pathlib

import pytest
from rich.console import Console

from bertlite_jax.errors import UserError
from bertlite_jax.report.ablation import curves, figures, results, table
from bertlite_jax.report.ablation.figures import Compared, Difference
from bertlite_jax.report.ablation.results import Result


def result(seed: int, loss: float, **more) -> Result:
    more = {"unigram_entropy": 6.0, "valid_predictions": 100.0, "steps": 10, "left_at": 5, **more}
    return Result(seed, "finished", valid_mlm_loss=loss, curve=((5, 10), (loss + 1, loss)), **more)


def member(name: str, *runs: Result, vocabulary: str = "v", corpora: tuple[str, ...] = ("c",)) -> Compared:
    return Compared(name, "" if name == "base" else "base", runs, vocabulary, corpora)


BASE = member("base", result(0, 5.0), result(1, 5.2), result(2, 5.4))


def test_a_difference_is_paired_where_seeds_match():
    """Differences of -0.1, -0.2, -0.3: mean -0.2, deviation 0.1, standard error 0.1 over the root of 3."""
    found = figures.difference({0: 4.9, 1: 5.0, 2: 5.1, 7: 1.0}, {0: 5.0, 1: 5.2, 2: 5.4})
    assert found
    assert found.mean == pytest.approx(-0.2)
    assert found.error == pytest.approx(0.1 / math.sqrt(3))
    assert found.pairs == 3


def test_without_common_seeds_it_is_the_difference_of_the_means():
    assert figures.difference({5: 4.0, 6: 5.0}, {0: 5.0}) == Difference(-0.5, None, 0)
    assert figures.difference({}, {0: 5.0}) is None


def test_a_row_has_mean_spread_and_difference():
    """Losses 4.9, 5.0, 5.1 have the mean 5.0 and the sample deviation 0.1."""
    ours = member("wide", result(0, 4.9), result(1, 5.0, left_at=None), result(2, 5.1, left_at=7))
    base, wide = figures.rows([BASE, ours])
    assert (base["difference"], base["compared_with"]) == (None, None)
    assert wide["valid_mlm_loss"] == pytest.approx(5.0)
    assert wide["valid_mlm_loss_spread"] == pytest.approx(0.1)
    assert wide["difference"] == pytest.approx(-0.2)
    assert (wide["left_plateau"], wide["steps_to_leave_plateau"]) == (2, 6)
    json.dumps([base, wide], allow_nan=False)


def test_runs_that_ended_otherwise_are_told_and_not_counted():
    wild = member("wild", result(0, 4.0), Result(1, "diverged", "pretrain: step 3: loss nan"))
    row = figures.rows([BASE, wild])[1]
    assert (row["runs"], row["finished"], row["valid_mlm_loss"], row["difference_pairs"]) == (2, 1, 4.0, 1)
    assert "wild, seed 1: diverged: pretrain: step 3: loss nan" in figures.notes([BASE, wild])


def test_what_is_true_of_several_seeds_is_told_once_and_rows_are_left_to_the_log():
    huge = member("huge", *(Result(seed, "refused", "it needs 9 GiB; lower it") for seed in (0, 1)))
    wild = member("wild", Result(0, "diverged", "pretrain: step 3: loss nan; rows 1 to 8"))
    assert figures.notes([BASE, huge, wild]) == [
        "huge, seeds 0, 1: refused: it needs 9 GiB; lower it",
        "wild, seed 0: diverged: pretrain: step 3: loss nan",
    ]


@pytest.mark.parametrize(
    ("change", "reason"), [({"vocabulary": "w"}, "another vocabulary"), ({"corpora": ("d",)}, "other corpora")]
)
def test_losses_over_other_pieces_or_text_are_not_compared(change, reason):
    other = member("other", result(0, 3.0, score=0.9), **change)
    scored = member("base", result(0, 5.0, score=0.8))
    row = figures.rows([scored, other])[1]
    assert (row["difference"], row["incomparable"]) == (None, reason)
    assert row["score_difference"] == pytest.approx(0.1)
    assert any(reason in note for note in figures.notes([scored, other]))
    assert reason in table.markdown("T", figures.rows([scored, other]), [])


def test_losses_at_other_positions_are_remarked():
    other = member("unpacked", result(0, 4.9, valid_predictions=90.0))
    assert any("evaluated at other positions" in note for note in figures.notes([BASE, other]))
    assert figures.notes([BASE, member("wide", result(0, 4.9))]) == []
    both = [dataclasses.replace(each, whole_split=True) for each in (BASE, other)]
    assert figures.notes(both) == []


def test_runs_of_other_lengths_are_remarked():
    assert any(
        "differ in their steps, from 10 to 20" in note
        for note in figures.notes([BASE, member("a", result(0, 4.0, steps=20))])
    )


def test_runs_that_missed_their_time_are_remarked():
    """Steps follow from a pace that was measured before; 10.5 s of 10 are near enough, 12 are not."""
    near, far = member("near", result(0, 4.0, train_seconds=10.5)), member("far", result(0, 4.0, train_seconds=12.0))
    (line,) = figures.notes([near, far], 10.0)
    assert line.startswith("far, seed 0: trained for 12.0 s and not 10")


def test_the_table_says_what_is_missing():
    row = figures.rows([BASE, member("a", Result(0, "waiting", "not run yet"))])
    text = table.markdown("T", row, figures.notes([BASE]))
    cells = text.splitlines()[5].split(" | ")
    assert cells[:4] == ["| a", "0 of 1", "–", "–"]
    assert "| base | 3 of 3 | 5.2000 | 6.0000 | 0.2000 | – | 5 |" in text


def test_one_reference_needs_no_column_and_two_do():
    second = Compared("b", "a", (result(0, 4.0),), "v", ("c",))
    assert " to |" not in table.markdown("T", figures.rows([BASE, member("a", result(0, 4.0))]), [])
    assert " to |" in table.markdown("T", figures.rows([BASE, member("a", result(0, 4.0)), second]), [])


def test_curves_are_drawn_once_a_run_was_evaluated():
    drawn = curves.draw([BASE, member("a", Result(0, "waiting")), member("b", result(0, 4.0))])
    assert drawn
    assert drawn.startswith(b"\x89PNG")
    assert curves.draw([member("base", Result(0, "waiting"))]) is None


# --- What a run left -------------------------------------------------------------------------------------------------


def written(run: pathlib.Path, lines: list[dict]) -> pathlib.Path:
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = {"steps": 4, "real_tokens": 800, "valid_mlm_loss": 5.0, "unigram_entropy": 5.5, "parameters": 9}
    (run / "summary.json").write_text(json.dumps(summary))
    return run


def test_seconds_are_those_of_the_steps_and_not_those_between_them(tmp_path):
    """400 tokens at 100 a second and 400 at 200 take 6 seconds; the clock of the run stands at 60."""
    lines = [
        {"step": 2, "total_real_tokens": 400.0, "tokens_per_second": 100.0, "seconds": 30.0},
        {"step": 2, "valid_mlm_loss": 5.41, "unigram_entropy": 5.5},
        {"step": 4, "total_real_tokens": 800.0, "tokens_per_second": 200.0, "seconds": 60.0, "total_flops": 7e9},
        {"step": 4, "valid_mlm_loss": 5.0, "unigram_entropy": 5.5},
    ]
    found = results.read(written(tmp_path / "run", lines), 0, "finished")
    assert found.train_seconds == pytest.approx(6.0)
    assert (found.left_at, found.total_flops, found.curve) == (4, 7e9, ((2, 4), (5.41, 5.0)))


def test_steps_before_the_first_rate_count_at_that_rate(tmp_path):
    """The first step after a start has no rate, as it compiles."""
    lines = [
        {"step": 1, "total_real_tokens": 100.0, "tokens_per_second": None},
        {"step": 2, "total_real_tokens": 200.0, "tokens_per_second": 50.0},
    ]
    assert results.read(written(tmp_path / "run", lines), 0, "finished").train_seconds == pytest.approx(4.0)


def test_a_summary_that_was_edited_is_named(tmp_path):
    run = written(tmp_path / "run", [])
    (run / "summary.json").write_text('{"steps": "four"}')
    with pytest.raises(UserError, match=r"ablate: .*summary.json: "):
        results.read(run, 0, "finished")


def test_a_run_that_has_not_begun_has_no_figures(tmp_path):
    assert results.read(tmp_path / "none", 3, "waiting", "not run yet") == Result(3, "waiting", "not run yet")


def test_a_narrow_terminal_shows_whole_numbers_and_folds_names():
    """Losses and scores stand one below the other, each in 80 columns."""
    scored = [result(seed, 5.0 + seed / 100, score=0.8) for seed in (0, 1)]
    others = [result(seed, 4.0, score=0.9) for seed in (0, 1)]
    long = "divided_by_depth,num_layers=24,learning_rate=0.0014142"
    rows = figures.rows([member("base", *scored), member(long, *others)])
    with io.StringIO() as said:
        table.print_table("T", rows, ["a note"], Console(file=said, width=80))
        text = said.getvalue()
    assert "-1.0050 ± 0.0050" in text
    assert "+0.1000 ± 0.0000" in text
    assert "…" not in text
    assert "FLOP" not in text.partition("MLM loss: nats")[0]
