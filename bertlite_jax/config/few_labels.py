"""What fine-tuning does beside cross-entropy on labels: the group `learn` of a recipe. All of it is off by default."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Learn:
    """Few labels, wrong labels, another domain; docs/finetune_few_labels.md has formulas, costs and effects."""

    loss: Literal["cross_entropy", "gce", "sce", "bootstrap_soft", "bootstrap_hard", "peer", "focal"] = "cross_entropy"
    """Of a label: cross-entropy, or one of train/few_labels/label_noise.py, most of them for labels that may be
    wrong."""
    gce_q: float = 0.7
    """q of `gce`, between 0 (cross-entropy) and 1 (mean absolute error)."""
    sce_alpha: float = 0.1
    """Weight of cross-entropy in `sce`."""
    sce_beta: float = 1.0
    """Weight of reverse cross-entropy in `sce`."""
    sce_log_zero: float = -4.0
    """What `sce` takes for log 0."""
    bootstrap_beta: float = 0.95
    """Share of the label in the target of `bootstrap_soft` and `bootstrap_hard`; the paper has 0.95 and 0.8."""
    peer_alpha: float = 0.5
    """Weight of the term with another example's label in `peer`."""
    focal_gamma: float = 2.0
    """Exponent of `focal`."""
    fgm: float = 0.0
    """Length of the step on the word vectors of each text (FGM); 0: none. Word vectors are about 1 long,
    and in short runs 0.2 is much already."""
    mix: Literal["none", "pooled", "hidden"] = "none"
    """Learn from mixtures of two examples: of their pooled vectors, or of the states behind layer `mix_layer`."""
    mix_alpha: float = 0.4
    """Of the Beta distribution of the share; small: mostly one of the two."""
    mix_layer: int = 0
    """For `mix = hidden`: 0 mixes the embedded texts, n the states behind layer n (TMix). Wants data.pack off."""
    mix_guessed: float = 0.0
    """Weight of mixtures of unlabelled texts, by guessed labels (MixText), for `mix = pooled`; 0: off."""
    teacher: str = ""
    """A fine-tuned run or folder with the same labels, whose logits are computed once and learnt from."""
    teacher_weight: float = 0.5
    """Share of the teacher in the loss, 0 to 1; the labels have the rest."""
    temperature: float = 2.0
    """Of teacher and student alike in their comparison."""
    unlabelled: str = ""
    """File with one text a line (JSON objects as `bertlite predict` reads them, for pairs), learnt from by
    `consistency`, `mix_guessed`, `temporal` and `teacher`."""
    unlabelled_batch: int = 32
    """Unlabelled texts in an update, beside the labelled ones."""
    consistency: float = 0.0
    """Weight of agreement between an unlabelled text and its augmentation (UDA); 0: off, 1: usual."""
    augment: Literal["tfidf", "edits"] = "tfidf"
    """How a text is changed: replace words that say little by others that say little, or swap and delete some words."""
    augment_rate: float = 0.3
    """Share of the words that are changed, in expectation."""
    sharpen: float = 0.4
    """Temperature of predictions that others learn from; below 1 sharpens."""
    confidence: float = 0.8
    """For `consistency` only originals with a label at least that probable count."""
    annealing: Literal["none", "linear", "log", "exp"] = "none"
    """Withhold labelled examples that are learnt already; how the bound on their probability rises."""
    temporal: float = 0.0
    """Largest weight of agreement with the average of earlier epochs' predictions (temporal ensembling); 0: off."""
    temporal_decay: float = 0.6
    """Of that average, an epoch."""
    temporal_ramp: float = 0.4
    """Share of the run until its weight has risen fully."""
    domains: tuple[str, ...] = ()
    """Further domains, each a folder with the task's training file, or a file of unlabelled text; the task's own is
    the first. A classifier tells them apart behind a gradient reversal."""
    domain_weight: float = 0.1
    """Of the reversed gradient, fully so at the end of the run."""
    private_layers: int = 0
    """Layers of each domain's own encoder beside the shared one; 0: only the shared one. Left out of the model kept."""

    @property
    def reads_unlabelled(self) -> bool:
        """Whether each batch brings unlabelled texts with it."""
        return bool(self.unlabelled)

    @property
    def augments(self) -> bool:
        """Whether each of them stands beside its augmentation."""
        return bool(self.consistency or self.mix_guessed)


READ_BY = {
    "gce_q": ("loss", ("gce",)),
    "sce_alpha": ("loss", ("sce",)),
    "sce_beta": ("loss", ("sce",)),
    "sce_log_zero": ("loss", ("sce",)),
    "bootstrap_beta": ("loss", ("bootstrap_soft", "bootstrap_hard")),
    "peer_alpha": ("loss", ("peer",)),
    "focal_gamma": ("loss", ("focal",)),
    "mix_alpha": ("mix", ("pooled", "hidden")),
    "mix_layer": ("mix", ("hidden",)),
}
"""Settings that only some choices of another setting read."""


def problem_of(learn: Learn) -> str:
    """What cannot work, whatever the task, as the end of a message that begins with `config: `; empty: nothing."""
    for name in ("sce_alpha", "sce_beta", "peer_alpha", "focal_gamma", "fgm", "consistency", "temporal", "mix_guessed"):
        if not getattr(learn, name) >= 0:
            return f"learn.{name} = {getattr(learn, name)} must not be negative"
    for name in ("mix_alpha", "temperature", "sharpen", "unlabelled_batch"):
        if not getattr(learn, name) > 0:
            return f"learn.{name} = {getattr(learn, name)} must be greater than 0"
    for name in ("bootstrap_beta", "teacher_weight", "augment_rate", "temporal_ramp"):
        if not 0 <= getattr(learn, name) <= 1:
            return f"learn.{name} = {getattr(learn, name)} must be between 0 and 1"
    for name in ("confidence", "temporal_decay"):
        if not 0 <= getattr(learn, name) < 1:
            return f"learn.{name} = {getattr(learn, name)} must be at least 0 and less than 1"
    if not 0 < learn.gce_q <= 1:
        return f"learn.gce_q = {learn.gce_q} must be greater than 0 and at most 1"
    if learn.sce_log_zero >= 0:
        return f"learn.sce_log_zero = {learn.sce_log_zero} stands for log 0 and must be negative, such as -4"
    for name, (owner, wanted) in READ_BY.items():
        if getattr(learn, name) != getattr(Learn(), name) and getattr(learn, owner) not in wanted:
            return f"learn.{name} has no effect with learn.{owner} = {getattr(learn, owner)}; set {' or '.join(wanted)}"
    if learn.mix != "none" and learn.loss == "peer":
        return "learn.loss = peer wants labels as they are; set learn.mix = none or another loss"
    if learn.consistency and not learn.unlabelled:
        return "learn.consistency wants text without labels; name a file with learn.unlabelled"
    if learn.mix_guessed and not (learn.unlabelled and learn.mix == "pooled"):
        return "learn.mix_guessed mixes texts of learn.unlabelled where learn.mix = pooled; set both"
    if learn.annealing != "none" and not learn.consistency:
        return "learn.annealing holds labelled examples back for learn.consistency, which is 0; set both or neither"
    if learn.unlabelled and not (learn.augments or learn.temporal or learn.teacher):
        return "learn.unlabelled is read by learn.consistency, mix_guessed, temporal and teacher; set one of them"
    if learn.private_layers and not learn.domains:
        return "learn.private_layers wants domains; name their folders with learn.domains"
    return ""
