"""The exponent of a grid is that of the law that its losses follow."""

import dataclasses
import json
import pathlib
import runpy

import pytest

from bertlite_jax.config import files
from bertlite_jax.config.ablation.members import members
from bertlite_jax.config.model import Model
from bertlite_jax.config.sizes import resolve_sizes
from bertlite_jax.errors import UserError

TOOL = runpy.run_path(str(pathlib.Path(__file__).resolve().parents[2] / "tools/sharing_exponent.py"))
GRID = files.load_file("ablate_sharing_exponent")


def test_parameters_are_told_apart_by_how_often_they_are_applied():
    """Width 64: a block is 12 D^2 + 13 D; once applied is the dense layer of the head, D^2 + D. ALBERT has 12."""
    shape = dataclasses.replace(GRID.base.model, vocab_size=1000, max_positions=32)
    block, head = 12 * 64 * 64 + 13 * 64, 64 * 64 + 64
    for groups in (12, 4, 1):
        point = TOOL["point_of"](dataclasses.replace(shape, share_groups=groups), 4.0)
        assert (point.once, point.shared, point.applications, point.kind) == (head, groups * block, 12 // groups, "")
    own = TOOL["point_of"](dataclasses.replace(shape, share="none", share_groups=1), 4.0)
    assert (own.once, own.shared, own.applications) == (head, 12 * block, 1)
    free = TOOL["point_of"](dataclasses.replace(shape, share_groups=1, own_norms=True, depth_vector=True), 4.0)
    assert (free.kind, free.shared) == ("own_norms + depth_vector", block - 4 * 64)
    assert free.once == head + 12 * (4 * 64 + 64)
    with pytest.raises(UserError, match=r"model\.share = ffn"):
        TOOL["point_of"](Model(share="ffn"), 4.0)


def test_the_exponent_of_a_finished_grid_is_found(tmp_path, capsys):
    """The recipe's own runs, with losses by the law: 0.46, and 0.7 with freedoms. Unfinished ones are left out."""
    rows = []
    for each in members(GRID, "ablate_sharing_exponent"):
        config = resolve_sizes(each.config, 1000)
        point = TOOL["point_of"](config.model, 0.0)
        worth = point.applications ** (0.7 if point.kind else 0.46)
        loss = 2.5 + 60 * (point.once + worth * point.shared) ** -0.35
        folder = tmp_path / each.name / "seed-0"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
        seed = {"seed": 0, "status": "finished", "valid_mlm_loss": loss}
        rows.append({"member": each.name, "valid_mlm_loss": loss, "seeds": [seed]})
    rows[-1]["seeds"][0]["status"] = "stopped"
    assert len(rows) == 33
    (tmp_path / "table.json").write_text(json.dumps({"members": rows}))
    assert TOOL["main"]([str(tmp_path), "--draws", "3"]) == 0
    shown = capsys.readouterr()
    assert "| everything | 0.460 | " in shown.out
    assert "| own_norms + depth_vector + low_rank | 0.700 | " in shown.out
    assert f"{rows[-1]['member']}/seed-0 is left out: stopped" in shown.err
    content = json.loads((tmp_path / "exponent.json").read_text())
    assert content["runs"] == 32
    assert content["exponents"][""] == pytest.approx(0.46, abs=1e-2)


def test_a_grid_that_is_too_small_is_one_line(tmp_path, capsys):
    (tmp_path / "table.json").write_text('{"members": []}')
    assert TOOL["main"]([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("exponent: the runs have r = [] alone")


def test_a_table_that_is_damaged_is_one_line(tmp_path, capsys):
    (tmp_path / "table.json").write_text('{"members": [{"member": "base"}]}')
    assert TOOL["main"]([str(tmp_path)]) == 2
    assert "table.json: members[0].valid_mlm_loss is missing" in capsys.readouterr().err
