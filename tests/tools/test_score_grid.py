"""Figures of a grid's runs beside those of its own table: asked once, averaged over seeds, ranked."""

import json
import pathlib
import runpy

import pytest

from bertlite_jax.errors import UserError

TOOL = runpy.run_path(str(pathlib.Path(__file__).resolve().parents[2] / "tools/score_grid.py"))


def member(name: str, *losses: float, status: str = "finished") -> dict:
    """A row of table.json."""
    seeds = [{"seed": seed, "status": status, "valid_mlm_loss": loss} for seed, loss in enumerate(losses)]
    mean = sum(losses) / len(losses) if status == "finished" else None
    return {"member": name, "valid_mlm_loss": mean, "seeds": seeds}


MEMBERS = [member("base", 4.0, 4.2), member("nsp", 4.4, 4.4), member("none", 4.0, 4.0, status="diverged")]


def test_each_finished_run_is_asked_once_and_a_refusal_is_a_line(tmp_path, capsys):
    asked = []

    def ask(run: str) -> dict[str, float]:
        asked.append(pathlib.Path(run).relative_to(tmp_path).as_posix())
        if "nsp" in run:
            raise UserError("evaluate: no head")
        return {"valid_pair_accuracy": 0.7 if run.endswith("0") else 0.8}

    found = TOOL["score"](tmp_path, MEMBERS, {"rows of sop": ask})
    assert asked == ["base/seed-0", "base/seed-1", "nsp/seed-0", "nsp/seed-1"]
    assert "nsp/seed-1: rows of sop: evaluate: no head" in capsys.readouterr().err
    assert json.loads((tmp_path / "scores.json").read_text())["base"]["1"] == {
        "rows of sop": {"valid_pair_accuracy": 0.8}
    }
    assert TOOL["score"](tmp_path, MEMBERS[:1], {"rows of sop": ask}) | {"nsp": found["nsp"]} == found
    assert len(asked) == 4
    assert TOOL["lines_of"](MEMBERS, found, ["rows of sop"]) == [
        "| member | loss | rows of sop: valid_pair_accuracy |",
        "|---|--:|--:|",
        "| base | 4.1000 ± 0.1414 | 0.7500 ± 0.0707 |",
        "| nsp | 4.4000 ± 0.0000 | – |",
        "| none | – | – |",
    ]


def test_less_loss_ranks_as_more_score():
    """Of the six orders of three, this one has one pair the other way: Kendall 1/3, Spearman 1 - 6 * 2 / 24."""
    three = [member("a", 4.0), member("b", 4.1), member("c", 4.2)]
    assert "Spearman 1.000, Kendall 1.000, 3 members" in TOOL["ranks"](three, [80, 79, 78])
    assert "Spearman 0.500, Kendall 0.333, 3 members" in TOOL["ranks"](three, [79, 80, 78])
    with pytest.raises(UserError, match="2 published scores for 3 members"):
        TOOL["ranks"](three, [80, 79])
    with pytest.raises(UserError, match="none has no finished run"):
        TOOL["ranks"](MEMBERS, [1, 2, 3])


def test_a_folder_without_a_grid_is_one_line(tmp_path, capsys):
    assert TOOL["main"]([str(tmp_path)]) == 2
    assert "table.json" in capsys.readouterr().err
