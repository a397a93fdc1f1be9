"""What a config of a search is refused for, before any shape has a cost."""

import dataclasses

import pytest

from bertlite_jax.config import presets
from bertlite_jax.config.pretrain import Data, Mask, Objective, Optim, Pretrain, Run
from bertlite_jax.config.search.checks import check_search
from bertlite_jax.config.search.settings import (
    CostModel,
    Method,
    Search,
    Shape,
    Space,
    Surrogate,
    model_of,
    trained_as,
    trial_optim,
    winner_of,
)
from bertlite_jax.errors import UserError

CONFIG = Search(model=presets.BORT, data=Data(pair_task="none"))


def test_the_defaults_are_the_published_search():
    """RoBERTa-large is the maximum point; it lies outside the space."""
    check_search(CONFIG)
    assert CONFIG.job == "search"
    assert CONFIG.maximum == Shape(24, 16, 1024, 4096)
    assert CONFIG.method.exponents == (1.0, 1.0, 1.0)


def test_a_shape_changes_its_own_fields_only():
    """Of Bort's model with the other published shape, <2,16,1024,512>, as of one with narrow embeddings."""
    made = model_of(presets.BORT, Shape(2, 16, 1024, 512))
    wanted = dataclasses.replace(presets.BORT, num_layers=2, num_heads=16, ffn_size=512)
    assert made == wanted
    shared = model_of(presets.BORT, Shape(12, 12, 768, 3072, 128, "all"))
    assert (shared.embed_size, shared.hidden_size, shared.share) == (128, 768, "all")
    assert shared.vocab_size == presets.BORT.vocab_size


def test_layers_that_share_all_parameters_get_the_factor_with_which_they_learn():
    """Unless the recipe has a factor of its own; layers that share a part of them keep the published one."""
    shared = Shape(12, 12, 768, 3072, 128, "all")
    assert model_of(presets.BORT, shared).residual_scale == "depth"
    assert model_of(dataclasses.replace(presets.BORT, residual_scale=0.5), shared).residual_scale == 0.5
    for share in ("none", "ffn", "attention"):
        assert model_of(presets.BORT, dataclasses.replace(shared, share=share)).residual_scale == "published"


def test_a_trial_warms_up_and_decays_for_the_same_share_of_its_steps_as_the_run():
    run = Optim(schedule="wsd", warmup_steps=100, decay_steps=200, learning_rate=1.0, reference_batch=4096)
    config = dataclasses.replace(CONFIG, optim=run, run=Run(steps=1000))
    made = trial_optim(config, 0.5, 50)
    assert (made.warmup_steps, made.decay_steps) == (5, 10)
    assert (made.learning_rate, made.reference_batch) == (0.5, 0)
    assert trial_optim(config, 0.5, 1).warmup_steps == 0


