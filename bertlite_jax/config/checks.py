"""Checks that the settings of a config agree. A mistake is one line: the field, and what would be right."""

from __future__ import annotations

import dataclasses
import itertools
import math
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from bertlite_jax.config import bounds
from bertlite_jax.config.batch import prediction_slots
from bertlite_jax.config.compression.pruned import check_pruned, refuse_pruned
from bertlite_jax.config.model import Head, Model, ResidualScale
from bertlite_jax.config.pair_tasks import pair_classes
from bertlite_jax.config.pretrain import Pretrain, Tracker
from bertlite_jax.config.schedule import check_lists, check_schedule, stages, values_of
from bertlite_jax.errors import UserError, fields_close_to


def check_positive(config: Any, group: str, names: tuple[str, ...]) -> None:
    """Raises UserError for the first of these fields that is 0 or less."""
    for name in names:
        if getattr(config, name) <= 0:
            raise UserError(f"config: {group}.{name} = {getattr(config, name)} must be positive")


def check_numbers(config: Any, group: str) -> None:
    """Raises UserError for a number that is not finite or too large: NaN passes all the comparisons below."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        for number in _numbers_in(value):
            if isinstance(number, float) and not math.isfinite(number):
                raise UserError(f"config: {group}.{field.name} = {value} must be a finite number")
            most = bounds.most_of(group, field.name, number)
            if abs(number) > most:
                end = most if number > 0 else -most
                limit = f"{end:,}" if isinstance(end, int) else f"{end:g}"
                wrong = f"too large; at most {limit}" if number > 0 else f"too small; at least {limit}"
                raise UserError(f"config: {group}.{field.name} = {bounds.shown(value)} is {wrong}")


def _numbers_in(value: Any) -> Iterator[int | float]:
    """The numbers in a field, also in tuples of tuples."""
    if isinstance(value, tuple):
        for element in value:
            yield from _numbers_in(element)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def check_not_negative(config: Any, group: str, names: tuple[str, ...]) -> None:
    """Raises UserError for the first of these fields that is less than 0."""
    for name in names:
        if getattr(config, name) < 0:
            raise UserError(f"config: {group}.{name} = {getattr(config, name)} cannot be negative")


def check_share(config: Any, group: str, names: tuple[str, ...]) -> None:
    """Raises UserError for the first of these fields that is less than 0, or 1 or more."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise UserError(f"config: {group}.{name} = {getattr(config, name)} must be at least 0 and less than 1")


