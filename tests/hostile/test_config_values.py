"""Every number of every setting: not finite, far too large, below 0. The field is named before anything is read."""

import typing

import pytest

from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.config.search.settings import Search

PRETRAINING = "pretrain PRETRAIN --data.corpus corpus --data.tokenizer tokenizer --workdir run"
FINETUNING = "finetune FINETUNE --data task.csv --init hf --workdir run --data.length 32"
DISTILLING = "distill DISTILL --data.corpus corpus --data.tokenizer tokenizer --teacher hf --workdir run"
SEARCHING = "search SEARCH --data.corpus corpus --data.tokenizer tokenizer --workdir run"
COMMANDS = {Pretrain: PRETRAINING, Distill: DISTILLING, Finetune: FINETUNING, Search: SEARCHING}
SET_BY_THE_TASK = ("head.kind", "head.labels", "head.problem", "head.activation", "head.no_answer")


def numbers(config: type, wanted: type) -> list[str]:
    """The settings of a config that are such a number, alone or in a list, as `group.name`."""
    found, known = [], typing.get_type_hints(Pretrain) if config in (Distill, Search) else {}
    for group, kind in typing.get_type_hints(config).items():
        if group in known:
            continue
        for name, hint in typing.get_type_hints(kind).items():
            kinds = {hint, *typing.get_args(hint)}
            if wanted in kinds and f"{group}.{name}" not in SET_BY_THE_TASK:
                found.append(f"{group}.{name}")
    return found


def option(name: str, value: object) -> str:
    """`--optim.learning-rate=nan`; a list of two has its value twice."""
    times = {"run.profile_steps": 2, "method.exponents": 3}.get(name, 1)
    return f"--{name.replace('_', '-')} {f'{value} ' * times}"


def is_named(name: str, line: str) -> bool:
    """Whether a message has the field, or its option: some settings are refused for having no effect alone."""
    return name in line or f"--{name.replace('_', '-')} has no effect" in line


REALS = [(config, name) for config in COMMANDS for name in numbers(config, float)]
WHOLE = [(config, name) for config in COMMANDS for name in numbers(config, int)]
NEGATIVE_IS_RIGHT = ("learn.sce_log_zero",)


@pytest.mark.parametrize(("config", "name"), REALS, ids=lambda each: getattr(each, "__name__", each))
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_that_is_not_finite_is_named(config, name, value, bench):
    line = bench.refuses(f"{COMMANDS[config]} {option(name, value)}", "config: ")
    assert is_named(name, line)
    assert "finite" in line or "no effect" in line


@pytest.mark.parametrize(("config", "name"), REALS, ids=lambda each: getattr(each, "__name__", each))
def test_a_negative_number_is_named(config, name, bench):
    value = 7 if name in NEGATIVE_IS_RIGHT else -0.5
    assert is_named(name, bench.refuses(f"{COMMANDS[config]} {option(name, value)}"))


@pytest.mark.parametrize(("config", "name"), WHOLE, ids=lambda each: getattr(each, "__name__", each))
@pytest.mark.parametrize("value", [10**20, -7, "1.5"], ids=["huge", "negative", "a fraction"])
def test_a_whole_number_that_cannot_be_is_named(config, name, value, bench):
    line = bench.refuses(f"{COMMANDS[config]} {option(name, value)}")
    assert is_named(name, line) or (value == "1.5" and name.replace("_", "-") in line)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--model.hidden-size 1000000000", "model.hidden_size = 1000000000 is too large"),
        ("--model.hidden-size 1000000007", "model.hidden_size = 1000000007 is too large"),
        (
            "--model.hidden-size 262139 --model.num-heads 4",
            "model.num_heads = 4 does not divide model.hidden_size = 262139",
        ),
        ("--model.num-layers 100000000", "model.num_layers = 100000000 is too large"),
        ("--model.num-layers 10000 --model.share none", "pretrain: a step needs about"),
        ("--model.vocab-multiple 1000000000000", "model.vocab_multiple = 1000000000000 is too large"),
        ("--model.vocab-multiple 1048576 --model.embed-size 262144", "pretrain: a step needs about"),
        ("--model.max-positions 100000000000", "model.max_positions = 100000000000 is too large"),
        ("--model.token-types 100000000000", "model.token_types = 100000000000 is too large"),
        ("--data.batch-rows 1600000000", "data.batch_rows = 1600000000 is too large"),
        ("--data.batch-rows 16000000", "raise optim.micro_batches (now 2) or lower data.batch_rows (now 16000000)"),
        ("--mask.max-ngram 99999999999999999999", "mask.max_ngram = 99999999999999999999 is too large"),
        ("--model.ffn-size 99999999999999999999", "model.ffn_size = 99999999999999999999 is too large"),
        ("--run.steps 99999999999999999999", "run.steps = 99999999999999999999 is too large"),
        ("--run.steps 99999999999999999999999 --optim.learning-rate nan", "optim"),
    ],
)
def test_what_no_machine_can_do_is_refused_before_anything_is_compiled(options, said, bench):
    bench.refuses(f"{PRETRAINING} {options}", said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--run.batches 64", "run.batches"),
        ("--run.batches 64 many", "run.batches"),
        ("--run.batches 64 20 32 10", "run.batches = 64 20 32 10 must rise in steps, from 1 on"),
        ("--run.batches -64 20", "run.batches = -64 20 must have at least 1 as its rows"),
        ("--run.batches 33 20", "run.batches = 33 is not divisible by"),
        ("--run.batches 64 2000000000", "must end before run.steps"),
        ("--run.batches 64 99999999999999999999", "run.batches = ((64, 99999999999999999999),) is too large"),
        ("--run.batches 16000000 20", "lower run.batches (now 16000000)"),
        ("--run.lengths 4 20", "run.lengths = 4 is too short"),
        ("--run.lengths 100000 20 --model.max-positions 512", "run.lengths = 100000 exceeds model.max_positions = 512"),
        ("--run.lengths 48 20", "run.lengths needs a corpus for rows of 48 tokens, and none of corpus is one"),
        ("--run.lengths 64 20", "must change the tokens in a row every time; data.length = 64 comes last"),
        ("--run.lengths 0 20", "run.lengths = 0 20 must have at least 1 as its tokens in a row"),
        ("--mask.first-rate 1.5", "mask.first_rate = 1.5 must lie between 0 and 1"),
        ("--mask.first-rate 0.3 --mask.rate 0.3", "mask.first_rate = 0.3 is mask.rate already"),
        ("--mask.first-rate 0.3 --mask.rate-steps 100000000", "mask.rate_steps = 100000000 must be at most run.steps"),
        ("--mask.rate-steps 10", "--mask.rate-steps has no effect with mask.first_rate = 0.0"),
        ("--optim.schedule cosinus", "optim.schedule"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(options, said, bench):
    bench.refuses(f"{PRETRAINING} {options}", said)


def test_the_lists_above_hold_every_group():
    """At least the fifteen real numbers of pretraining, and a hundred settings in all."""
    assert len([name for config, name in REALS if config is Pretrain]) >= 15
    assert len(REALS) + len(WHOLE) > 100
