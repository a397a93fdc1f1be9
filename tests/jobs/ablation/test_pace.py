"""Stretches of equal steps, how many steps fit into a time, and recipes that are read again as they were written."""

import pytest

from bertlite_jax.config import Data, Finetune, Model, Pretrain, Run, files
from bertlite_jax.config.finetune import Examples
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.ablation import pace, recipes
from bertlite_jax.jobs.ablation.pace import Pace
from bertlite_jax.report.cost import flops

PLAIN = Pretrain(Model(num_layers=12), Data(batch_rows=16), run=Run(steps=100, eval_every=25, eval_rows=48))
STAGED = Pretrain(Model(num_layers=12), run=Run(steps=100, depths=((3, 20), (6, 50))))


def test_a_run_without_a_schedule_is_one_stretch():
    assert [(part.steps, part.config) for part in pace.stretches(PLAIN)] == [(100, PLAIN)]


def test_a_schedule_of_depths_is_a_stretch_each():
    parts = pace.stretches(STAGED)
    assert [(part.steps, part.config.model.num_layers) for part in parts] == [(20, 3), (30, 6), (50, 12)]
    assert flops.run_flops(STAGED) == sum(part.steps * flops.train_flops_per_step(part.config) for part in parts)


def test_a_stretch_is_timed_with_its_own_batch_and_nothing_else():
    """Also where a batch comes twice: each stretch has its place."""
    config = Pretrain(data=Data(batch_rows=16), run=Run(steps=100, batches=((16, 10), (32, 20), (8, 30))))
    parts = pace.stretches(config)
    assert [(part.steps, part.config.data.batch_rows) for part in parts] == [(10, 16), (10, 32), (10, 8), (70, 16)]
    timed = [pace._for_timing(part.config) for part in parts]
    assert [(each.data.batch_rows, each.run.batches) for each in timed] == [(16, ()), (32, ()), (8, ()), (16, ())]
    assert timed[0] == timed[3]


def test_as_many_steps_as_fit():
    """20 steps of 1 s and 30 of 2 s leave 20 s of 100, which are 5 steps of 4 s."""
    assert pace.steps_within(10.0, PLAIN, [Pace(0.5, 9.0)]) == 20
    assert pace.steps_within(100.0, STAGED, [Pace(1.0, 0.0), Pace(2.0, 0.0), Pace(4.0, 0.0)]) == 55


@pytest.mark.parametrize(
    ("config", "said"), [(PLAIN, "one step takes 50.0 s"), (STAGED, "its schedule takes 2,500.0 s")]
)
def test_a_time_that_is_too_short_is_refused(config, said):
    with pytest.raises(UserError, match=said):
        pace.steps_within(5.0, config, [Pace(50.0, 0.0)] * 3)


def test_a_run_takes_its_start_its_steps_and_its_evaluations():
    """9 s, 100 steps of half a second, and 4 evaluations of 48 rows, each 3 batches of a third of a step."""
    assert pace.run_seconds(PLAIN, [Pace(0.5, 9.0)]) == pytest.approx(9 + 50 + 4 * 3 * 0.5 / 3)


def test_members_that_differ_in_what_costs_no_time_are_timed_once():
    other = Pretrain(PLAIN.model, PLAIN.data, run=Run(steps=100, seed=7, eval_every=3))
    assert pace._for_timing(other) == pace._for_timing(PLAIN)


@pytest.mark.parametrize("config", [STAGED, Finetune(data=Examples(task="sst2", label_names=("a'b", '"ü"')))])
def test_a_recipe_is_read_as_it_was_written(config, tmp_path):
    recipes.write(tmp_path / "member/recipe.py", config, "A member.")
    assert files.load_file(str(tmp_path / "member/recipe.py")) == config
