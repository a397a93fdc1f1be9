"""Other objectives: which steps are causal follows from their numbers, and what cannot be learnt is one line."""

import dataclasses
import math

import pytest

from bertlite_jax.config import files
from bertlite_jax.config.checks import check_pretrain
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Mask, Objective, Pretrain, Run, causal_slots
from bertlite_jax.config.schedule import at_step, coming, is_causal, kinds, stages
from bertlite_jax.config.sizes import resolve_sizes
from bertlite_jax.errors import UserError

CONFIG = Pretrain(objective=Objective(causal_every=16), run=Run(steps=100, depths=((3, 31), (6, 80))))


def with_objective(**values) -> Pretrain:
    return dataclasses.replace(Pretrain(), objective=Objective(**values))


def test_multiples_are_causal():
    assert [step for step in range(1, 101) if is_causal(CONFIG, step)] == [16, 32, 48, 64, 80, 96]
    assert not any(is_causal(Pretrain(), step) for step in range(1, 101))


def test_the_steps_between_are_those_of_a_run_without_causal_ones():
    """The same config, so the same program."""
    plain = dataclasses.replace(CONFIG, objective=Objective())
    for step in range(1, 101):
        found, wanted = at_step(CONFIG, step), at_step(plain, step)
        assert (found == wanted) == (step % 16 != 0)
        assert found.objective.causal == (step % 16 == 0)
        assert found.model == wanted.model


def test_both_kinds_of_a_stage_add_up_to_its_steps():
    """1 to 31 has one multiple of 16, 32 to 80 has four, 81 to 100 one."""
    found = [[(kind.steps, kind.config.objective.causal) for kind in kinds(stage)] for stage in stages(CONFIG)]
    assert found == [[(30, False), (1, True)], [(45, False), (4, True)], [(19, False), (1, True)]]
    for stage in stages(CONFIG):
        for kind in kinds(stage):
            step = next(
                n for n in range(stage.first, stage.last + 1) if is_causal(CONFIG, n) == kind.config.objective.causal
            )
            assert kind.config == at_step(CONFIG, step)
    assert [kind.steps for stage in stages(Pretrain()) for kind in kinds(stage)] == [125_000]


def test_programs_that_come_are_the_next_causal_one_and_the_next_stages_other_one():
    """Step 32 begins a stage and is causal; the stage's other program is first needed at 33."""
    assert coming(CONFIG, 1) == [16, 33]
    assert coming(CONFIG, 16) == [32, 33]
    assert coming(CONFIG, 33) == [48, 81]
    assert coming(CONFIG, 96) == []
    assert coming(Pretrain(), 1) == []


def test_places_of_a_causal_step_are_cut_evenly_and_hold_no_fewer_than_the_masked_slots():
    """K = ceil(0.15 x 128) + 8 = 28, and 32 is the next divisor of 128; a prime length is not cut."""
    assert causal_slots(Pretrain(data=Data(length=128))) == 32
    assert causal_slots(Pretrain(data=Data(length=127))) == 127
    assert causal_slots(Pretrain(data=Data(length=128), mask=Mask(rate=0.9))) == 128


def test_the_head_comes_with_its_objective():
    assert resolve_sizes(with_objective(replaced_weight=50.0), 300).model.replaced_head
    assert not resolve_sizes(Pretrain(), 300).model.replaced_head


def test_configs_of_older_versions_have_neither_objective():
    stored = dataclasses.asdict(Pretrain())
    del stored["objective"], stored["model"]["replaced_head"]
    assert files.from_dict(Pretrain, stored, "config.json") == Pretrain()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            dataclasses.replace(with_objective(causal_every=16), data=Data(isolate=False)),
            "data.isolate = False cannot be combined with objective.causal_every",
        ),
        (with_objective(replaced_weight=-1.0), "objective.replaced_weight = -1.0 cannot be negative"),
        (with_objective(replaced_weight=math.nan), "objective.replaced_weight = nan must be a finite number"),
        (with_objective(replaced_weight=math.inf), "objective.replaced_weight = inf must be a finite number"),
        (with_objective(replaced_weight=1e31), "objective.replaced_weight = 1e+31 is too large; at most 1e+30"),
        (with_objective(causal_every=-16), "objective.causal_every = -16 cannot be negative"),
        (with_objective(causal_every=2**40), "objective.causal_every = 1099511627776 is too large"),
        (
            with_objective(causal_every=1),
            "objective.causal_every = 1 leaves no step for the masked language model; at least 2, such as 16, or 0 for "
            "no causal steps",
        ),
        (
            with_objective(causal_every=125_001),
            "objective.causal_every = 125001 must be at most run.steps = 125000, or no step would be causal",
        ),
        (
            Pretrain(model=Model(replaced_head=True)),
            "model.replaced_head needs its loss; pass --objective.replaced-weight 50, which adds the head too",
        ),
    ],
)
def test_what_cannot_be_learnt_is_one_line(config: Pretrain, message: str):
    with pytest.raises(UserError) as refused:
        check_pretrain(config)
    assert str(refused.value).startswith(f"config: {message}")
    assert "\n" not in str(refused.value)
