"""What changes at which step: asked by the step, given as numbers, and read from older configs."""

import dataclasses
import json

import tyro

from bertlite_jax.config import files
from bertlite_jax.config.pretrain import Pretrain, Run
from bertlite_jax.config.schedule import at_step

CONFIG = Pretrain(run=Run(depths=((3, 100), (6, 300)), profile_steps=(10, 15)))


def test_a_depth_holds_up_to_its_last_step():
    """ALBERT-base has 12 layers, which follow from step 301 on."""
    layers = {step: at_step(CONFIG, step).model.num_layers for step in (1, 100, 101, 300, 301, 125_000)}
    assert layers == {1: 3, 100: 3, 101: 6, 300: 6, 301: 12, 125_000: 12}


def test_a_step_changes_nothing_but_what_is_scheduled():
    changed = at_step(CONFIG, 1)
    assert files.differences(CONFIG, changed) == ["model.num_layers: 12 -> 3"]
    assert at_step(Pretrain(), 1) == Pretrain()


def test_schedules_are_numbers_on_the_command_line():
    """Pairs follow each other; none at all takes a recipe's schedule away."""
    args = ["--run.depths", "3", "100", "6", "300", "--run.profile-steps", "10", "15"]
    assert tyro.cli(Pretrain, args=args) == CONFIG
    assert tyro.cli(Pretrain, args=["--run.depths"], default=CONFIG).run.depths == ()


def stored(path, **run) -> Pretrain:
    """The config read from a file with these values in its group `run`."""
    values = dataclasses.asdict(Pretrain())
    path.write_text(json.dumps(values | {"run": values["run"] | run}))
    return files.read_json(path)


def test_older_configs_have_strings(tmp_path):
    path = tmp_path / "config.json"
    assert stored(path, depths="3:100,6:300", profile_steps="10:15") == CONFIG
    assert stored(path, depths="", profile_steps="") == Pretrain()


def test_todays_configs_have_lists(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(files.to_json(CONFIG))
    assert json.loads(path.read_text())["run"]["depths"] == [[3, 100], [6, 300]]
    assert files.read_json(path) == CONFIG
