"""Settings of pretraining: data, masks, optimiser, run. `config/checks.py` checks that they agree."""

from __future__ import annotations

import dataclasses
from typing import Literal

from bertlite_jax.config.batch import prediction_slots
from bertlite_jax.config.model import Model
from bertlite_jax.config.pair_tasks import PairTask

Tracker = Literal["trackio", "wandb", "mlflow"]
"""Programs that keep the metrics of many runs and show them side by side."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Where the text comes from, and how rows are made from it."""

    corpus: tuple[str, ...] = ()
    """Corpus folders that `bertlite corpus` wrote."""
    weights: tuple[float, ...] = ()
    """Share of each corpus in the windows. Without it, in proportion to their sizes."""
    tokenizer: str = ""
    """Folder of the tokenizer that the corpora were built with, or of a run or model that has it (`reference-en`)."""
    length: int = 512
    """Tokens in a row, L, special tokens included."""
    batch_rows: int = 256
    """Rows in the global batch, over all devices and micro-batches."""
    pack: bool = True
    """Put several windows into a row, so that little of it is padding."""
    windows_per_row: int = 8
    """Most windows in a packed row, P."""
    isolate: bool = True
    """Tokens of a packed row see those of their own window alone. Without it, training takes a row for one text: tokens
    see all windows of it, and positions count from its start. Evaluations isolate windows in any case."""
    buckets: tuple[int, ...] = ()
    """Lengths of shorter rows for shorter windows, such as 128 256, if windows are not packed. Each step has rows of
    one length, and as many tokens as batch_rows rows of length have."""
    pair_task: PairTask = "sop"
    """sop: sentence-order prediction (ALBERT). nsp: next-sentence prediction (BERT). three_way: next, previous or
    random (StructBERT)."""
    single_segment: Literal["drop", "split", "reference"] = "drop"
    """For a window that cannot be cut into a pair without its edges revealing the answer. drop: it has no pair loss.
    split: it is cut between any two words. reference: it gets a random second part and label 1, as in the ALBERT
    release."""
    read_threads: int = 2
    """Threads that prepare batches ahead."""

    @property
    def window_slots(self) -> int:
        """P: the windows that a row has room for; 1 where windows are not packed."""
        return self.windows_per_row if self.pack else 1


