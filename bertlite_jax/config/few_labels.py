"""What fine-tuning does beyond cross-entropy on labels: the group `learn` of a recipe. All of it is off by default."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Learn:
    """For few labels, wrong labels, other domains; docs/finetune_few_labels.md has formulas, costs and effects."""

    loss: Literal["cross_entropy", "gce", "sce", "bootstrap_soft", "bootstrap_hard", "peer", "focal"] = "cross_entropy"
    """Loss on labelled examples. All but cross_entropy and focal are for labels that may be wrong."""
    gce_q: float = 0.7
    """q of gce, from 0 (cross-entropy) to 1 (mean absolute error)."""
    sce_alpha: float = 0.1
    """Weight of cross-entropy in sce."""
    sce_beta: float = 1.0
    """Weight of reverse cross-entropy in sce."""
    sce_log_zero: float = -4.0
    """Value that sce uses for log 0."""
    bootstrap_beta: float = 0.95
    """Share of the label in the target of bootstrap_soft and bootstrap_hard; the paper has 0.95 and 0.8."""
    peer_alpha: float = 0.5
    """Weight of the term with another example's label in peer."""
    focal_gamma: float = 2.0
    """Exponent of focal."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: weight the loss of each example by the inverse of its label's share, so that rare labels count as much
    as common ones."""
    fgm: float = 0.0
    """Adversarial training (FGM): length of the step on the word vectors of each text; 0: off. Word vectors have a
    length of about 1, and in short runs 0.2 is already a long step."""
    mix: Literal["none", "pooled", "hidden"] = "none"
    """Train on mixtures of two examples: of their pooled vectors, or of the hidden states after layer mix_layer."""
    mix_alpha: float = 0.4
    """Parameter of the Beta distribution that mixing shares are drawn from; the smaller, the more one of the two
    dominates."""
    mix_layer: int = 0
    """For mix = hidden: the layer after which states are mixed (TMix); 0: the embeddings. Needs --data.no-pack."""
    mix_guessed: float = 0.0
    """For mix = pooled: weight of mixtures of unlabelled texts, with predicted labels (MixText); 0: off."""
    teacher: str = ""
    """Work directory or folder of a model that was fine-tuned on the same kind of task with the same labels, whose
    answers are learnt from (distillation). They are computed once. For questions about a text it needs the same
    tokenizer."""
    teacher_weight: float = 0.5
    """Share of the teacher in the loss, from 0 to 1; the labels have the rest."""
    temperature: float = 2.0
    """Temperature of the logits of teacher and student when they are compared. Numbers have none."""
    unlabelled: str = ""
    """File of unlabelled texts, one on each line (for pairs, choices and questions, JSON objects as `bertlite predict`
    reads them). Used by consistency, mix_guessed, temporal and teacher."""
    unlabelled_batch: int = 32
    """Unlabelled texts and copies in a batch, beside the labelled examples. For questions about a text, windows."""
    copies: int = 0
    """Changed copies of each training text, which only the teacher labels; augment says how they are changed. They
    join the texts of unlabelled. 0: none; TinyBERT: 10 to 30."""
    consistency: float = 0.0
    """Weight of the loss that makes predictions for an unlabelled text and its augmentation agree (UDA); 0: off, 1:
    usual."""
    augment: Literal["tfidf", "edits", "masked_lm"] = "tfidf"
    """How a text is augmented. tfidf: replace words of low TF-IDF by others. edits: swap and delete some words.
    masked_lm: replace words by some that a masked language model finds likely in their place."""
    augment_rate: float = 0.3
    """Expected share of the words that are changed; TinyBERT has 0.4 with masked_lm."""
    augment_model: str = ""
    """For masked_lm: run of pretraining, or folder of a model with a masked-LM head. Without it, the model of --init,
    if that has such a head."""
    candidates: int = 15
    """For masked_lm: each word is replaced by one of this many, the likeliest in its place."""
    sharpen: float = 0.4
    """Temperature of predictions that serve as targets; less than 1 sharpens them."""
    confidence: float = 0.8
    """For consistency: use only texts for which the model gives one label at least this probability."""
    annealing: Literal["none", "linear", "log", "exp"] = "none"
    """For consistency: leave out labelled examples whose label already has a probability above a threshold, which rises
    from chance to 1 in this form."""
    temporal: float = 0.0
    """Largest weight of the loss towards the average of the predictions of earlier epochs (temporal ensembling); 0:
    off."""
    temporal_decay: float = 0.6
    """Decay of that average, for each epoch."""
    temporal_ramp: float = 0.4
    """Share of the run in which its weight rises to the largest."""
    domains: tuple[str, ...] = ()
    """Additional domains beside the task's own, each a folder with the task's training file or a file of unlabelled
    text. A classifier learns to tell domains apart, and reversed gradients make the encoder hide them."""
    domain_weight: float = 0.1
    """Weight of the reversed gradient at the end of the run; it rises from 0."""
    private_layers: int = 0
    """Layers of an encoder for each domain, beside the shared one; 0: only the shared one. They are not part of the
    saved model."""

    @property
    def reads_unlabelled(self) -> bool:
        """Whether batches have unlabelled texts, or copies."""
        return bool(self.unlabelled or self.copies)

    @property
    def replaces_words(self) -> bool:
        """Whether a masked language model proposes words."""
        return self.augment == "masked_lm" and bool(self.augments or self.copies)

    @property
    def augments(self) -> bool:
        """Whether batches also have an augmentation of each unlabelled text."""
        return bool(self.consistency or self.mix_guessed)


