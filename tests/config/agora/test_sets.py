"""Sets of hyperparameters: all combinations in their order, the recipe of each, and settings that cannot be."""

import dataclasses
from typing import Any

import pytest

from bertlite_jax.config.agora import sets
from bertlite_jax.config.agora.sets import Set
from bertlite_jax.config.agora.settings import Agora, check_agora
from bertlite_jax.config.finetune import Examples, Finetune, TuneRun
from bertlite_jax.config.pretrain import Optim
from bertlite_jax.errors import UserError

RECIPE = Finetune(
    data=Examples(task="rte", batch_examples=24),
    optim=Optim(name="adamw", learning_rate=3e-5, warmup_steps=7, weight_decay=0.1, bias_correction=True),
    run=TuneRun(seed=5, warmup_fraction=0.2),
)


def test_there_are_the_480_sets_of_bort():
    """Those that its repository recommends: 5 seeds, 3 rates, 4 decays, 4 shares of warm-up, 2 batch sizes."""
    settings = Agora(
        learning_rates=(1e-4, 1e-5, 9e-6),
        weight_decays=(0.0, 10.0, 100.0, 350.0),
        warmup_fractions=(0.35, 0.40, 0.45, 0.50),
        batches=(8, 16),
        seeds=(0, 1, 2, 3, 4),
    )
    found = sets.every(RECIPE, settings)
    assert len(set(found)) == len({one.name for one in found}) == 480
    assert found[0] == Set(1e-4, 0.0, 0.35, 8, 0)
    assert found[-1] == Set(9e-6, 350.0, 0.5, 16, 4)


def test_what_is_not_tried_is_the_recipes():
    nothing = Agora(learning_rates=(), batches=(), seeds=())
    (one,) = sets.every(RECIPE, nothing)
    assert one == Set(3e-5, 0.1, 0.2, 24, 5)
    assert one.name == "lr-3e-05-decay-0.1-warmup-0.2-batch-24-seed-5"
    assert sets.recipe_of(RECIPE, one, nothing) == RECIPE


def test_a_recipe_has_the_values_of_its_set_and_the_file_of_points():
    settings = Agora(warmup_fractions=(0.4,))
    recipe = sets.recipe_of(RECIPE, Set(1e-4, 0.5, 0.4, 8, 3), settings, "points.jsonl")
    assert (recipe.optim.learning_rate, recipe.optim.weight_decay) == (1e-4, 0.5)
    assert (recipe.run.warmup_fraction, recipe.optim.warmup_steps) == (0.4, 0)
    assert (recipe.data.batch_examples, recipe.run.seed, recipe.data.added_file) == (8, 3, "points.jsonl")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"points": 0}, "agora.points = 0 must be positive"),
        ({"points": 1001}, "agora.points = 1001 is too large; at most 1000"),
        ({"rate": 1.5}, "agora.rate = 1.5 is a share of the words"),
        ({"rate": float("nan")}, "agora.rate = nan must be a finite number"),
        ({"confidence": 1.0}, "agora.confidence = 1.0 must be at least 0 and less than 1"),
        ({"least_distance": 0.6}, "agora.least_distance = 0.6 must be greater than 0, at most most_distance = 0.5"),
        ({"most_distance": 1.0}, "less than 1"),
        ({"templates": ("no slot",)}, "'no slot' needs {text} once"),
        ({"templates": ("{text}",)}, "needs {text} once, and words beside it"),
        ({"templates": (), "transforms": ()}, "so there are no new points"),
        ({"learning_rates": (1e-4, 1e-4)}, "agora.learning_rates has a value twice"),
        ({"transforms": ("swap",), "masked_lm": "bert"}, "agora.masked_lm has no effect"),
        ({"replays": 11}, "agora.replays = 11 is too large"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], said: str):
    with pytest.raises(UserError) as error:
        check_agora(Agora(**changes), RECIPE)
    assert said in str(error.value)


def test_a_set_that_fine_tuning_refuses_is_told_at_once():
    with pytest.raises(UserError, match=r"optim\.learning_rate = 0\.0 must be positive"):
        sets.every(RECIPE, Agora(learning_rates=(1e-4, 0.0)))
    with pytest.raises(UserError, match=r"two sets are lr-0\.0001-.* to six digits"):
        sets.every(RECIPE, Agora(learning_rates=(1e-4, 1e-4 + 1e-15)))
    with pytest.raises(UserError, match=r"1,200 sets .* at most 1,000"):
        sets.every(RECIPE, Agora(seeds=tuple(range(200))))


def test_the_file_of_points_is_agoras_own():
    recipe = dataclasses.replace(RECIPE, data=dataclasses.replace(RECIPE.data, added_file="mine.jsonl"))
    with pytest.raises(UserError, match=r"data\.added_file is where Agora puts its points"):
        check_agora(Agora(), recipe)
