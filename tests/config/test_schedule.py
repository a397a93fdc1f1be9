"""What changes at which step: asked by the step, given as numbers, and read from older configs."""

import dataclasses
import json

import pytest
import tyro

from bertlite_jax.config import files
from bertlite_jax.config.pretrain import Data, Mask, Pretrain, Run
from bertlite_jax.config.schedule import at_step, mask_rate_at, mask_rates, stages, table, unscheduled
from bertlite_jax.errors import UserError

CONFIG = Pretrain(run=Run(depths=((3, 100), (6, 300)), profile_steps=(10, 15)))
ALL = Pretrain(
    data=Data(length=512, batch_rows=256),
    mask=Mask(rate=0.15, first_rate=0.3, rate_steps=601),
    run=Run(steps=1000, depths=((3, 100), (6, 300)), lengths=((128, 900),), batches=((64, 100), (1024, 900))),
)


def test_a_depth_holds_up_to_its_last_step():
    """ALBERT-base has 12 layers, which follow from step 301 on."""
    layers = {step: at_step(CONFIG, step).model.num_layers for step in (1, 100, 101, 300, 301, 125_000)}
    assert layers == {1: 3, 100: 3, 101: 6, 300: 6, 301: 12, 125_000: 12}


def test_a_step_changes_nothing_but_what_is_scheduled():
    changed = at_step(CONFIG, 1)
    assert files.differences(CONFIG, changed) == ["model.num_layers: 12 -> 3"]
    assert at_step(Pretrain(), 1) == Pretrain()


def test_all_schedules_hold_together():
    """A change of two fields at one step begins one stage; the last stage has what the config itself says."""
    found = [
        (stage.first, stage.last, stage.config.model.num_layers, stage.config.data.batch_rows, stage.config.data.length)
        for stage in stages(ALL)
    ]
    assert found == [
        (1, 100, 3, 64, 128),
        (101, 300, 6, 1024, 128),
        (301, 900, 12, 1024, 128),
        (901, 1000, 12, 256, 512),
    ]
    assert stages(Pretrain())[0].config == Pretrain()
    alone = unscheduled(stages(ALL)[0].config)
    assert [stage.config for stage in stages(alone)] == [alone]


def test_rows_have_the_buckets_that_are_shorter():
    data = Data(length=512, pack=False, buckets=(64, 128, 256))
    config = Pretrain(data=data, run=Run(lengths=((128, 900),)))
    assert [at_step(config, step).data.buckets for step in (900, 901)] == [(64,), (64, 128, 256)]


def test_a_mask_rate_changes_in_a_straight_line():
    """0.3, 0.25, 0.2, then 0.15 to the end; upwards likewise; the two ends are exact."""
    config = Pretrain(mask=Mask(rate=0.15, first_rate=0.3, rate_steps=4), run=Run(steps=6))
    found = [mask_rate_at(config, step) for step in range(1, 7)]
    assert found == pytest.approx([0.3, 0.25, 0.2, 0.15, 0.15, 0.15])
    assert (found[0], found[3], found[-1]) == (0.3, 0.15, 0.15)
    upwards = Pretrain(mask=Mask(rate=0.4, first_rate=0.1), run=Run(steps=3))
    assert [mask_rate_at(upwards, step) for step in (1, 2, 3)] == pytest.approx([0.1, 0.25, 0.4])
    assert mask_rates(Pretrain()) == ((1, 0.15),)


def test_a_long_run_changes_its_mask_rate_a_hundred_times():
    """Each stair is within a hundredth of the way of the line, and the last one begins at the last step."""
    config = Pretrain(mask=Mask(rate=0.15, first_rate=0.3), run=Run(steps=125_000))
    rates = mask_rates(config)
    assert len(rates) == 101
    assert rates[-1] == (125_000, 0.15)
    for step in (1, 1249, 1251, 62_500, 124_999):
        line = 0.3 - 0.15 * (step - 1) / 124_999
        assert line <= mask_rate_at(config, step) <= line + 0.0015


def test_the_table_says_what_changes_at_which_step():
    assert table(Pretrain()) == []
    assert table(ALL) == [
        ("steps", "layers", "tokens in a row", "rows", "mask rate"),
        ("1 to 100", "3", "128", "64", "0.3 to 0.276"),
        ("101 to 300", "6", "128", "1,024", "0.276 to 0.2265"),
        ("301 to 900", "12", "128", "1,024", "0.225 to 0.15"),
        ("901 to 1,000", "12", "512", "256", "0.15"),
    ]
    assert [line[0] for line in table(CONFIG)] == ["steps", "1 to 100", "101 to 300", "301 to 125,000"]


def test_schedules_are_numbers_on_the_command_line():
    """Pairs follow each other; none at all takes a recipe's schedule away."""
    args = ["--run.depths", "3", "100", "6", "300", "--run.profile-steps", "10", "15"]
    assert tyro.cli(Pretrain, args=args) == CONFIG
    assert tyro.cli(Pretrain, args=["--run.depths"], default=CONFIG).run.depths == ()
    args = ["--run.lengths", "128", "900", "--run.batches", "64", "100", "1024", "900"]
    run = tyro.cli(Pretrain, args=args).run
    assert (run.lengths, run.batches) == (ALL.run.lengths, ALL.run.batches)


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
