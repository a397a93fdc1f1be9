"""The models and configs that tests share: small enough to compile in seconds.

A test names only what it is about, such as `tiny.model(share="none")`.
"""

import dataclasses
from typing import Any

import numpy as np

from bertlite_jax.config.distillation.settings import Distill, Distillation
from bertlite_jax.config.model import Head, Model
from bertlite_jax.config.pretrain import Data, Mask, Optim, Pretrain, Run
from bertlite_jax.config.search.settings import CostModel, Search, Shape, Space, Surrogate

VOCAB_SIZE = 300
"""Pieces of the tokenizer of the fixture `prepared`."""
HEAD = Head(labels=("no", "yes"))
_DRAW = np.random.default_rng(0)
ROWS = {
    "tokens": _DRAW.integers(5, 40, (2, 12)).astype(np.int32),
    "segments": np.asarray([[1] * 5 + [2] * 4 + [0] * 3, [1] * 12], np.int32),
    "positions": np.asarray([[0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 0, 0], [*range(12)]], np.int32),
    "token_types": np.zeros((2, 12), np.int32),
    "cls": np.asarray([[0, 5], [0, 0]], np.int32),
}
"""Two rows of 12 tokens below 40: two windows and padding, and one window; in the order of `TaskModel`."""


def model(**changes: Any) -> Model:
    """An ALBERT of two layers of width 16, for random weights and ids below 50."""
    base = Model(vocab_size=50, embed_size=8, hidden_size=16, num_layers=2, num_heads=2, ffn_size=32, max_positions=16)
    return dataclasses.replace(base, **changes)


def trained_model(**changes: Any) -> Model:
    """An ALBERT of two layers of width 32 for the corpus of `prepared`: large enough to learn, the same on any CPU."""
    base = Model(
        vocab_size=VOCAB_SIZE,
        embed_size=16,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        ffn_size=64,
        max_positions=64,
        hidden_dropout=0.1,
        attention_dropout=0.1,
        compute="float32",
    )
    return dataclasses.replace(base, **changes)


def pretrain(prepared: Any, **run: Any) -> Pretrain:
    """Twelve steps on one device, with two evaluations and three checkpoints.

    Args:
      prepared: the fixture, whose corpus is trained on.
      run: changes of the group `run`.
    """
    base = Run(
        steps=12,
        devices=1,
        log_every=2,
        eval_every=6,
        eval_rows=8,
        checkpoint_every=4,
        tensorboard=False,
    )
    return Pretrain(
        model=trained_model(),
        data=Data(corpus=(prepared.corpus,), tokenizer=prepared.tokenizer, length=64, batch_rows=8),
        optim=Optim(name="adamw", learning_rate=2e-3, warmup_steps=3),
        run=dataclasses.replace(base, **run),
    )


def bert(**changes: Any) -> Model:
    """A BERT of two layers of its own for the corpus of `prepared`, of the kind that DistilBERT is."""
    alone = {"share": "none", "embed_size": 32, "token_types": 0, "pooler": False, "pair_classes": 0}
    return trained_model(**{**alone, **changes})


TEACHER = bert(num_layers=4, token_types=2)


def distil(prepared: Any, teacher: str, **distill: Any) -> Distill:
    """`pretrain` with a teacher: two layers that learn from four, on single windows.

    Args:
      prepared: the fixture.
      teacher: folder of one with the shape `TEACHER`, or with another one.
      distill: changes of the group `distill`.
    """
    base = pretrain(prepared)
    return Distill(
        model=bert(),
        data=dataclasses.replace(base.data, pair_task="none"),
        mask=Mask(scheme="token"),
        optim=base.optim,
        run=base.run,
        distill=Distillation(**{"teachers": (teacher,), **distill}),
    )


def search(prepared: Any, **groups: Any) -> Search:
    """Four shapes of one or two layers and a maximum point of three, eight steps each, on single windows.

    Args:
      prepared: the fixture.
      groups: of a `Search`, such as `method=Method(stride=2)`.
    """
    base = pretrain(prepared)
    given = {
        "model": bert(hidden_dropout=0.0, attention_dropout=0.0),
        "data": dataclasses.replace(base.data, pair_task="none"),
        "mask": Mask(scheme="token"),
        "optim": base.optim,
        "run": base.run,
        "space": Space(num_layers=(1, 2), num_heads=(2,), hidden_size=(16, 32), ffn_size=(32,)),
        "maximum": Shape(3, 4, 48, 96),
        "surrogate": Surrogate(steps=8, learning_rates=(2e-3,)),
        "cost": CostModel(length=64),
    }
    return Search(**{**given, **groups})


def scheduled(config: Pretrain, shorter: str, **run: Any) -> Pretrain:
    """A run that changes on its way, with a cosine and a mask rate that falls from 0.3 over three quarters of it.

    Args:
      config: of `pretrain`.
      shorter: the fixture, a corpus for rows of 32 tokens.
      run: schedules of the group `run`.
    """
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, corpus=(shorter, *config.data.corpus)),
        mask=Mask(first_rate=0.3, rate_steps=config.run.steps * 3 // 4),
        optim=dataclasses.replace(config.optim, schedule="cosine", end_fraction=0.1, reference_batch=16),
        run=dataclasses.replace(config.run, **run),
    )