MOST_COPIES = 1000
"""Of one text."""

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
    "augment_model": ("augment", ("masked_lm",)),
    "candidates": ("augment", ("masked_lm",)),
}
"""Settings that have an effect only with some values of another setting."""


def problem_of(learn: Learn) -> str:
    """What cannot work with any task, as the end of a message that begins with `config: `; empty if all can."""
    for name in (
        "sce_alpha",
        "sce_beta",
        "peer_alpha",
        "focal_gamma",
        "fgm",
        "consistency",
        "temporal",
        "mix_guessed",
        "domain_weight",
        "copies",
    ):
        if not getattr(learn, name) >= 0:
            return f"learn.{name} = {getattr(learn, name)} must not be negative"
    for name in ("mix_alpha", "temperature", "sharpen", "unlabelled_batch", "candidates"):
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
        return "learn.loss = peer cannot be combined with learn.mix; set learn.mix = none or another loss"
    if learn.consistency and not learn.unlabelled:
        return "learn.consistency needs text without labels; name a file with learn.unlabelled"
    if learn.mix_guessed and not (learn.unlabelled and learn.mix == "pooled"):
        return "learn.mix_guessed needs learn.unlabelled and learn.mix = pooled; set both"
    if learn.annealing != "none" and not learn.consistency:
        return "learn.annealing needs learn.consistency, which is 0; set both or neither"
    if learn.unlabelled and not (learn.augments or learn.temporal or learn.teacher):
        return "learn.unlabelled has no effect without consistency, mix_guessed, temporal or teacher; set one of them"
    if learn.private_layers and not learn.domains:
        return "learn.private_layers needs domains; name their folders with learn.domains"
    return _problem_of_copies(learn)


def _problem_of_copies(learn: Learn) -> str:
    """`problem_of` the group around copies and what else reads text beside the examples."""
    if learn.unlabelled_batch != Learn().unlabelled_batch and not learn.reads_unlabelled:
        return "learn.unlabelled_batch has no effect without learn.unlabelled or learn.copies; set one of them"
    if learn.copies and not learn.teacher:
        return "learn.copies needs a teacher, which alone labels them; name one with learn.teacher"
    if learn.copies > MOST_COPIES:
        return f"learn.copies = {learn.copies} is too large; at most {MOST_COPIES}"
    if learn.copies and learn.consistency:
        return "learn.copies cannot be combined with learn.consistency, which changes texts itself; set one of them"
    if learn.copies and not learn.augment_rate:
        return "learn.copies with learn.augment_rate = 0 are all alike; raise the rate or leave the copies out"
    for name in ("augment", "augment_rate"):
        value = getattr(learn, name)
        if value != getattr(Learn(), name) and not (learn.copies or learn.augments):
            return f"learn.{name} = {value} changes no text without learn.copies, consistency or mix_guessed; set one"
    return ""
