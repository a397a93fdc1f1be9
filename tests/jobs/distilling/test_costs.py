"""FLOPs and bytes of a step beside those of its student, by arithmetic."""

import dataclasses

import pytest
import tiny

from bertlite_jax.config.distillation.settings import Distill, Distillation
from bertlite_jax.config.effects import replaced
from bertlite_jax.config.pretrain import Data, Optim, predictions_per_row
from bertlite_jax.jobs.distilling import costs
from bertlite_jax.report.cost import flops

MODEL = tiny.bert()
CONFIG = Distill(
    model=MODEL,
    data=Data(length=64, batch_rows=32, pair_task="none"),
    optim=Optim(micro_batches=4),
    distill=Distillation(teachers=("teacher",)),
)
EVERYWHERE = replaced(CONFIG, "distill.soft_tokens", "all")
VOCABULARY = 2 * (32 * 32 + 32 * tiny.VOCAB_SIZE)
"""FLOPs of a prediction: the head's layer, and the product with the table."""


def test_a_teacher_like_the_student_adds_a_forward_pass():
    """A third of training."""
    assert costs.step_flops(CONFIG, [MODEL]) == pytest.approx(flops.train_flops_per_step(CONFIG) / 3)
    assert costs.step_flops(CONFIG, [MODEL, MODEL]) == 2 * costs.step_flops(CONFIG, [MODEL])


def test_predictions_at_every_token_cost_a_product_each():
    """One of the teacher's, three of the student's; K of the teacher's were there before."""
    more = costs.step_flops(EVERYWHERE, [MODEL]) - costs.step_flops(CONFIG, [MODEL])
    assert more == 32 * VOCABULARY * (4 * 64 - predictions_per_row(CONFIG))


def test_without_predictions_no_product_with_the_vocabulary_counts():
    config = replaced(CONFIG, "distill.soft_weight", 0.0)
    saved = costs.step_flops(CONFIG, [MODEL]) - costs.step_flops(config, [MODEL])
    assert saved == 32 * VOCABULARY * predictions_per_row(CONFIG)


def test_memory_has_the_teachers_parameters_and_its_logits():
    """Eight rows of a micro-batch on one device, two on each of four."""
    one, four = (costs.step_bytes(CONFIG, devices, "float32", False, [MODEL]) for devices in (1, 4))
    assert one["teacher"] == four["teacher"] == 4 * flops.parameters(MODEL)["total"]
    logits = 4 * 8 * predictions_per_row(CONFIG) * tiny.VOCAB_SIZE
    layer = flops.step_memory_bytes(CONFIG, 1, "float32", False)["activations"] // 3
    assert one["teacher_activations"] == logits + layer
    assert four["teacher_activations"] == pytest.approx(one["teacher_activations"] / 4, rel=0.01)
    everywhere = costs.step_bytes(EVERYWHERE, 1, "float32", False, [MODEL])["teacher_activations"]
    assert everywhere == 3 * 4 * 8 * 64 * tiny.VOCAB_SIZE + layer
    states = dataclasses.replace(CONFIG, distill=dataclasses.replace(CONFIG.distill, states_weight=1.0))
    kept = costs.step_bytes(states, 1, "float32", False, [MODEL])["teacher_activations"]
    assert kept == one["teacher_activations"] + 3 * 8 * 64 * 32 * 4


def test_with_a_store_no_teacher_counts_and_what_is_read_does():
    """Eight rows of a micro-batch have their predictions in memory, all 32 what the store says of them."""
    assert costs.step_flops(CONFIG, []) == 0
    assert costs.step_flops(EVERYWHERE, []) == 32 * VOCABULARY * 3 * 64
    parts = costs.step_bytes(CONFIG, 1, "float32", False, [], {64: 1000})
    logits = 4 * 8 * predictions_per_row(CONFIG) * tiny.VOCAB_SIZE
    assert parts == {"teacher": 0, "teacher_activations": logits + 32 * 1000}