@dataclasses.dataclass(frozen=True)
class Mask:
    """Which tokens are masked and predicted."""

    scheme: Literal["ngram", "word", "token"] = "ngram"
    """ngram: spans of n whole words, up to max_ngram, with probability proportional to 1/n. word: single whole words.
    token: single tokens."""
    max_ngram: int = 3
    """Longest span, in words."""
    rate: float = 0.15
    """Share of each window's tokens that is predicted."""
    first_rate: float = 0.0
    """Such a share at step 1, such as 0.3, which changes in a straight line to rate. 0: rate from the start."""
    rate_steps: int = 0
    """Step from which rate holds, if first_rate is set; 0: the last step."""
    mask_share: float = 0.8
    """Share of the predicted tokens that is replaced by [MASK]."""
    random_share: float = 0.1
    """Share of the predicted tokens that is replaced by a random piece. The rest is not replaced."""

    @property
    def largest_rate(self) -> float:
        """What the slots for predictions have to hold."""
        return max(self.rate, self.first_rate)


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a run learns beside the masked language model and the pairs."""

    replaced_weight: float = 0.0
    """Also learn which tokens were replaced (ELECTRA): pieces that the model itself predicts take the places of the
    masked ones, and a second pass over the row says of each token whether it is the one of the text. This is the weight
    of its loss beside that of the masked language model; 50 in ELECTRA. 0: no second pass."""
    causal_every: int = 0
    """One in so many steps is causal (GPT-BERT): at its multiples tokens see only earlier tokens of their window, and
    each predicts the one that follows. 16 in GPT-BERT; at least 2. 0: none."""

    @property
    def causal(self) -> bool:
        """Whether this belongs to a causal step: `config.schedule.at_step` sets causal_every to 1 there, else to 0."""
        return self.causal_every == 1


@dataclasses.dataclass(frozen=True)
class Optim:
    """How gradients become updates."""

    name: Literal["lamb", "adamw", "muon", "normuon"] = "lamb"
    """lamb, adamw: as the ALBERT release computes them. muon: AdamW, but kernels of layers and projection move along
    orthogonal matrices, at the same learning rate. normuon: Muon with steps of equal length for all neurons of a
    kernel."""
    learning_rate: float = 1.76e-3
    """Peak learning rate. Multiplied by sqrt(data.batch_rows / reference_batch) if reference_batch is set, whatever
    run.batches has."""
    reference_batch: int = 0
    """Rows in the batch that learning_rate was tuned for (4096 in ALBERT's paper); 0: no scaling."""
    schedule: Literal["reference", "linear", "cosine", "wsd"] = "linear"
    """linear: warm-up, then linear decay to end_fraction. cosine: the same along half a cosine. reference: that of the
    ALBERT release, whose decay counts from step 0. wsd: warm-up, stable, decay over the last decay_steps."""
    warmup_steps: int = 3125
    """Steps of linear warm-up."""
    decay_steps: int = 0
    """Steps of the final decay of wsd."""
    end_fraction: float = 0.0
    """Learning rate after the last step, as a share of the peak. Not used by the schedule reference."""
    beta1: float = 0.9
    """Decay of the average of gradients (first moment)."""
    beta2: float = 0.999
    """Decay of the average of squared gradients (second moment)."""
    epsilon: float = 1e-6
    """Added to the square root of the second moment."""
    momentum: float = 0.95
    """For muon and normuon: decay of the sum of gradients that is orthogonalised."""
    neuron_decay: float = 0.95
    """For normuon: decay of the average of each neuron's squared steps."""
    weight_decay: float = 0.01
    """Decoupled weight decay; not applied to biases and LayerNorm."""
    clip_norm: float = 1.0
    """Largest global norm of the gradient; larger gradients are scaled down to it. 0: no clipping."""
    update_clip: float = 0.0
    """Lower the learning rate of a tensor while its gradients are larger than the second moment expects: divide it by
    the root mean square of gradient over expectation where that exceeds this number; 1 in StableAdamW. 0: never. Under
    muon and normuon only of what AdamW moves."""
    bias_correction: bool = False
    """Use Adam's bias correction, which the ALBERT and BERT releases do not."""
    micro_batches: int = 1
    """Number of parts that a batch is computed in, to save memory. The result is the same."""


@dataclasses.dataclass(frozen=True)
class Run:
    """How long to train, on which devices, and when to evaluate and save."""

    steps: int = 125_000
    """Number of updates."""
    seed: int = 0
    """Seed of the weights, the order of the data, the masks and the dropout."""
    depths: tuple[tuple[int, int], ...] = ()
    """Train with fewer layers at first: pairs of layers and last step, so that 3 20000 6 50000 applies the shared layer
    3 times up to step 20000, 6 times up to step 50000, then model.num_layers times. Evaluation always uses all. Needs
    model.share = all and one group."""
    lengths: tuple[tuple[int, int], ...] = ()
    """Train with other rows at first: pairs of tokens in a row and last step, so that 128 90000 has rows of 128 up to
    step 90000, then of data.length. Each length needs a corpus in data.corpus that was built for it. Evaluation uses
    data.length."""
    batches: tuple[tuple[int, int], ...] = ()
    """Train with other batches at first: pairs of rows and last step, so that 64 5000 128 10000 has batches of 64 rows
    up to step 5000, of 128 up to step 10000, then of data.batch_rows."""
    devices: int = 0
    """Number of devices to use in each process; 0: all. On a CPU, several devices divide the cores among them."""
    fsdp: int = 1
    """Number of devices that parameters and optimiser state are sharded over (FSDP). Each computes different rows."""
    tensor: int = 1
    """Number of devices of one process that heads, feed-forward layer and vocabulary are divided among (tensor
    parallelism). They compute the same rows."""
    zero1: bool = False
    """Shard the optimiser state over devices that hold the same parameters (ZeRO stage 1)."""
    distributed: bool = False
    """This process is one of several, as on a TPU pod or on hosts with GPUs: find the others and train together.
    Implied if JAX_COORDINATOR_ADDRESS is set, or if a TPU's environment names several hosts. data.batch_rows is the
    batch of all processes. The work directory must be on a disk that all of them see; the first process writes
    there."""
    log_every: int = 10
    """Steps from one line of metrics.jsonl to the next."""
    eval_every: int = 1000
    """Steps from one evaluation on the validation split to the next; 0: only at the end."""
    eval_rows: int = 512
    """Rows of the validation split in an evaluation; 0: all."""
    checkpoint_every: int = 1000
    """Steps from one checkpoint to the next."""
    keep_last: int = 3
    """Number of newest checkpoints to keep."""
    keep_every: int = 0
    """Also keep all checkpoints at multiples of this step; 0: none."""
    spike_factor: float = 3.0
    """Stop if the loss exceeds this multiple of its running mean. 0: stop only on NaN, which always stops a run."""
    tensorboard: bool = True
    """Also write TensorBoard event files."""
    track: tuple[Tracker, ...] = ()
    """Also send the metrics to these trackers. Each needs the extra of its name: pip install "bertlite_jax[mlflow]"."""
    track_project: str = ""
    """Name of the project in the trackers; in MLflow, of the experiment. Without it, what the tracker's own environment
    variable names, else bertlite."""
    profile_steps: tuple[int, int] = (0, 0)
    """Write a profiler trace into the work directory: 10 15 traces the steps 10 to 14. 0 0: no trace."""


@dataclasses.dataclass(frozen=True)
class Pretrain:
    """Everything that a pretraining run depends on."""

    model: Model = Model()
    data: Data = Data()
    mask: Mask = Mask()
    objective: Objective = Objective()
    optim: Optim = Optim()
    run: Run = Run()

    @property
    def job(self) -> str:
        """The command that takes such a config; it begins the messages of its runs."""
        return "pretrain"


# --- What follows from a config -----------------------------------------------------------------------------------


def predictions_per_row(config: Pretrain) -> int:
    """K: the static number of prediction slots in a row."""
    return prediction_slots(config.mask.largest_rate, config.data.length, config.data.window_slots)


def causal_slots(config: Pretrain) -> int:
    """Places of a row whose next tokens are predicted at a time in a causal step: at least K, and a divisor of L."""
    length = config.data.length
    least = min(length, predictions_per_row(config))
    return next(size for size in range(least, length + 1) if length % size == 0)
