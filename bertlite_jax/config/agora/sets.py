"""Sets of hyperparameters: all combinations of what Agora tries, and the recipe of each."""

from __future__ import annotations

import dataclasses
import itertools
from typing import NamedTuple

from bertlite_jax.config.agora.settings import MOST_SETS, Agora
from bertlite_jax.config.finetune import Finetune, check_finetune
from bertlite_jax.errors import UserError


class Set(NamedTuple):
    """One set of hyperparameters."""

    learning_rate: float
    weight_decay: float
    warmup_fraction: float
    batch_examples: int
    seed: int

    @property
    def name(self) -> str:
        """Names the folder of its model: `lr-5e-05-decay-0.01-warmup-0.1-batch-16-seed-0`."""
        return (
            f"lr-{self.learning_rate:g}-decay-{self.weight_decay:g}-warmup-{self.warmup_fraction:g}"
            f"-batch-{self.batch_examples}-seed-{self.seed}"
        )

    @property
    def sequence(self) -> tuple[tuple[str, float], ...]:
        """The sequence of its settings, in which sets are compared; equal numbers of two settings are not the same."""
        return tuple(self._asdict().items())


def every(recipe: Finetune, settings: Agora) -> list[Set]:
    """All sets, by the order in which the settings and their values are given.

    Raises:
      UserError: fine-tuning cannot work with one of them, or two have the same name.
    """
    values = (
        settings.learning_rates or (recipe.optim.learning_rate,),
        settings.weight_decays or (recipe.optim.weight_decay,),
        settings.warmup_fractions or (recipe.run.warmup_fraction,),
        settings.batches or (recipe.data.batch_examples,),
        settings.seeds or (recipe.run.seed,),
    )
    found = [Set(*each) for each in itertools.product(*values)]
    if len(found) > MOST_SETS:
        raise UserError(f"config: agora has {len(found):,} sets of hyperparameters; at most {MOST_SETS:,} can be tried")
    names = [each.name for each in found]
    for each in found:
        check_finetune(recipe_of(recipe, each, settings))
        if names.count(each.name) > 1:
            raise UserError(f"config: agora: two sets are {each.name} to six digits; leave one of them out")
    return found


def recipe_of(recipe: Finetune, one: Set, settings: Agora, added_file: str = "") -> Finetune:
    """The recipe of a set.

    Args:
      recipe: of the loop.
      one: the set.
      settings: of the loop; if it tries shares of warm-up, they take the place of the recipe's steps.
      added_file: with the points that are trained on too; empty: none.
    """
    warmup_steps = 0 if settings.warmup_fractions else recipe.optim.warmup_steps
    optim = dataclasses.replace(
        recipe.optim, learning_rate=one.learning_rate, weight_decay=one.weight_decay, warmup_steps=warmup_steps
    )
    run = dataclasses.replace(recipe.run, warmup_fraction=one.warmup_fraction, seed=one.seed)
    data = dataclasses.replace(recipe.data, batch_examples=one.batch_examples, added_file=added_file)
    return dataclasses.replace(recipe, optim=optim, run=run, data=data)