def _divisors_near(total: int, wanted: int) -> str:
    small = [d for d in range(1, math.isqrt(total) + 1) if total % d == 0]
    divisors = {*small, *(total // d for d in small)}
    below = max((d for d in divisors if d < wanted), default=None)
    above = min((d for d in divisors if d > wanted), default=None)
    return " or ".join(str(d) for d in (below, above) if d)


def _divides(total: int, total_name: str, part: int, part_name: str) -> None:
    if total % part:
        raise UserError(
            f"config: {part_name} = {part} does not divide {total_name} = {total}; "
            f"nearest that does: {_divisors_near(total, part)}"
        )


def check_track(trackers: Sequence[str]) -> None:
    """Raises UserError for a tracker that is unknown, or named twice."""
    for number, name in enumerate(trackers):
        if name not in typing.get_args(Tracker):
            known = list(typing.get_args(Tracker))
            raise UserError(f"config: run.track = {name} is unknown; {fields_close_to(name, known)}")
        if name in trackers[:number]:
            raise UserError(f"config: run.track names {name} twice; leave one of them out")


OPEN_SIZES = ("vocab_size", "max_positions")
"""Fields of the model that a recipe may leave open, as 0; `config/sizes.py` fills them in."""


def check_model(model: Model, may_be_open: bool = False) -> None:
    """Raises UserError for a shape that cannot be built.

    Args:
      model: the shape.
      may_be_open: whether its `OPEN_SIZES` may still be 0.
    """
    check_numbers(model, "model")
    sizes = ("vocab_multiple", "embed_size", "hidden_size", "num_layers", "num_heads", "ffn_size")
    check_positive(model, "model", (*sizes, "share_groups", "init_std"))
    check_sizes = check_not_negative if may_be_open else check_positive
    check_sizes(model, "model", OPEN_SIZES)
    check_share(model, "model", ("hidden_dropout", "attention_dropout"))
    check_residual_scale(model.residual_scale, "config: model.residual_scale =")
    _divides(model.hidden_size, "model.hidden_size", model.num_heads, "model.num_heads")
    check_freedom(model)
    layers = "model.num_layers less own_first and own_last" if model.own_first + model.own_last else "model.num_layers"
    _divides(len(model.sharing_layers), layers, model.share_groups, "model.share_groups")
    check_pruned(model)
    if 0 < model.vocab_size < 6:
        raise UserError(
            f"config: model.vocab_size = {model.vocab_size} has no room for more than the five special pieces"
        )
    check_not_negative(model, "model", ("token_types", "pair_classes", "norm_epsilon"))
    if model.pair_classes and not model.pooler:
        raise UserError("config: model.pair_classes needs model.pooler; set --model.pair-classes 0 or --model.pooler")


def check_freedom(model: Model) -> None:
    """Raises UserError for parameters of single layers that the others cannot do without, or that do not fit."""
    check_not_negative(model, "model", ("low_rank", "own_first", "own_last"))
    if model.freed and model.share != "all":
        raise UserError(
            f"config: model.{model.freed[0]} = {getattr(model, model.freed[0])} needs layers that share everything: "
            f"model.share = all (it is {model.share})"
        )
    if model.own_first + model.own_last >= model.num_layers:
        raise UserError(
            f"config: model.own_first = {model.own_first} and model.own_last = {model.own_last} must leave layers that "
            f"share: together less than model.num_layers = {model.num_layers}"
        )
    least = min(model.hidden_size, model.ffn_size)
    if model.low_rank >= least:
        raise UserError(
            f"config: model.low_rank = {model.low_rank} must be less than the smaller of model.hidden_size and "
            f"model.ffn_size, {least}"
        )
    if model.low_rank and model.share_groups >= len(model.sharing_layers):
        raise UserError(
            f"config: model.low_rank = {model.low_rank} needs layers that share: model.share_groups = "
            f"{model.share_groups} for {len(model.sharing_layers)} layers leaves each its own kernels"
        )


def check_residual_scale(scale: ResidualScale, where: str) -> None:
    """Raises UserError for a factor with which layers would do nothing, or too much; `where` begins the message."""
    if not isinstance(scale, str) and not bounds.LEAST_RESIDUAL_SCALE <= scale <= bounds.MOST_RESIDUAL_SCALE:
        raise UserError(
            f"{where} {bounds.shown(scale)} must be published, depth, or a number from "
            f"{bounds.LEAST_RESIDUAL_SCALE:g} to {bounds.MOST_RESIDUAL_SCALE:g}"
        )


def check_head(head: Head, model: Model) -> None:
    """Raises UserError for a head that does not fit the model."""
    check_share(head, "head", ("dropout",))
    if any(width <= 0 for width in head.hidden):
        raise UserError(f"config: head.hidden = {head.hidden} must be positive widths")
    if head.conditioned and head.hidden:
        raise UserError(f"config: head.hidden = {head.hidden} cannot be combined with head.span = conditioned")
    if head.kind in ("classify", "tag") and not head.labels:
        raise UserError(f"config: head.labels is empty; head.kind = {head.kind} needs the names of its outputs")
    if len(set(head.labels)) != len(head.labels):
        raise UserError(f"config: head.labels has the same name twice: {', '.join(head.labels)}")
    if head.pooled != model.pooler:
        raise UserError(f"config: head.kind = {head.kind} needs model.pooler = {head.pooled} (it is {model.pooler})")
    if model.pair_classes:
        raise UserError(f"config: a model with a task head needs model.pair_classes = 0 (it is {model.pair_classes})")


def check_pairs(config: Pretrain) -> None:
    """Raises UserError if the pair task and the model's pair head do not match."""
    task = config.data.pair_task
    if task == "none":
        return
    if config.model.token_types < 2:
        raise UserError(
            f"config: data.pair_task = {task} needs model.token_types = 2 (it is {config.model.token_types}); "
            "or set --data.pair-task none"
        )
    wanted = pair_classes(task)
    if config.model.pair_classes != wanted:
        raise UserError(
            f"config: data.pair_task = {task} needs model.pair_classes = {wanted} (it is {config.model.pair_classes})"
        )


def check_counts(config: Pretrain) -> None:
    """Raises UserError for a number out of range. Called before anything that divides by numbers of the config."""
    data, optim, run = config.data, config.optim, config.run
    for group in dataclasses.fields(config):
        check_numbers(getattr(config, group.name), group.name)
    check_positive(data, "data", ("length", "batch_rows", "windows_per_row", "read_threads"))
    check_positive(optim, "optim", ("learning_rate", "micro_batches", "epsilon"))
    check_positive(run, "run", ("steps", "log_every", "checkpoint_every", "keep_last", "fsdp", "tensor"))
    at_least_0 = ("reference_batch", "warmup_steps", "decay_steps", "weight_decay", "clip_norm", "update_clip")
    check_not_negative(optim, "optim", at_least_0)
    check_not_negative(run, "run", ("devices", "eval_every", "eval_rows", "keep_every"))
    check_not_negative(config.mask, "mask", ("rate_steps",))
    check_track(run.track)
    check_not_negative(config.objective, "objective", ("replaced_weight", "causal_every"))
    check_lists(run)


def check_pretrain(config: Pretrain, devices: int = 1) -> None:
    """Raises UserError, one line, for the first combination that cannot work.

    Args:
      config: the whole config; its `OPEN_SIZES` may still be 0.
      devices: devices that share the batch, over all processes.
    """
    check_model(config.model, may_be_open=True)
    refuse_pruned(config.model, "config: pretraining")
    check_counts(config)
    data, optim, run = config.data, config.optim, config.run
    check_share(optim, "optim", ("beta1", "beta2", "momentum", "neuron_decay"))
    if not 0 <= run.seed < 2**32:
        raise UserError(f"config: run.seed = {run.seed} must be at least 0 and less than 2**32")
    if not 0 <= optim.end_fraction <= 1:
        raise UserError(f"config: optim.end_fraction = {optim.end_fraction} must lie between 0 and 1")
    if run.spike_factor and not run.spike_factor > 1:
        raise UserError(
            f"config: run.spike_factor = {run.spike_factor} must be greater than 1, or 0 to stop only on NaN"
        )
    check_lengths(config)
    if data.weights and len(data.weights) != len(data.corpus):
        raise UserError(f"config: data.weights has {len(data.weights)} numbers for {len(data.corpus)} corpora")
    if any(weight <= 0 for weight in data.weights):
        raise UserError(f"config: data.weights = {data.weights} must be positive")
    check_pairs(config)
    check_tensor(config.model, run.tensor)
    check_mask(config)
    check_objective(config)
    if optim.schedule == "wsd" and not 0 < optim.decay_steps <= run.steps - optim.warmup_steps:
        raise UserError(
            f"config: optim.decay_steps = {optim.decay_steps} must lie between 1 and run.steps - optim.warmup_steps = "
            f"{run.steps - optim.warmup_steps} under optim.schedule = wsd"
        )
    if not 0 <= optim.warmup_steps < run.steps:
        raise UserError(f"config: optim.warmup_steps = {optim.warmup_steps} must be less than run.steps = {run.steps}")
    check_batches(config, devices)
    check_schedule(config)
    check_buckets(config)


def check_lengths(config: Pretrain) -> None:
    """Raises UserError for rows that are too short for a pair, or longer than the table of positions."""
    for name, length in values_of(config, "data.length"):
        if 0 < config.model.max_positions < length:
            raise UserError(
                f"config: {name} = {length} exceeds model.max_positions = {config.model.max_positions}"
                + ("" if name == "data.length" else "; lower it or raise the table")
            )
        if length < 8:
            raise UserError(f"config: {name} = {length} is too short for a pair with its special tokens; at least 8")


def check_mask(config: Pretrain) -> None:
    """Raises UserError for rates and shares that are none, or more predictions than a row has tokens."""
    mask = config.mask
    if not 0 < mask.rate < 1:
        raise UserError(f"config: mask.rate = {mask.rate} must lie between 0 and 1")
    if not 0 <= mask.first_rate < 1:
        raise UserError(f"config: mask.first_rate = {mask.first_rate} must lie between 0 and 1, or be 0 for mask.rate")
    for name, length in values_of(config, "data.length"):
        slots = prediction_slots(mask.largest_rate, length, config.data.window_slots)
        if slots > length:
            rate = "mask.rate" if mask.rate == mask.largest_rate else "mask.first_rate"
            raise UserError(
                f"config: {slots} predictions a row (K) exceed {name} = {length}; lower {rate} or data.windows_per_row"
            )
    if mask.mask_share < 0 or mask.random_share < 0 or mask.mask_share + mask.random_share > 1:
        raise UserError("config: mask.mask_share and mask.random_share must be shares with a sum of at most 1")
    if mask.max_ngram < 1:
        raise UserError(f"config: mask.max_ngram = {mask.max_ngram} must be at least 1")


def check_objective(config: Pretrain) -> None:
    """Raises UserError for causal steps that cannot be, or a head that nothing would train."""
    every, steps = config.objective.causal_every, config.run.steps
    if every == 1:
        raise UserError(
            "config: objective.causal_every = 1 leaves no step for the masked language model; at least 2, such as 16, "
            "or 0 for no causal steps"
        )
    if every > steps:
        raise UserError(
            f"config: objective.causal_every = {every} must be at most run.steps = {steps}, or no step would be causal"
        )
    if every and not config.data.isolate:
        raise UserError(
            "config: data.isolate = False cannot be combined with objective.causal_every, whose tokens see their own "
            "window; leave one of them out"
        )
    if config.model.replaced_head and not config.objective.replaced_weight:
        raise UserError(
            "config: model.replaced_head needs its loss; pass --objective.replaced-weight 50, which adds the head too"
        )


def check_batches(config: Pretrain, devices: int) -> None:
    """Raises UserError for a batch that the devices and micro-batches cannot divide among them."""
    unit = devices * config.optim.micro_batches
    for name, rows in values_of(config, "data.batch_rows"):
        if rows % unit:
            nearest = max(unit, round(rows / unit) * unit)
            raise UserError(
                f"config: {name} = {rows} is not divisible by {devices} devices x "
                f"{config.optim.micro_batches} micro-batches; nearest that is: {nearest}"
            )


def check_tensor(model: Model, tensor: int) -> None:
    """Raises UserError if heads, feed-forward layer or vocabulary cannot be divided among `tensor` devices."""
    if tensor > 1 and model.attention not in ("auto", "xla"):
        raise UserError(
            f"config: model.attention = {model.attention} cannot split heads for run.tensor; pass --model.attention xla"
        )
    for name in ("num_heads", "ffn_size"):
        _divides(getattr(model, name), f"model.{name}", tensor, "run.tensor")
    if model.padded_vocab % tensor:
        raise UserError(
            f"config: run.tensor = {tensor} must divide the vocabulary of {model.padded_vocab}; pass "
            f"--model.vocab-multiple {math.lcm(model.vocab_multiple, tensor)}"
        )


def check_buckets(config: Pretrain) -> None:
    """Raises UserError if `data.buckets` cannot be combined with the other settings, or are no rising lengths."""
    data = config.data
    if not data.buckets:
        return
    if data.pack:
        raise UserError("config: data.buckets are for windows that are not packed; pass --data.no-pack, or no buckets")
    if data.weights:
        raise UserError("config: data.buckets and data.weights cannot be combined; leave one of them out")
    lengths = (*data.buckets, data.length)
    if data.buckets[0] < 8 or any(b <= a for a, b in itertools.pairwise(lengths)):
        raise UserError(f"config: data.buckets = {data.buckets} must rise from 8 or more to below {data.length}")
    for stage in stages(config):
        of_stage = stage.config.data
        name = "data.length" if of_stage.length == data.length else "run.lengths"
        for length in of_stage.buckets:
            _divides(of_stage.length, name, length, "data.buckets")
