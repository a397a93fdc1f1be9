"""Where layers of one shape are needed, a pruned model is refused with what pruning has left of it."""

import dataclasses

import pytest
import tiny

from bertlite_jax.config.checks import check_pretrain
from bertlite_jax.config.distillation.checks import check_teacher
from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError

PRUNED = dataclasses.replace(tiny.bert(), pruned_heads=(1, 2), pruned_ffn=(8, 0))
LEFT = "needs layers of one shape, and pruning has left 1, 2 heads and feed-forward widths of 8, 0"


def test_pretraining_is():
    with pytest.raises(UserError, match=f"config: pretraining {LEFT}"):
        check_pretrain(Pretrain(model=PRUNED))


def test_a_teacher_in_pretraining_is():
    with pytest.raises(UserError, match=f"distill: runs/small: a teacher {LEFT}"):
        check_teacher(Distill(), PRUNED, (), "none", "runs/small")
