"""The contenders of tools/accelerator_check.py: shapes, the attention of each, and transformers for comparison."""

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
"""Share that a batch may fill by formula, which is right to within a sixth."""

Configs = dict[tuple[str, int], Pretrain]
"""The config of each shape and row length, by (preset, length)."""


class Contender(NamedTuple):
    """A program that trains; it has a row of the table."""

    row: dict[str, Any]
    """preset, length, who, attention."""
    config: Pretrain
    """`data.batch_rows` is the first batch to try."""
    request: dict[str, Any]
    """The rest of the request to its process, see accelerator_turns.py."""


def make_configs(settings: dict[str, Any], text: list[str], tokenizer: str, scratch: pathlib.Path) -> Configs:
    """The configs, and corpora for them in the scratch folder.

    Args:
      settings: presets, lengths, unroll.
      text: files; if empty, the bundled text without its largest file, which would take half a minute of the ten.
      tokenizer: a folder; if empty, a tokenizer is trained on the text.
      scratch: must exist as long as the configs are used.
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
        max(settings["lengths"]),  # One row; `contenders` chooses the batches.
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
    """The model without dropout, its layers unrolled if `unroll`."""
    return dataclasses.replace(model, hidden_dropout=0.0, attention_dropout=0.0, unroll=unroll)


def contenders(
    configs: Configs, device: dict[str, Any], batch_tokens: int
) -> tuple[list[Contender], list[Contender], list[str]]:
    """(contenders with the attention that `auto` chooses, the others, why some attention is not available here).

    Long rows come first, because the goals are set for them.

    Args:
      configs: of `make_configs`.
      device: of `accelerator_turns.describe_device`.
      batch_tokens: the most tokens of a step.
    """
    usual: list[Contender] = []
    others: list[Contender] = []
    reasons: list[str] = []
    on_cpu = device["platform"] == "cpu"
    theirs = {"device": "cpu", "precision": "float32"} if on_cpu else {"device": "cuda", "precision": "bfloat16"}
    common = {"turn_seconds": TURN_SECONDS, "device_kind": device["device_kind"]}
    for (preset, length), config in sorted(configs.items(), key=lambda each: -each[0][1]):
        first = with_rows(config, rows_to_try(config, device, batch_tokens))
        row = {
            "preset": preset,
            "length": length,
            "who": "bertlite_jax",
            "attention": f"auto ({chosen(config, device)})",
        }
        ours = {"kind": "train", "on_cpu": False, **common}
        usual.append(Contender(row, first, ours))
        other, unavailable = other_attention(config, device)
        reasons += unavailable
        for each in other:
            few = with_rows(each, rows_to_try(each, device, batch_tokens))
            others.append(Contender(row | {"attention": each.model.attention}, few, ours))
        for compiled, who in enumerate(("transformers", "transformers, torch.compile")):
            peer = {"kind": "peer", "on_cpu": True, "compiled": bool(compiled), **theirs, **common}
            others.append(Contender(row | {"who": who, "attention": "SDPA"}, first, peer))
    return usual, others, list(dict.fromkeys(reasons))


def other_attention(config: Pretrain, device: dict[str, Any]) -> tuple[list[Pretrain], list[str]]:
    """(the config with each `model.attention` that differs from what `auto` chooses, why some are not available)."""
    usual = chosen(config, device)
    configs, reasons = [], []
    for name in get_args(attention.Attention):
        other = dataclasses.replace(config, model=dataclasses.replace(config.model, attention=name))
        try:
            choice = chosen(other, device)
        except UserError as error:
            reasons.append(str(error))
            continue
        if choice != usual:
            configs.append(other)
    return configs, reasons


def chosen(config: Pretrain, device: dict[str, Any]) -> attention.Chosen:
    """The attention that the config gets on the device. Raises UserError where it is not available."""
    return attention.choose_for(config.model, config.data.length, device["platform"], device["compute"])


def rows_to_try(config: Pretrain, device: dict[str, Any], batch_tokens: int) -> int:
    """The largest power of two of rows that should fit by formula, with at most `batch_tokens`; at least 1."""
    most = batch_tokens / config.data.length
    if limit := device["bytes_limit"]:
        compute = "float32" if device["compute"] == "float32" else "bfloat16"
        scores = chosen(config, device) == "einsum"
        memory = flops.step_memory_bytes(with_rows(config, 1), compute=compute, scores=scores)
        row_bytes = memory["activations"] + memory["logits"]
        most = min(most, (SHARE_OF_MEMORY * limit - (memory["total"] - row_bytes)) / row_bytes)
    return 1 << max(1, int(most)).bit_length() - 1


def with_rows(config: Pretrain, rows: int) -> Pretrain:
    """The config with batches of `rows` rows."""
    return dataclasses.replace(config, data=dataclasses.replace(config.data, batch_rows=rows))
