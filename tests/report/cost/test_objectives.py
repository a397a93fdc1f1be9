"""What other objectives cost: parameters, FLOPs and memory of a second pass and of causal steps."""

import dataclasses

import pytest
import thorough

from bertlite_jax.config.model import SPECIAL_IDS, Model
from bertlite_jax.config.pretrain import Data, Mask, Objective, Optim, Pretrain, Run
from bertlite_jax.config.schedule import of_kind
from bertlite_jax.jobs.pretraining.step import lower, make_pretraining
from bertlite_jax.report.cost import flops
from bertlite_jax.train import sharding

BASE = Pretrain(data=Data(length=128, batch_rows=32))


def with_replaced(config: Pretrain) -> Pretrain:
    model = dataclasses.replace(config.model, replaced_head=True)
    return dataclasses.replace(config, model=model, objective=Objective(replaced_weight=50.0))


def with_causal(config: Pretrain) -> Pretrain:
    return of_kind(config, causal=True)


def test_the_head_for_replaced_tokens_adds_half_a_million_parameters_to_albert_base():
    """768 x 768 and 768 of the dense layer, 768 and 1 of the logit: 5 %."""
    count = flops.parameters(dataclasses.replace(Model(), replaced_head=True))
    assert count["total"] - 11_813_810 == count["replaced"] == 768 * 768 + 768 + 768 + 1


def test_the_second_pass_is_one_through_the_encoder_and_the_head():
    """Neither the vocabulary product nor the pooler is in it. ALBERT base: twice the FLOPs of the step."""
    plain, both = flops.train_flops_per_step(BASE), flops.train_flops_per_step(with_replaced(BASE))
    encoder = flops.forward_flops_per_row(BASE.model, 128, 0, 0)
    assert both - plain == 3 * 32 * (encoder + 128 * (2 * 768 * 768 + 2 * 768))
    assert both / plain == pytest.approx(1.997, abs=0.0005)


def test_a_causal_step_predicts_at_every_slot():
    """128 predictions instead of 28, and no pooler. ALBERT base: 3 % more FLOPs."""
    plain, causal = flops.train_flops_per_step(BASE), flops.train_flops_per_step(with_causal(BASE))
    assert causal == 3 * 32 * flops.forward_flops_per_row(BASE.model, 128, 128, 0)
    assert causal / plain == pytest.approx(1.034, abs=0.0005)
    assert flops.train_flops_per_step(with_causal(with_replaced(BASE))) == causal, "no second pass there"


def test_a_run_adds_up_both_kinds_of_its_steps():
    config = dataclasses.replace(BASE, objective=Objective(causal_every=16), run=Run(steps=100, depths=((3, 50),)))
    shallow = dataclasses.replace(config, model=dataclasses.replace(config.model, num_layers=3))
    of_depth = [
        flops.train_flops_per_step(each) for each in (shallow, with_causal(shallow), config, with_causal(config))
    ]
    assert flops.run_flops(config) == 47 * of_depth[0] + 3 * of_depth[1] + 47 * of_depth[2] + 3 * of_depth[3]


@pytest.mark.parametrize(
    "kind",
    thorough.but([with_causal], [lambda config: config, with_replaced, with_causal]),
    ids=["plain", "replaced", "causal"],
)
def test_the_estimate_is_within_a_sixth_of_what_xla_allocates(kind):
    """The whole step on one CPU device, which keeps no scores but those of causal steps."""
    model = Model(
        vocab_size=600, embed_size=64, hidden_size=192, num_layers=5, num_heads=3, ffn_size=640, compute="float32"
    )
    config = kind(Pretrain(model, Data(length=96, batch_rows=16), Mask(), optim=Optim(name="adamw", warmup_steps=1)))
    mesh = sharding.make_mesh(1)
    compiled = lower(config, make_pretraining(config, "float32", mesh, SPECIAL_IDS), mesh).compile()
    memory, allocated = flops.step_memory_bytes(config, scores=False), compiled.memory_analysis()
    assert allocated is not None
    estimate = memory["activations"] + memory["logits"] + memory["gradients"]
    assert estimate == pytest.approx(allocated.temp_size_in_bytes, rel=1 / 6)
