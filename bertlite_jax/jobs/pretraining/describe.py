"""What a pretraining run says of itself: what will run, where it resumes, and the line of an evaluation."""

from __future__ import annotations

import math
import pathlib

import jax
import numpy as np

from bertlite_jax.config import schedule
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.data.rows import batches, buckets, pairs, source, stages
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.model.ops import precision
from bertlite_jax.train import sharding, state


def run(
    config: Pretrain,
    row_stages: stages.Stages,
    mesh: jax.sharding.Mesh,
    compute: precision.Compute,
    train_state: state.TrainState,
    step_bytes: int,
) -> str:
    """Parameters, devices, memory, and the steps: one line for them, or a table of what changes at which."""
    device_kind = mesh.devices.flat[0].device_kind
    lines = [
        f"{state.count_parameters(train_state.params):,} parameters, {mesh.size} x {device_kind}, "
        f"products in {compute}, about {step_bytes / 2**20:,.0f} MiB per device",
        _state(mesh, train_state),
        *_steps(config, row_stages),
        *_objective(config),
    ]
    return "\n".join(f"{config.job}: {line}" for line in lines)


def resumed(config: Pretrain, step: int, folder: pathlib.Path) -> str:
    """That a run goes on from a checkpoint, or that nothing is left to train."""
    if step >= config.run.steps:
        return f"{config.job}: {folder} is finished already, at step {step}; --overwrite trains it again"
    return f"{config.job}: resuming from step {step} of {folder}"


def _state(mesh: jax.sharding.Mesh, train_state: state.TrainState) -> str:
    """The mesh, and how much of the parameters and of the optimiser's state each device holds."""
    shares = []
    for name, tree in {"parameters": train_state.params, "optimiser state": train_state.opt}.items():
        total = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
        shares.append(f"{sharding.bytes_a_device(tree) / 2**20:,.1f} of {total / 2**20:,.1f} MiB of {name}")
    return f"mesh {sharding.describe(mesh)}; a device holds {' and '.join(shares)}"


def _steps(config: Pretrain, row_stages: stages.Stages) -> list[str]:
    """How many steps of how many rows; where they change, what at which step."""
    steps = f"{config.run.steps:,} steps"
    if len(row_stages) == 1:
        drawn = row_stages[0].buckets
        lines = [f"{steps} of {_rows(drawn)}; an epoch is {_steps_per_epoch(drawn):,.1f} steps"]
    else:
        lines = [f"{steps}; a step's rows and an epoch change on the way"]
    table = schedule.table(config)
    if not table:
        return lines
    table[0] = (*table[0], "an epoch is")
    for place, stage in enumerate(schedule.stages(config), 1):
        drawn = next(rows.buckets for rows in row_stages if rows.first <= stage.first <= rows.last)
        table[place] = (*table[place], f"{_steps_per_epoch(drawn):,.1f} steps of {_rows(drawn)}")
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        *lines,
        *("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in table),
    ]


def _objective(config: Pretrain) -> list[str]:
    """What is learnt beside masked tokens and pairs."""
    objective, lines = config.objective, []
    if objective.replaced_weight:
        lines.append(f"a second pass over each row finds replaced tokens; weight {objective.replaced_weight:g}")
    if objective.causal_every:
        lines.append(f"one step in {objective.causal_every} is causal, from step {objective.causal_every} on")
    return lines


def _steps_per_epoch(drawn: buckets.Buckets) -> float:
    return sum(source.rows_per_epoch(part) / part.data.batch_rows for part in drawn.sources)


def _rows(drawn: buckets.Buckets) -> str:
    """`32 rows of 128 or 8 rows of 512 tokens`."""
    lengths = [f"{part.data.batch_rows} rows of {part.data.length}" for part in drawn.sources]
    return f"{' or '.join(lengths)} tokens"


def pairs_of(row_stages: stages.Stages, tokenizer: Tokenizer, job: str) -> str:
    """What the first batches say about the pairs, for the corpora of each row length; `job` begins the lines."""
    kinds = pairs.token_kinds(tokenizer.pieces(np.arange(tokenizer.vocab_size)))
    lines, several = [], len({stage.source.data.length for stage in row_stages}) > 1
    for stage in {stage.source.data.length: stage for stage in reversed(row_stages)}.values():
        task, length = stage.source.data.pair_task, stage.source.data.length
        count = min(20, math.ceil(_steps_per_epoch(stage.buckets)))
        statistics = batches.pair_statistics(stage.source, batches=count, kinds=kinds)
        shares = ", ".join(f"{label}: {share:.3f}" for label, share in statistics["label_shares"].items())
        rule = statistics["edge_rule_accuracy"]
        lines.append(
            f"pairs ({task}{f', rows of {length}' if several else ''}): labels {shares}; windows without a pair "
            f"{statistics['weight_zero_share']:.3f}"
            + (f"; a rule that reads only the edges scores {rule:.3f}" if rule else "")
        )
        if problem := batches.pair_problem(statistics, task):
            lines.append(problem)
    return "\n".join(f"{job}: {line}" for line in lines)


def evaluation(number: int, figures: dict[str, float]) -> str:
    """The figures of an evaluation after step `number` in one line."""
    line = (
        f"valid at step {number}: MLM loss {figures['valid_mlm_loss']:.3f} (unigram {figures['unigram_entropy']:.3f}), "
        f"accuracy {figures['valid_mlm_accuracy']:.3f} (most frequent piece {figures['majority_accuracy']:.3f})"
    )
    if "valid_pair_accuracy" in figures:
        line += f", pair accuracy {figures['valid_pair_accuracy']:.3f} (prior {figures['pair_label_prior']:.3f})"
        if figures["pair_label_prior"] == 1.0:
            line += "; all pairs have one label: random parts need a second document in the validation split"
    if "valid_replaced_accuracy" in figures:
        line += (
            f", replaced tokens {figures['valid_replaced_accuracy']:.3f} (none replaced: "
            f"{1 - figures['valid_replaced_share']:.3f})"
        )
    return line
