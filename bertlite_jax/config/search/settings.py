"""Settings of the search for a shape: those of pretraining, and what is tried, measured and compared."""

from __future__ import annotations

import dataclasses
from typing import Literal

from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Optim, Pretrain

Share = Literal["none", "ffn", "attention", "all"]
"""The values of `Model.share`."""
Counted = Literal["all", "encoder", "layers"]
"""The values of `CostModel.parameters`."""
MethodName = Literal["published", "random", "halving", "supernet", "ranking"]
"""The values of `Method.name`."""
MEASURED = ("measured", "int8", "fitted")
"""The values of `CostModel.latency` for which this machine is timed."""


@dataclasses.dataclass(frozen=True, order=True)
class Shape:
    """The fields of a model that the search chooses. The default is RoBERTa-large, Bort's maximum point."""

    num_layers: int = 24
    """Number of layers, N."""
    num_heads: int = 16
    """Attention heads, H. Must divide hidden_size."""
    hidden_size: int = 1024
    """Width of the hidden states, D."""
    ffn_size: int = 4096
    """Width of the feed-forward layer, F."""
    embed_size: int = 0
    """Width of the embedding table, E. 0: as wide as hidden_size."""
    share: Share = "none"
    """Which parameters the layers share, as in model.share. Layers that share all of them get model.residual_scale =
    depth: as published, many of them learn nothing in a short training."""


@dataclasses.dataclass(frozen=True)
class Space:
    """The values that each field of a shape may take. The defaults are Bort's space of 300 shapes.

    The shapes are the product of these lists, without those whose heads do not divide their width.
    """

    num_layers: tuple[int, ...] = (2, 4, 6, 8, 10, 12)
    """Numbers of layers."""
    num_heads: tuple[int, ...] = (4, 8, 12, 16)
    """Numbers of attention heads. Each must divide at least one hidden_size."""
    hidden_size: tuple[int, ...] = (512, 768, 1024)
    """Widths of the hidden states."""
    ffn_size: tuple[int, ...] = (256, 512, 768, 1024, 3072)
    """Widths of the feed-forward layer."""
    embed_size: tuple[int, ...] = (0,)
    """Widths of the embedding table. 0: as wide as the hidden states."""
    share: tuple[Share, ...] = ("none",)
    """Which parameters the layers share; none all adds ALBERT's kind to the space."""


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """How the error of a shape is estimated: by a short training on the same batches as all others."""

    kind: Literal["teacher_cross_entropy", "teacher_divergence", "mlm", "extrapolated"] = "teacher_divergence"
    """What the error is. teacher_cross_entropy: cross-entropy with the predictions of the maximum point, as published.
    teacher_divergence: the same less the entropy of those predictions, so that a perfect student has none. mlm: loss of
    the masked language model. extrapolated: that loss as a power law of the steps says it of extrapolate_to."""
    steps: int = 200
    """Number of updates of each trial."""
    extrapolate_to: int = 0
    """For extrapolated: the step whose loss is estimated."""
    learning_rates: tuple[float, ...] = (1e-4, 5e-4)
    """Peak learning rates that each shape is tried with; the best counts."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the weights of each trial; their errors are averaged."""
    clip_weights: float = 0.0
    """Largest absolute value of a weight after each update, as the theory of the published search asks for. 0: none."""
    teacher_steps: int = 0
    """Number of updates of the maximum point, which is trained once. 0: as many as of a trial."""
    teacher_pieces: int = 0
    """Likeliest pieces of each of its predictions that are kept; the others count as one. 0: all are kept."""
    longer_steps: int = 0
    """At the end, train what each method picked, and some other shapes, for this many updates, to see whether the
    short training ranks as the longer one. 0: no."""
    longer_shapes: int = 12
    """Shapes that are trained for longer_steps beside the picks, evenly spread over the space."""


@dataclasses.dataclass(frozen=True)
class CostModel:
    """What a shape costs: its parameters, and the time in which it answers."""

    parameters: Counted = "all"
    """Which parameters count. all: with the heads of pretraining. encoder: without heads. layers: also without
    embeddings."""
    latency: Literal["analytic", "roofline", "measured", "int8", "fitted"] = "analytic"
    """Where the time comes from. analytic: FLOPs. roofline: the larger of the time for FLOPs and for memory traffic,
    and layer_seconds. measured: of the compiled float32 encoder, here. int8: of the 8-bit ONNX file that would be
    deployed, here. fitted: a formula that is fitted to fitted_shapes measured ones, drawn at random."""
    host: str = "this"
    """Machine that answers, for analytic and roofline: this, or a TPU slice such as v5e-16."""
    compared_hosts: tuple[str, ...] = ("v5e-4", "v6e-4")
    """Slices whose roofline is shown beside the latency: whether what is fast here is fast there."""
    published_divisor: int = 1
    """Published models (Bort, BERT, DistilBERT and others) are shown beside the shapes, with all their widths divided
    by this, for a space of narrow shapes. 0: none are."""
    layer_seconds: float = 0.0
    """For roofline: what each layer takes beside its arithmetic, such as the start of kernels."""
    fitted_shapes: int = 30
    """For fitted: number of shapes to measure; at least 12."""
    length: int = 512
    """Tokens in a text that is answered."""
    rows: int = 1
    """Texts that are answered at a time."""


