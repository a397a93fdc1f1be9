"""The grid in docs/learning.md and its commands run as they stand, on a small text and with few steps."""

import json
import pathlib
import re

import pytest
from page_commands import like_a_clone, run_in

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/learning.md").read_text(encoding="utf-8")
SECTION = PAGE.split("\n## Ablations\n")[1].split("\n## ")[0]
(GRID,) = re.findall(r"^```python\n(.*?)^```", SECTION, re.M | re.S)
(COMMANDS,) = re.findall(r"^```bash\n(.*?)^```", SECTION, re.M | re.S)
SHORT = " --run.steps 3 --run.eval-every 2 --optim.warmup-steps 1 --data.batch-rows 4"


@pytest.mark.slow
def test_the_grid_of_the_guide_runs(tmp_path):
    folder = like_a_clone(tmp_path)
    (folder / "my_grid.py").write_text(GRID)
    for command in COMMANDS.splitlines():
        said = run_in(folder, f"{command}{SHORT}" if " ablate " in command else command)
        if "--dry-run" in command:
            assert "4 of 4 runs to do, about" in said
            assert not (folder / "runs").exists()
    content = json.loads((folder / "runs/masks/table.json").read_text())
    assert [(row["member"], row["finished"]) for row in content["members"]] == [("base", 2), ("single_tokens", 2)]
    assert content["notes"] == []
    assert content["members"][1]["difference_error"] is not None


def test_every_field_of_a_grid_is_explained():
    from bertlite_jax.config import Grid

    table = SECTION.partition("| field of `Grid` |")[2].partition("\n\n")[0]
    explained = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", table, re.M))))
    assert set(Grid.__dataclass_fields__) == explained
