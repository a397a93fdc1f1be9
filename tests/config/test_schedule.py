"""What changes at which step: asked by the step, given as numbers, and read from older configs."""

import dataclasses
import json

import pytest
import tyro

from bertlite_jax.config import files
from bertlite_jax.config.pretrain import Pretrain, Run
from bertlite_jax.config.schedule import at_step
from bertlite_jax.errors import UserError

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


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            "depths='3:100,6:300'",
            "run.depths = '3:100,6:300' should be numbers: depths=((3, 100), (6, 300)) in a recipe, "
            "--run.depths 3 100 6 300 on the command line",
        ),
        ("depths='3 to 9'", "run.depths = '3 to 9' should be numbers: depths=((3, 20000), (6, 50000)) in a recipe"),
        ("depths=''", "run.depths = '' should be numbers: depths=() in a recipe, --run.depths on the command line"),
        ("profile_steps='10:15'", "profile_steps=(10, 15) in a recipe, --run.profile-steps 10 15 on the command line"),
        ("profile_steps=''", "run.profile_steps = '' should be numbers: profile_steps=(0, 0) in a recipe"),
    ],
)
def test_strings_in_a_recipe_are_refused_with_what_is_right(tmp_path, run, message):
    recipe = tmp_path / "old.py"
    recipe.write_text(f"from bertlite_jax.config.pretrain import Pretrain, Run\nconfig = Pretrain(run=Run({run}))\n")
    with pytest.raises(UserError) as refused:
        files.load_file(str(recipe))
    assert str(refused.value).startswith(f"config: {recipe}: run.")
    assert message in str(refused.value)


def test_todays_configs_have_lists(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(files.to_json(CONFIG))
    assert json.loads(path.read_text())["run"]["depths"] == [[3, 100], [6, 300]]
    assert files.read_json(path) == CONFIG