@dataclasses.dataclass(frozen=True)
class Method:
    """How shapes are picked for trials, and how the best is chosen."""

    name: MethodName = "published"
    """published: every stride-th shape in the order of size. random: shapes at random. halving: many with few steps,
    the better ones with more. supernet: one training whose weights all shapes share, then evolution. ranking: no
    trials, the one with the most parameters."""
    others: tuple[MethodName, ...] = ()
    """Methods to compare it with; the winner is that of `name`. What two of them try is trained once."""
    head_size: int = 0
    """Of shapes that differ only in their heads, which cost the same by formula, try one: that whose heads are nearest
    to this width. 0: try all."""
    stride: int = 1
    """For published: distance of the shapes that are tried, ε in the paper. 1 tries all."""
    offset: int = 0
    """For published: place of the first shape that is tried; less than stride."""
    refine: bool = True
    """For published: then try the neighbours of the best shape, until none is better."""
    exponents: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Of the saved parameters, the saved time and the error in the score, each at most 10; 1 1 1 is the published
    W-coefficient."""
    trials: int = 0
    """For random, halving and supernet: compute that may be spent, in trials of a shape of average cost with all
    learning rates. 0: as much as published spends, and if that is not among the methods, as it would spend without
    refine."""
    factor: int = 2
    """For halving: each round has this factor fewer shapes and more steps."""
    rounds: int = 3
    """For halving: number of rounds; the last one has surrogate.steps."""
    sampled: int = 12
    """For supernet: shapes that are trained in it beside the largest and the smallest, evenly spread over the space;
    two of them in a step. Each is one more program to compile. All others inherit what was trained for these."""
    population: int = 16
    """For supernet: shapes in a generation of the evolution."""
    generations: int = 8
    """For supernet: number of generations after the first."""
    seed: int = 0
    """For random, halving, supernet and cost.latency = fitted: seed of the draw of shapes."""
    most_seconds: float = 0.0
    """Latency that the winner may have. 0: any."""


@dataclasses.dataclass(frozen=True)
class Search(Pretrain):
    """Everything that a search depends on.

    What all shapes have in common is in `model`; trials are trained on `data` with `mask` and `optim`; and the winner
    is a config of pretraining with `run`.
    """

    space: Space = Space()
    maximum: Shape = Shape()
    """The maximum point: larger and slower than all of the space, and teacher of the trials."""
    surrogate: Surrogate = Surrogate()
    cost: CostModel = CostModel()
    method: Method = Method()

    @property
    def job(self) -> str:
        """The command that takes such a config."""
        return "search"


# --- What follows from a config --------------------------------------------------------------------------------------


def model_of(base: Model, shape: Shape) -> Model:
    """The model of a shape: everything else is as in `base`, but for the residual scale of layers that share all."""
    values = dataclasses.asdict(shape) | {"embed_size": shape.embed_size or shape.hidden_size}
    if shape.share == "all" and base.residual_scale == "published":
        values["residual_scale"] = "depth"
    return dataclasses.replace(base, **values)


def trial_optim(config: Search, learning_rate: float, steps: int) -> Optim:
    """The optimiser of a trial: its warm-up and decay take the same share of its steps as those of the winner's run.

    Args:
      config: of the search; `run.steps` are those of the winner.
      learning_rate: peak, for whatever batch.
      steps: of the trial.
    """
    optim, share = config.optim, steps / config.run.steps
    return dataclasses.replace(
        optim,
        learning_rate=learning_rate,
        reference_batch=0,
        warmup_steps=min(round(optim.warmup_steps * share), steps - 1),
        decay_steps=max(1, round(optim.decay_steps * share)) if optim.decay_steps else 0,
    )


def trained_as(config: Search) -> Pretrain:
    """What trials have in common: rows of `data.length` with masks of `mask.rate`, and nothing that changes on the way.

    Its model is still that of the config, and its corpora are all of `data.corpus`.
    """
    return Pretrain(
        config.model,
        dataclasses.replace(config.data, buckets=()),
        dataclasses.replace(config.mask, first_rate=0.0, rate_steps=0),
        dataclasses.replace(config.objective, causal_every=0),
        dataclasses.replace(config.optim, micro_batches=1),
        dataclasses.replace(config.run, lengths=(), batches=()),
    )


def winner_of(config: Search, shape: Shape, learning_rate: float) -> Pretrain:
    """The recipe of a shape that was chosen, as `bertlite pretrain` takes it."""
    optim = dataclasses.replace(config.optim, learning_rate=learning_rate, reference_batch=0)
    return Pretrain(model_of(config.model, shape), config.data, config.mask, config.objective, optim, config.run)
