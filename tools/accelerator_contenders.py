"""What tools/accelerator_check.py trains: the shapes, the attention of each, and transformers beside them."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any, NamedTuple, get_args

from rich.console import Console

from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.benchmarks import train
from bertlite_jax.jobs.benchmarks.sample_rows import known_preset
from bertlite_jax.model.ops import attention
from bertlite_jax.report.cost import flops

FULL = {"presets": ["albert_base", "albert_xxlarge", "bert_large"], "lengths": [128, 512], "batch_tokens": 65_536}
SMALL = {"presets": ["albert_tiny", "bert_tiny"], "lengths": [64, 128], "batch_tokens": 512}
TURN_SECONDS = 1.5
SHARE_OF_MEMORY = 0.85
"""That a batch may fill by formula, which is within a sixth."""

Configs = dict[tuple[str, int], Pretrain]
"""What each shape is trained with on rows of each length, by (preset, length)."""


class Contender(NamedTuple):
    """Somebody who trains: a row of the table."""

    row: dict[str, Any]
    """preset, length, who, attention."""
    config: Pretrain
    """Its `data.batch_rows` is where to start."""
    asked: dict[str, Any]
    """What its process is asked for besides, see accelerator_turns.py."""


def make_configs(settings: dict[str, Any], text: list[str], tokenizer: str, scratch: pathlib.Path) -> Configs:
    """The configs, and corpora for them in the scratch folder.

    Args:
      settings: presets, lengths, unroll.
      text: files; none: the bundled text but for its largest file, which would take half a minute of the ten.
      tokenizer: a folder; "": one is trained on the text.
      scratch: must live as long as the configs are used.
    """
    models = {name: without_dropout(known_preset(name), settings["unroll"]) for name in settings["presets"]}
    for length in settings["lengths"]:
        for name, model in models.items():
            if not 8 <= length <= model.max_positions:
                raise UserError(
                    f"accelerator_check: --lengths {length} must be at least 8 and at most {model.max_positions}, the "
                    f"positions of {name}"
                )
    files = sorted(train.TEXT.glob("*.zst"), key=lambda path: path.stat().st_size)[:-1]
    built = train.build_configs(
        tuple(text or map(str, files)),
        tokenizer,
        tuple(settings["lengths"]),
        max(settings["lengths"]),  # A row; `contenders` chooses the batches.
        min(models.values(), key=lambda model: model.vocab_size),
        scratch,
        Console(quiet=True),
    )
    return {
        (name, config.data.length): dataclasses.replace(config, model=model)
        for name, model in models.items()
        for config in built
    }


def without_dropout(model: Model, unroll: bool) -> Model:
    return dataclasses.replace(model, hidden_dropout=0.0, attention_dropout=0.0, unroll=unroll)


def contenders(
    configs: Configs, device: dict[str, Any], batch_tokens: int
) -> tuple[list[Contender], list[Contender], list[str]]:
    """Those that train with what `auto` chooses, the others, and why some attention cannot be had on the device.

    Long rows first, because the goals are theirs.

    Args:
      configs: of `make_configs`.
      device: of `accelerator_turns.describe_device`.
      batch_tokens: the most in a step.
    """
    usual: list[Contender] = []
    others: list[Contender] = []
    reasons: list[str] = []
    on_cpu = device["platform"] == "cpu"
    theirs = {"device": "cpu", "precision": "float32"} if on_cpu else {"device": "cuda", "precision": "bfloat16"}
    told = {"turn_seconds": TURN_SECONDS, "device_kind": device["device_kind"]}
    for (preset, length), config in sorted(configs.items(), key=lambda each: -each[0][1]):
        started = with_rows(config, rows_to_try(config, device, batch_tokens))
        row = {
            "preset": preset,
            "length": length,
            "who": "bertlite_jax",
            "attention": f"auto ({chosen(config, device)})",
        }
        ours = {"kind": "train", "on_cpu": False, **told}
        usual.append(Contender(row, started, ours))
        other, why = other_attention(config, device)
        reasons += why
        for each in other:
            few = with_rows(each, rows_to_try(each, device, batch_tokens))
            others.append(Contender(row | {"attention": each.model.attention}, few, ours))
        for compiled, who in enumerate(("transformers", "transformers, torch.compile")):
            peer = {"kind": "peer", "on_cpu": True, "compiled": bool(compiled), **theirs, **told}
            others.append(Contender(row | {"who": who, "attention": "SDPA"}, started, peer))
    return usual, others, list(dict.fromkeys(reasons))


def other_attention(config: Pretrain, device: dict[str, Any]) -> tuple[list[Pretrain], list[str]]:
    """The config with each `model.attention` that gives another one than `auto`; and why some cannot be had."""
    usual = chosen(config, device)
    made, reasons = [], []
    for name in get_args(attention.Attention):
        other = dataclasses.replace(config, model=dataclasses.replace(config.model, attention=name))
        try:
            found = chosen(other, device)
        except UserError as error:
            reasons.append(str(error))
            continue
        if found != usual:
            made.append(other)
    return made, reasons


def chosen(config: Pretrain, device: dict[str, Any]) -> attention.Chosen:
    return attention.choose_for(config.model, config.data.length, device["platform"], device["compute"])


def rows_to_try(config: Pretrain, device: dict[str, Any], batch_tokens: int) -> int:
    """The largest power of two that should fit by formula, with at most `batch_tokens`; at least 1."""
    most = batch_tokens / config.data.length
    if limit := device["bytes_limit"]:
        compute = "float32" if device["compute"] == "float32" else "bfloat16"
        scores = chosen(config, device) == "einsum"
        memory = flops.step_memory_bytes(with_rows(config, 1), compute=compute, scores=scores)
        of_row = memory["activations"] + memory["logits"]
        most = min(most, (SHARE_OF_MEMORY * limit - (memory["total"] - of_row)) / of_row)
    return 1 << max(1, int(most)).bit_length() - 1


def with_rows(config: Pretrain, rows: int) -> Pretrain:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, batch_rows=rows))
