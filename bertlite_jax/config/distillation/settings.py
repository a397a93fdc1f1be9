"""Settings of distillation: those of pretraining, and what is learnt from which teacher."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from bertlite_jax.config.int8 import Bits, Quantise
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Pretrain


@dataclasses.dataclass(frozen=True)
class Distillation:
    """What a student learns from its teachers, and starts from; docs/distill.md has formulas. By default DistilBERT."""

    teachers: tuple[str, ...] = ()
    """Work directories or folders of the teachers; the option --teacher sets them too. Predictions and relations of
    several are averaged in probability."""
    store: str = ""
    """Folder that `bertlite teach` wrote, with what the teachers say of the rows of this run. Steps read it, and do not
    run the teachers."""
    temperature: float = 2.0
    """Divides the logits of student and teacher in soft_weight and pair_soft_weight."""
    soft_weight: float = 5.0
    """Weight of the divergence from the teacher's predictions."""
    soft_tokens: Literal["masked", "all"] = "masked"
    """Where predictions are compared. masked: at the tokens that are predicted anyway. all: at every real token, as in
    DistilBERT's code; the logits then take about seven times the memory."""
    mlm_weight: float = 2.0
    """Weight of the masked language model on the text itself."""
    cosine_weight: float = 1.0
    """Weight of 1 - cosine between the last hidden states."""
    states_weight: float = 0.0
    """Weight of the squared differences between the hidden states of layers, the embeddings among them (TinyBERT)."""
    attention_weight: float = 0.0
    """Weight of the squared differences between attention scores before the softmax (TinyBERT). Needs as many heads as
    the teacher has."""
    layers: tuple[int, ...] = ()
    """For states_weight and attention_weight: the layer of the teacher that each layer of the student learns from,
    counted from 1. Without it, in equal steps: 2 4 6 8 10 12 for six layers and a teacher of twelve."""
    relations_weight: float = 0.0
    """Weight of the divergence between the self-attention relations of queries, keys and values in the student's last
    layer and in one of the teacher's (MiniLM v2)."""
    relation_heads: int = 0
    """Number of relation heads; must divide the hidden sizes of student and teacher. 0: as many as the first teacher
    has attention heads."""
    relation_layer: int = 0
    """For relations_weight: layer of the teacher, counted from 1. 0: its last."""
    pair_weight: float = 1.0
    """Weight of the pair task on its labels, if data.pair_task is one."""
    pair_soft_weight: float = 0.0
    """Weight of the divergence from the teacher's predictions for data.pair_task."""
    start: Literal["alternate", "first", "last", "groups", "random"] = "alternate"
    """Where the student's layers come from. alternate: layers of the first teacher at equal distances, the first and
    the last among them (0, 2, 4, 7, 9, 11 of twelve, as in DistilBERT). first, last: as many of its first or last
    layers. groups: means of consecutive layers. random: nothing is taken. Layers that share start from a mean, and
    model.low_rank from what it leaves out."""
    fit_widths: bool = False
    """Start although widths differ: tables and kernels of the teacher are narrowed by truncated singular value
    decompositions, and its feed-forward layers to their largest neurons."""


@dataclasses.dataclass(frozen=True)
class Distill(Pretrain):
    """Everything that a distillation run depends on: a pretraining run of the student, with teachers."""

    distill: Distillation = Distillation()
    quantise: Quantise = Quantise()
    """Training of the student for a file of 8-bit integers; its teachers stay in floats."""

    @property
    def job(self) -> str:
        """The command that takes such a config."""
        return "distill"


# --- What follows from a config --------------------------------------------------------------------------------------

ONE_TEACHER = ("cosine", "states", "attention")
"""Losses that cannot be averaged over teachers."""
TOP_K = 64
"""Pieces of a prediction that a store has, unless told otherwise."""
OWN = "distill"
"""Key of the parameters that belong to a run and not to its student; no export has them."""


OF_WINNER = Distillation(cosine_weight=0.0, start="random")
"""What the winner of a search learns, unless told otherwise: it may have any width and depth beside the teacher's."""


def taught(recipe: Pretrain, given: Distillation) -> Distill:
    """A recipe of pretraining, with teachers; of a `Search` only what it has of a pretraining run."""
    return Distill(**_of_pretraining(recipe), distill=given)


def untaught(recipe: Distill) -> Pretrain:
    """The recipe without its teachers: the student's pretraining on text alone."""
    return Pretrain(**_of_pretraining(recipe))


def _of_pretraining(recipe: Pretrain) -> dict[str, Any]:
    return {field.name: getattr(recipe, field.name) for field in dataclasses.fields(Pretrain)}


def trained_bits(config: Pretrain) -> Bits | Literal[0]:
    """The bits of the file of integers that a run trains its weights for; 0 for none."""
    return config.quantise.bits if isinstance(config, Distill) else 0


def losses_of(config: Distill) -> dict[str, float]:
    """The losses with a weight above 0, by the names that metrics have: `soft`, `mlm`, `cosine` and so on."""
    names = ("soft", "mlm", "cosine", "states", "attention", "relations", "pair", "pair_soft")
    weights = {name: getattr(config.distill, f"{name}_weight") for name in names}
    if config.data.pair_task == "none":
        del weights["pair"]
    return {name: weight for name, weight in weights.items() if weight > 0}


def learnt_layers(config: Distill, teacher: Model) -> tuple[int, ...]:
    """The layer of the teacher for each of the student's, from 1: layer m of M learns from m N / M, rounded up at .5.

    Source: Jiao et al. 2020 (arXiv 1909.10351), section 3.1, g(m) = m N / M.
    """
    M, N = config.model.num_layers, teacher.num_layers
    return config.distill.layers or tuple(max(1, (2 * m * N + M) // (2 * M)) for m in range(1, M + 1))


def relation_heads(config: Distill, teacher: Model) -> int:
    """R of the relations; `teacher` is the first one."""
    return config.distill.relation_heads or teacher.num_heads
