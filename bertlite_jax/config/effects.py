"""Settings of which one overrides another, or has an effect only beside another.

A recipe may hold settings that its other settings make idle; they are there for whoever changes those. What a user
types is meant to have an effect: it wins over the recipe, or is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from bertlite_jax.config.files import flat
from bertlite_jax.errors import UserError


class Override(NamedTuple):
    """`stronger`, unless it has the value `off`, makes `weaker` idle."""

    weaker: str
    stronger: str
    off: Any = 0


class Need(NamedTuple):
    """Fields that have an effect only where `test` holds for the value of `owner`."""

    fields: tuple[str, ...]
    owner: str
    test: Callable[[Any], bool]
    advice: str


def _is(*values: Any) -> Callable[[Any], bool]:
    return lambda value: value in values


FINETUNE_OVERRIDES = (
    Override("run.epochs", "run.steps"),
    Override("run.warmup_fraction", "optim.warmup_steps"),
    Override("data.validation_fraction", "data.validation_file", ""),
    Override("data.held_out", "data.validation_file", ""),
)
_OF_OWN_DATA = (
    "kind", "text_column", "pair_column", "label_column", "id_column", "choice_columns", "label_names", "separator",
    "delimiter", "decimal", "skip_unlabelled", "validation_file", "validation_fraction", "held_out",
)  # fmt: skip
ABOUT_TEXTS = ("squad1", "squad2", "cmrc2018")
"""Tasks that ask questions about texts."""
_OF_TRACKERS = (Need(("run.track_project",), "run.track", bool, "pass --run.track trackio"),)
_OF_OPTIM = (
    Need(("optim.momentum",), "optim.name", _is("muon", "normuon"), "pass --optim.name muon"),
    Need(("optim.neuron_decay",), "optim.name", _is("normuon"), "pass --optim.name normuon"),
)
FINETUNE_NEEDS = (
    Need(("quantise.noise",), "quantise.bits", bool, "pass --quantise.bits 7"),
    *_OF_OPTIM,
    *_OF_TRACKERS,
    Need(tuple(f"data.{name}" for name in _OF_OWN_DATA), "data.task", _is(""), "it is for files of your own"),
    Need(
        ("data.window_step", "data.question_length", "data.answer_length", "head.span"),
        "data.task",
        _is(*ABOUT_TEXTS),
        "it is for questions about a text",
    ),
    Need(("data.choice_columns",), "data.kind", _is("auto", "choose"), "pass --data.kind choose"),
    Need(("data.separator",), "data.kind", _is("auto", "multi_label"), "pass --data.kind multi_label"),
    Need(("data.label_names",), "data.kind", _is("auto", "classify", "multi_label", "tag"), "it has no labels"),
    Need(
        ("data.pair_column",),
        "data.kind",
        _is("auto", "classify", "multi_label", "regression"),
        "it reads no second text",
    ),
    Need(("data.row_length",), "data.pack", bool, "leave out --data.no-pack"),
    Need(("run.average_decay",), "run.average", _is("ema"), "pass --run.average ema"),
    Need(("run.average_steps",), "run.average", _is("tail"), "pass --run.average tail"),
    Need(("optim.end_fraction",), "optim.schedule", _is("linear", "cosine", "wsd"), "pass --optim.schedule linear"),
    Need(("optim.decay_steps",), "optim.schedule", _is("wsd"), "it belongs to another schedule"),
    Need(("learn.teacher_weight", "learn.temperature"), "learn.teacher", bool, "name a model with --learn.teacher"),
    Need(("learn.confidence",), "learn.consistency", bool, "pass --learn.consistency 1"),
    Need(("learn.temporal_decay", "learn.temporal_ramp"), "learn.temporal", bool, "set --learn.temporal too"),
    Need(("learn.domain_weight",), "learn.domains", bool, "name folders with --learn.domains"),
    Need(("adapt.layer_decay",), "adapt.freeze_layers", lambda layers: layers >= 0, "the whole encoder is frozen"),
)
AGORA_NEEDS = (
    Need(("agora.candidates",), "agora.transforms", lambda names: "masked_lm" in names, "add masked_lm there"),
    Need(("agora.patience", "agora.replay_sets"), "agora.replays", bool, "pass --agora.replays 1"),
)
PRETRAIN_NEEDS = (
    *_OF_OPTIM,
    *_OF_TRACKERS,
    Need(("data.windows_per_row", "data.isolate"), "data.pack", bool, "leave out --data.no-pack"),
    Need(("data.single_segment",), "data.pair_task", lambda task: task != "none", "pass --data.pair-task sop"),
    Need(("mask.max_ngram",), "mask.scheme", _is("ngram"), "pass --mask.scheme ngram"),
    Need(("mask.rate_steps",), "mask.first_rate", bool, "set --mask.first-rate too"),
    Need(("optim.decay_steps",), "optim.schedule", _is("wsd"), "pass --optim.schedule wsd"),
    Need(("optim.end_fraction",), "optim.schedule", _is("linear", "cosine", "wsd"), "pass --optim.schedule linear"),
)
DISTILL_NEEDS = (
    *PRETRAIN_NEEDS,
    Need(("quantise.noise",), "quantise.bits", bool, "pass --quantise.bits 7"),
    Need(("distill.soft_tokens",), "distill.soft_weight", bool, "pass --distill.soft-weight 5"),
    Need(
        ("distill.relation_heads", "distill.relation_layer"),
        "distill.relations_weight",
        bool,
        "pass --distill.relations-weight 1",
    ),
    Need(("distill.pair_weight",), "data.pair_task", lambda task: task != "none", "pass --data.pair-task sop"),
    Need(("distill.fit_widths",), "distill.start", lambda start: start != "random", "nothing is taken at random"),
)
SEARCH_NEEDS = (
    *PRETRAIN_NEEDS,
    Need(("surrogate.extrapolate_to",), "surrogate.kind", _is("extrapolated"), "pass --surrogate.kind extrapolated"),
    Need(
        ("surrogate.teacher_steps", "surrogate.teacher_pieces"),
        "surrogate.kind",
        _is("teacher_cross_entropy", "teacher_divergence"),
        "nothing is compared with the maximum point",
    ),
    Need(("surrogate.longer_shapes",), "surrogate.longer_steps", bool, "set --surrogate.longer-steps too"),
    Need(("cost.layer_seconds",), "cost.latency", _is("roofline"), "pass --cost.latency roofline"),
    Need(("cost.fitted_shapes",), "cost.latency", _is("fitted"), "pass --cost.latency fitted"),
)


def option(field: str) -> str:
    """`--run.average-decay` of `run.average_decay`."""
    return f"--{field.replace('_', '-')}"


def settled(config: Any, given: Collection[str], overrides: tuple[Override, ...]) -> tuple[Any, list[str]]:
    """The config in which what was given on the command line wins over what a recipe has.

    Args:
      config: recipe and command line together.
      given: fields that were given on the command line, such as `run.epochs`.
      overrides: pairs of fields.

    Returns:
      The config, and a line for each field of the recipe that was switched off.

    Raises:
      UserError: two fields were given of which one overrides the other.
    """
    lines = []
    for weaker, stronger, off in overrides:
        values = flat(config)
        if weaker not in given or values[stronger] == off:
            continue
        if stronger in given:
            raise UserError(
                f"config: {option(weaker)} and {option(stronger)} cannot be combined: {stronger} = {values[stronger]} "
                f"decides alone; leave one of them out"
            )
        config = replaced(config, stronger, off)
        lines.append(
            f"{option(weaker)} {values[weaker]} takes the place of the recipe's {stronger} = {values[stronger]}"
        )
    return config, lines


def replaced(config: Any, field: str, value: Any) -> Any:
    """The config with another value of a field such as `run.steps`."""
    group, _, name = field.partition(".")
    return dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **{name: value})})


def check_effects(config: Any, given: Collection[str], needs: tuple[Need, ...]) -> None:
    """Raises UserError for a field that was given on the command line, is not as by default, and has no effect."""
    values, usual = flat(config), flat(type(config)())
    for fields, owner, test, advice in needs:
        for field in fields:
            if field in given and values[field] != usual[field] and not test(values[owner]):
                shown = values[owner] if values[owner] not in ("", ()) else "not set"
                raise UserError(f"config: {option(field)} has no effect with {owner} = {shown}; {advice}")
