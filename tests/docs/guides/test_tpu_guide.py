"""The local commands of docs/tpu.md work; a dry run prints those for a cloud."""

import dataclasses
import pathlib
import re

import pytest
from page_commands import like_a_clone, run_in

import bertlite_jax
from bertlite_jax.config import checks, files
from bertlite_jax.report.cost import topology

ROOT = pathlib.Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs/tpu.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", GUIDE, re.M | re.S)


@pytest.mark.thorough
def test_the_commands_run_in_order(tmp_path):
    like_a_clone(tmp_path, "configs", "tools", "docs")
    (tmp_path / "dist").mkdir()
    # Building it would need the network.
    (tmp_path / f"dist/bertlite_jax-{bertlite_jax.__version__}-py3-none-any.whl").touch()
    run = [block.replace("bertlite ", "python -m bertlite_jax ") for block in BLOCKS if "pip wheel" not in block]
    assert len(run) == len(BLOCKS) - 1 >= 4
    for block in run:
        run_in(tmp_path, block)
    assert sum("--dry-run" in block for block in BLOCKS) == 2


def test_nothing_but_a_dry_run_is_given_to_the_cloud():
    assert not any(re.search(r"^(gcloud|gsutil)", block, re.M) for block in BLOCKS)
    assert all("--dry-run" in block for block in BLOCKS if "launch_tpu.sh" in block)


def test_the_runs_that_are_launched_divide_their_batch_among_the_chips():
    """No machine is made for a config that the job refuses."""
    launched = [block for block in BLOCKS if "launch_tpu.sh" in block]
    for block in launched:
        recipe, parts = re.findall(r"-- (\w+) ", block)[0], re.findall(r"--optim.micro-batches (\d+)", block)
        name, slices = re.findall(r"--accelerator-type (\S+)", block)[0], re.findall(r"--slices (\d+)", block) or ["1"]
        config = files.load_file(recipe)
        config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, micro_batches=int(parts[0])))
        data = dataclasses.replace(config.data, corpus=("corpus",), tokenizer="tokenizer")
        place = topology.parse(name, int(slices[0]))
        checks.check_pretrain(dataclasses.replace(config, data=data), place.devices)
