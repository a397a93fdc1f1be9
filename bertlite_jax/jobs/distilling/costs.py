"""What a step of distillation costs beside the training of the student; by formula, as in `report/cost/flops.py`.

Not counted are the losses between states, scores and relations themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from bertlite_jax.config.distillation.settings import Distill, losses_of
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import predictions_per_row
from bertlite_jax.report.cost import flops


def step_flops(config: Distill, teachers: Sequence[Model]) -> int:
    """Forward passes of the teachers, and predictions of the student at every token where they are compared."""
    wanted, length, rows = losses_of(config), config.data.length, config.data.batch_rows
    everywhere = "soft" in wanted and config.distill.soft_tokens == "all"
    places = 0 if "soft" not in wanted else length if everywhere else predictions_per_row(config)
    windows = config.data.window_slots if "pair_soft" in wanted else 0
    total = sum(flops.forward_flops_per_row(teacher, length, places, windows) for teacher in teachers)
    if everywhere:
        with_head, without = (flops.forward_flops_per_row(config.model, length, K, 0) for K in (length, 0))
        total += 3 * (with_head - without)
    return rows * total


def step_bytes(
    config: Distill,
    devices: int,
    compute: str,
    scores: bool,
    teachers: Sequence[Model],
    stored: Mapping[int, int] = {},
    teachers_compute: str = "",
) -> dict[str, int]:
    """Bytes on a device: `teacher`, the parameters, and `teacher_activations`, what a micro-batch needs for a while.

    What a store says of the rows of a step counts as the latter too.

    Args:
      config: of a stage.
      devices: as for `flops.step_memory_bytes`, like the next two.
      compute: "float32" or "bfloat16", in which the student keeps its states.
      scores: whether attention keeps its scores.
      teachers: their shapes; none where a store is read.
      stored: by row length, bytes that a store has of a row.
      teachers_compute: the same of the teachers; empty: as the student.
    """
    wanted, length = losses_of(config), config.data.length
    rows = -(-config.data.batch_rows * config.run.tensor // (devices * config.optim.micro_batches))
    everywhere = "soft" in wanted and config.distill.soft_tokens == "all"
    logits = 4 * rows * config.model.padded_vocab // config.run.tensor
    logits *= 0 if "soft" not in wanted else length if everywhere else predictions_per_row(config)
    weights, passing = 0, (2 if everywhere else 0) * logits + (len(teachers) or 1) * logits
    passing += rows * config.optim.micro_batches * stored.get(length, 0)
    compute = teachers_compute or compute
    for teacher in teachers:
        parts = flops.step_memory_bytes(dataclasses.replace(config, model=teacher), devices, compute, scores)
        weights += parts["parameters"]
        passing += parts["activations"] // (teacher.num_layers + 1)
        if {"states", "attention", "relations"} & wanted.keys():
            width = 2 if compute == "bfloat16" else 4
            passing += (teacher.num_layers + 1) * rows * length * teacher.hidden_size * width
    return {"teacher": weights, "teacher_activations": passing}