def test_trials_have_nothing_that_changes_on_the_way_and_the_winner_has_all_of_it():
    mask, objective = Mask(first_rate=0.3, rate_steps=10), Objective(causal_every=16)
    run = Run(steps=1000, lengths=((128, 10),), batches=((8, 10),))
    config = dataclasses.replace(CONFIG, mask=mask, objective=objective, run=run)
    common = trained_as(config)
    assert (common.mask.first_rate, common.objective.causal_every) == (0, 0)
    assert (common.run.lengths, common.run.batches) == ((), ())
    winner = winner_of(config, Shape(2, 8, 512, 256), 3e-4)
    assert type(winner) is Pretrain
    assert (winner.mask, winner.objective, winner.run) == (mask, objective, run)
    assert (winner.model.num_layers, winner.optim.learning_rate) == (2, 3e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": ()}, "space.num_layers is empty; name at least one value"),
        ({"share": ()}, "space.share is empty; name at least one value"),
        ({"ffn_size": (256, 256)}, "space.ffn_size = (256, 256) has the same value twice"),
        ({"ffn_size": (0, 256)}, "space.ffn_size = (0, 256) must be at least 1"),
        ({"embed_size": (-1,)}, "space.embed_size = (-1,) must be at least 0"),
        ({"num_heads": (4, 7)}, "space.num_heads = 7 divides none of space.hidden_size = (512, 768, 1024); leave it"),
        ({"hidden_size": (512, 700), "num_heads": (8,)}, "space.hidden_size = 700 is divided by none of space.num_he"),
        ({"hidden_size": (700,), "num_heads": (8,)}, "space.num_heads = 8 divides none of space.hidden_size = (700,)"),
        ({"ffn_size": tuple(range(1, 2000))}, "space has 143,928 shapes; shorten its lists to at most 100,000"),
        ({"num_layers": (2**40,)}, "space.num_layers = (1099511627776,) is too large"),
    ],
)
def test_a_space_without_shapes_or_with_a_value_of_no_use_is_refused(changes, message):
    with pytest.raises(UserError, match=r"^config: ") as error:
        check_search(dataclasses.replace(CONFIG, space=dataclasses.replace(Space(), **changes)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("group", "changed", "message"),
    [
        ("maximum", Shape(num_heads=10), "maximum.num_heads = 10 does not divide maximum.hidden_size = 1024"),
        ("maximum", Shape(num_layers=0), "maximum.num_layers = 0 must be positive"),
        ("surrogate", Surrogate(steps=0), "surrogate.steps = 0 must be positive"),
        ("surrogate", Surrogate(learning_rates=()), "surrogate.learning_rates is empty"),
        (
            "surrogate",
            Surrogate(learning_rates=(1e-3, 0.0)),
            "surrogate.learning_rates = (0.001, 0.0) must be positive",
        ),
        ("surrogate", Surrogate(learning_rates=(float("nan"),)), "surrogate.learning_rates = (nan,) must be a finite"),
        ("surrogate", Surrogate(seeds=(1, 1)), "surrogate.seeds = (1, 1) has the same value twice"),
        ("surrogate", Surrogate(seeds=(-1,)), "surrogate.seeds = (-1,) must be at least 0"),
        ("surrogate", Surrogate(clip_weights=-1.0), "surrogate.clip_weights = -1.0 cannot be negative"),
        ("surrogate", Surrogate("extrapolated", 10), "surrogate.steps = 10 must be a multiple of 4"),
        ("surrogate", Surrogate("extrapolated", 8, 8), "surrogate.extrapolate_to = 8 must exceed surrogate.steps = 8"),
        ("surrogate", Surrogate(teacher_steps=-1), "surrogate.teacher_steps = -1 cannot be negative"),
        ("surrogate", Surrogate(teacher_pieces=-1), "surrogate.teacher_pieces = -1 cannot be negative"),
        ("surrogate", Surrogate(steps=9, longer_steps=9), "surrogate.longer_steps = 9 must exceed surrogate.steps = 9"),
        ("run", Run(depths=((3, 10),)), "run.depths"),
        ("cost", CostModel(layer_seconds=-1e-6), "cost.layer_seconds = -1e-06 cannot be negative"),
        ("cost", CostModel(published_divisor=-1), "cost.published_divisor = -1 cannot be negative"),
        ("cost", CostModel(fitted_shapes=11), "cost.fitted_shapes = 11 must be at least 12"),
        ("cost", CostModel(latency="measured", host="v5e-16"), "cost.latency = measured is timed on this machine"),
        ("cost", CostModel(length=0), "cost.length = 0 must be positive"),
        ("cost", CostModel(length=513), "cost.length = 513 exceeds model.max_positions = 512"),
        ("method", Method(stride=0), "method.stride = 0 must be positive"),
        ("method", Method(offset=1), "method.offset = 1 must be at least 0 and less than method.stride = 1"),
        ("method", Method(exponents=(1.0, 1.0, 0.0)), "method.exponents = (1.0, 1.0, 0.0) cannot be negative, and"),
        ("method", Method(exponents=(-1.0, 1.0, 1.0)), "method.exponents = (-1.0, 1.0, 1.0) cannot be negative, and"),
        ("method", Method(exponents=(1.0, 1.0, 11.0)), "method.exponents = (1.0, 1.0, 11.0) cannot exceed 10"),
        (
            "method",
            Method("random", others=("random",)),
            "method.others = ('random',) names a method twice, or method.",
        ),
        ("method", Method(others=("random", "random")), "method.others = ('random', 'random') names a method twice"),
        ("method", Method(others=("halving",), rounds=9), "method.rounds = 9 with method.factor = 2 leaves no step"),
        ("method", Method(head_size=-1), "method.head_size = -1 cannot be negative"),
        ("method", Method("halving", factor=1), "method.factor = 1 must be at least 2"),
        ("method", Method("halving", rounds=9), "method.rounds = 9 with method.factor = 2 leaves no step"),
        ("method", Method(most_seconds=-0.005), "method.most_seconds = -0.005 cannot be negative"),
        ("method", Method(most_seconds=float("inf")), "method.most_seconds = inf must be a finite number"),
        ("method", Method(seed=-1), "method.seed = -1 must be at least 0"),
    ],
)
def test_other_settings_that_cannot_work_are_refused(group, changed, message):
    with pytest.raises(UserError, match=r"^config: ") as error:
        check_search(dataclasses.replace(CONFIG, **{group: changed}))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_first_round_of_halving_has_a_quarter_of_its_steps_too():
    """A half of a half of 24 steps is 6."""
    surrogate = Surrogate("extrapolated", 24, 100)
    with pytest.raises(UserError, match=r"surrogate.steps = 24 must be a multiple of 16"):
        check_search(dataclasses.replace(CONFIG, surrogate=surrogate, method=Method("halving")))
    check_search(dataclasses.replace(CONFIG, surrogate=Surrogate("extrapolated", 32, 100), method=Method("halving")))


def test_what_trials_are_trained_with_is_checked_as_for_pretraining():
    with pytest.raises(UserError, match=r"data.pair_task = sop needs model.token_types = 2"):
        check_search(dataclasses.replace(CONFIG, data=Data()))
