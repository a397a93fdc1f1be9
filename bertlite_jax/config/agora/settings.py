"""Settings of Agora, the fine-tuning loop of Bort."""

from __future__ import annotations

import dataclasses
from typing import Literal

from bertlite_jax.config.checks import check_not_negative, check_numbers, check_positive, check_share
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.errors import UserError

SLOT = "{text}"
"""Stands in a template for the text."""
MOST_POINTS, MOST_SETS, MOST_REPLAYS = 1000, 1000, 10
"""Points of one mistake; sets in the first round; how often sets come back."""


@dataclasses.dataclass(frozen=True)
class Agora:
    """Which sets of hyperparameters are tried, how mistakes become training points, and which sets go."""

    learning_rates: tuple[float, ...] = (1e-4, 5e-5, 2e-5)
    """Peak learning rates to try. Every rate is tried with every value of the four settings below. Empty: the
    recipe's."""
    weight_decays: tuple[float, ...] = ()
    """Weight decays to try. Empty: the recipe's."""
    warmup_fractions: tuple[float, ...] = ()
    """Shares of the updates that are warm-up, to try. Empty: the recipe's."""
    batches: tuple[int, ...] = (16, 32)
    """Examples in a batch, to try. Empty: the recipe's."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of the models, to try. run.seed is that of the new points."""
    transforms: tuple[Literal["masked_lm", "deletion", "swap"], ...] = ("masked_lm", "deletion", "swap")
    """How a mistake is changed. masked_lm: words are replaced by some that a masked language model finds likely.
    deletion: words are left out. swap: neighbours change places. They take turns; where one gives nothing that can be
    used, the next one is tried, and at last a template."""
    templates: tuple[str, ...] = (f"{SLOT} That is what it says.", f"To put it in other words: {SLOT}", f"Well, {SLOT}")
    """Sentences that say the text in another way, where nothing else has worked. Empty: no templates."""
    points: int = 5
    """New points made of each mistake."""
    rate: float = 0.2
    """Share of the words that a transformation changes."""
    masked_lm: str = ""
    """For masked_lm: run of pretraining, or folder of a model with a masked-LM head. Without it, the model of --init,
    if that has such a head."""
    candidates: int = 15
    """For masked_lm: each word is replaced by one of this many, the likeliest in its place."""
    least_distance: float = 0.05
    """Least share of the words in which a point differs from the mistake that it was made of."""
    most_distance: float = 0.5
    """Greatest share."""
    confidence: float = 0.0
    """Use only points for whose label the teacher gives at least this probability."""
    growth: float = 0.5
    """Most points of a round, as a share of the training examples. A label gets no more than its even part of them."""
    tolerance: float = 0.2
    """For tasks with numbers: an answer is right if it is off by at most this share of the range of the training
    labels."""
    keep_out: tuple[str, ...] = ()
    """Further files whose texts must not become training points, in any form that `bertlite predict` reads: a test file
    of your own. The task's validation and test files are kept out in any case."""
    prune: Literal["family", "whole_family", "half"] = "family"
    """Which sets go after a round. family: the worst, and of those that have most in common with it the ones in the
    lower half. whole_family: the worst, and all that have most in common with it. half: the lower half."""
    rounds: int = 0
    """Most rounds. 0: until no set is left."""
    replays: int = 1
    """How often sets that have gone come back, when the best score has stood still."""
    patience: int = 2
    """Rounds without a better score after which it stands still."""
    replay_sets: int = 4
    """How many sets come back, the best first."""


@dataclasses.dataclass(frozen=True)
class Loop:
    """What the work directory of Agora stores: all that the loop depends on, beside what lies in other folders."""

    recipe: Finetune = dataclasses.field(default_factory=Finetune)
    agora: Agora = Agora()
    init: str = ""
    teacher: str = ""


def check_agora(settings: Agora, recipe: Finetune) -> None:
    """Raises UserError, one line, for the first setting that cannot work with any task."""
    check_numbers(settings, "agora")
    check_positive(settings, "agora", ("points", "rate", "candidates", "growth", "patience", "replay_sets"))
    check_not_negative(settings, "agora", ("rounds", "replays"))
    check_share(settings, "agora", ("confidence", "tolerance"))
    if settings.rate > 1:
        raise UserError(f"config: agora.rate = {settings.rate} is a share of the words and must be at most 1")
    for name, most in (("points", MOST_POINTS), ("replays", MOST_REPLAYS)):
        if getattr(settings, name) > most:
            raise UserError(f"config: agora.{name} = {getattr(settings, name)} is too large; at most {most}")
    if not 0 < settings.least_distance <= settings.most_distance < 1:
        raise UserError(
            f"config: agora.least_distance = {settings.least_distance} must be greater than 0, at most most_distance = "
            f"{settings.most_distance}, and that less than 1"
        )
    for template in settings.templates:
        if template.count(SLOT) != 1 or not template.replace(SLOT, "").strip():
            raise UserError(f"config: agora.templates: {template!r} needs {SLOT} once, and words beside it")
    if not settings.transforms and not settings.templates:
        raise UserError("config: agora.transforms and agora.templates are empty, so there are no new points; set one")
    for name in ("transforms", "learning_rates", "weight_decays", "warmup_fractions", "batches", "seeds"):
        values = getattr(settings, name)
        if len(set(values)) < len(values):
            raise UserError(f"config: agora.{name} has a value twice; leave one of them out")
    if recipe.data.added_file:
        raise UserError("config: data.added_file is where Agora puts its points; add yours to the training file")
    if settings.masked_lm and "masked_lm" not in settings.transforms:
        raise UserError("config: agora.masked_lm has no effect without masked_lm in agora.transforms; leave one out")
