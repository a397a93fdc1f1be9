"""Checks that the settings of distillation agree with each other, and with the teachers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from bertlite_jax.config.checks import check_not_negative, check_positive, check_pretrain
from bertlite_jax.config.compression.pruned import refuse_pruned
from bertlite_jax.config.distillation.settings import ONE_TEACHER, Distill, Distillation, learnt_layers, losses_of
from bertlite_jax.config.int8 import check_quantise
from bertlite_jax.config.model import Model
from bertlite_jax.errors import UserError


def check_distill(config: Distill, devices: int = 1) -> None:
    """Raises UserError, one line, for the first setting that cannot work, whatever the teachers are.

    Args:
      config: the whole config; its `OPEN_SIZES` may still be 0.
      devices: devices that share the batch, over all processes.
    """
    given = config.distill
    check_pretrain(config, devices)
    check_positive(given, "distill", ("temperature",))
    weights = tuple(field.name for field in dataclasses.fields(given) if field.name.endswith("_weight"))
    check_not_negative(given, "distill", (*weights, "relation_heads", "relation_layer"))
    if not given.teachers:
        raise UserError("config: distill.teachers is empty; pass --teacher RUN_OR_FOLDER")
    if not set(losses_of(config)) - {"mlm", "pair"}:
        raise UserError(
            "config: all weights of distill that need the teacher are 0; give one of them, such as "
            "distill.soft_weight = 5, or train with bertlite pretrain"
        )
    alone = [name for name in ONE_TEACHER if name in losses_of(config)]
    if alone and len(given.teachers) > 1:
        raise UserError(
            f"config: distill.{alone[0]}_weight needs one teacher, and distill.teachers has {len(given.teachers)}; "
            "only predictions and relations are averaged over several"
        )
    if "pair_soft" in losses_of(config) and config.data.pair_task == "none":
        raise UserError("config: distill.pair_soft_weight needs a task; set data.pair_task, or the weight to 0")
    excluded = {
        "run.depths": config.run.depths,
        "data.isolate = False": not config.data.isolate,
        "objective.replaced_weight": config.objective.replaced_weight,
        "objective.causal_every": config.objective.causal_every,
    }
    for name in (name for name, value in excluded.items() if value):
        raise UserError(f"config: {name} cannot be combined with distillation; leave it out")
    if any(layer < 1 for layer in given.layers) or len(given.layers) not in (0, config.model.num_layers):
        raise UserError(
            f"config: distill.layers = {given.layers} must have {config.model.num_layers} layers of the teacher, from "
            "1 on, one for each of model.num_layers"
        )
    check_quantised_student(config)
    _refuse_idle(config)


def check_quantised_student(config: Distill) -> None:
    """Raises UserError for a student that no file of integers holds as it is trained."""
    check_quantise(config.quantise)
    model = config.model
    if config.quantise.bits and model.low_rank:
        raise UserError(
            f"config: quantise.bits is not for students with model.low_rank = {model.low_rank}, whose pairs a file "
            "multiplies beside the kernels; leave one of the two out"
        )
    if config.quantise.bits and model.attention in ("cudnn", "pallas"):
        raise UserError(
            f"config: model.attention = {model.attention} multiplies bfloat16, and between products of quantise.bits "
            "lies float32; pass --model.attention auto"
        )


def _refuse_idle(config: Distill) -> None:
    """Raises UserError for a setting that no loss reads."""
    given = config.distill
    if given.layers and not {"states", "attention"} & losses_of(config).keys():
        raise UserError(
            f"config: distill.layers = {given.layers} has no effect; leave it out, or give distill.states_weight or "
            "distill.attention_weight"
        )
    if given.temperature != Distillation().temperature and not {"soft", "pair_soft"} & losses_of(config).keys():
        raise UserError(
            f"config: distill.temperature = {given.temperature} has no effect; leave it out, or give "
            "distill.soft_weight or distill.pair_soft_weight"
        )


def check_relations(config: Distill, heads: int, widths: Mapping[str, int]) -> None:
    """Raises UserError for relation heads that do not divide the width of the student or of a teacher.

    Args:
      config: with all sizes.
      heads: of `relation_heads`.
      widths: of each teacher, by its folder.
    """
    if "relations" not in losses_of(config):
        return
    for name, width in {"model.hidden_size": config.model.hidden_size, **widths}.items():
        if width % heads:
            name = name if name == "model.hidden_size" else f"the hidden size of {name}"
            raise UserError(f"config: distill.relation_heads = {heads} does not divide {name} = {width}")


def check_teacher(config: Distill, teacher: Model, parts: tuple[str, ...], pair_task: str, where: str) -> None:
    """Raises UserError for a loss that a teacher cannot give, or not to this student.

    Args:
      config: with all sizes.
      teacher: its shape.
      parts: what its weights have beside the encoder: `mlm`, `pooler`, `pair`.
      pair_task: what its pair head was trained on.
      where: names it in messages.
    """
    refuse_pruned(teacher, f"distill: {where}: a teacher")
    student, given, wanted = config.model, config.distill, losses_of(config)
    if "soft" in wanted and "mlm" not in parts:
        raise UserError(
            f"distill: {where} has no masked-LM head, which distill.soft_weight needs; pass --distill.soft-weight 0 "
            "and learn its hidden states or relations, such as --distill.relations-weight 1"
        )
    if "pair_soft" in wanted and ("pair" not in parts or pair_task != config.data.pair_task):
        has = f"a pair head for {pair_task}" if "pair" in parts else "no pair head"
        raise UserError(
            f"distill: {where} has {has}, and distill.pair_soft_weight needs one for data.pair_task = "
            f"{config.data.pair_task}"
        )
    longest = max([config.data.length, *(length for length, _ in config.run.lengths)])
    if teacher.max_positions < longest:
        raise UserError(f"distill: {where} has {teacher.max_positions} positions, and rows have {longest} tokens")
    if config.data.pair_task != "none" and teacher.token_types == 1:
        raise UserError(
            f"distill: {where} has model.token_types = 1, and rows of data.pair_task = {config.data.pair_task} have "
            "tokens of two types; pass --data.pair-task none"
        )
    for name in ("num_heads", "ffn_size"):
        if getattr(teacher, name) % config.run.tensor:
            raise UserError(
                f"config: run.tensor = {config.run.tensor} does not divide model.{name} = {getattr(teacher, name)} of "
                f"{where}"
            )
    if "attention" in wanted and teacher.num_heads != student.num_heads:
        raise UserError(
            f"distill: distill.attention_weight needs the teacher's model.num_heads = {teacher.num_heads} (it is "
            f"{student.num_heads}); relations_weight takes any"
        )
    if {"states", "attention"} & wanted.keys() and max(learnt_layers(config, teacher)) > teacher.num_layers:
        raise UserError(f"config: distill.layers = {given.layers} exceeds the {teacher.num_layers} layers of {where}")
    if "relations" in wanted and given.relation_layer > teacher.num_layers:
        raise UserError(
            f"config: distill.relation_layer = {given.relation_layer} exceeds the {teacher.num_layers} layers of "
            f"{where}"
        )


def check_start(config: Distill, teacher: Model, where: str) -> None:
    """Raises UserError if the student cannot start from the teacher as `distill.start` says.

    Args:
      config: with all sizes.
      teacher: its shape.
      where: names it in messages.
    """
    student, start = config.model, config.distill.start
    if start == "random":
        return
    random = "or pass --distill.start random"
    if student.num_layers > teacher.num_layers:
        raise UserError(
            f"distill: distill.start = {start} needs a teacher with at least model.num_layers = {student.num_layers} "
            f"layers, and {where} has {teacher.num_layers}; lower it, {random}"
        )
    alike = ["norm", "num_heads"]
    if student.projected and teacher.projected:
        alike.append("embedding_order")
    for name in alike:
        ours, theirs = getattr(student, name), getattr(teacher, name)
        if ours != theirs:
            raise UserError(f"distill: {where} has model.{name} = {theirs} and the student {ours}; change it, {random}")
    if teacher.depth_vector and not student.depth_vector:
        raise UserError(f"distill: {where} has a vector for each layer; pass --model.depth-vector, {random}")
    widths = ("embed_size", "hidden_size", "ffn_size")
    wider = [name for name in widths if getattr(student, name) > getattr(teacher, name)]
    if wider or (teacher.projected and not student.projected):
        name = wider[0] if wider else "embed_size"
        raise UserError(
            f"distill: {where} has model.{name} = {getattr(teacher, name)} and the student {getattr(student, name)}, "
            f"which cannot be taken from it; lower it, {random}"
        )
    other = [name for name in (*widths, "projected") if getattr(student, name) != getattr(teacher, name)]
    if other and not config.distill.fit_widths:
        name = other[0]
        raise UserError(
            f"distill: {where} has model.{name} = {getattr(teacher, name)} and the student {getattr(student, name)}; "
            f"pass --distill.fit-widths to narrow it, {random}"
        )
