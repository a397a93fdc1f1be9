"""Settings of pretraining: data, masks, optimiser, run. What must agree stands in `config/checks.py`."""

from __future__ import annotations

import dataclasses
from typing import Literal

from bertlite_jax.config.batch import prediction_slots
from bertlite_jax.config.model import Model
from bertlite_jax.config.pair_tasks import PairTask


@dataclasses.dataclass(frozen=True)
class Data:
    """Where the windows come from and how rows are made of them."""

    corpus: tuple[str, ...] = ()
    """Corpus folders, as `bertlite corpus` writes them."""
    weights: tuple[float, ...] = ()
    """Share of the windows that each corpus contributes; empty: in proportion to their sizes."""
    tokenizer: str = ""
    """Tokenizer folder; must be the one that the corpora were built with."""
    length: int = 512
    """Tokens in a row, L, specials included."""
    batch_rows: int = 256
    """Rows in the global batch, over all devices and micro-batches."""
    pack: bool = True
    """Put several windows into a row."""
    windows_per_row: int = 8
    """Most windows that share a row."""
    buckets: tuple[int, ...] = ()
    """Shorter rows for shorter windows, where they are not packed: `128 256`. Each step has rows of one length, and as
    many slots as `batch_rows` rows of `length`."""
    pair_task: PairTask = "sop"
    """Sentence-order prediction (ALBERT), next-sentence prediction (BERT), next/previous/random (StructBERT), none."""
    single_segment: Literal["drop", "split", "reference"] = "drop"
    """A window that cannot be cut into a pair at a fitting place: no pair loss for it; cut it at any word; or take a
    random second part with label 1, as the ALBERT release does."""
    read_threads: int = 2
    """Threads that prepare batches ahead."""

    @property
    def window_slots(self) -> int:
        """P: the windows that a row has room for; 1 where windows are not packed."""
        return self.windows_per_row if self.pack else 1


@dataclasses.dataclass(frozen=True)
class Mask:
    """What the masked language model hides."""

    scheme: Literal["ngram", "word", "token"] = "ngram"
    """Spans of up to `max_ngram` whole words with p(n) proportional to 1/n; single whole words; single tokens."""
    max_ngram: int = 3
    """Longest span, in words."""
    rate: float = 0.15
    """Share of each window's real tokens that is predicted."""
    mask_share: float = 0.8
    """Of those, the share replaced by [MASK]."""
    random_share: float = 0.1
    """Of those, the share replaced by a random piece. The rest stays."""


@dataclasses.dataclass(frozen=True)
class Optim:
    """How gradients become updates."""

    name: Literal["lamb", "adamw"] = "lamb"
    """LAMB or AdamW, as the ALBERT release computes them."""
    learning_rate: float = 1.76e-3
    """Peak. Scaled by sqrt(batch_rows / reference_batch) where that is set."""
    reference_batch: int = 0
    """Rows for which `learning_rate` was tuned (4096 in the paper); 0: no scaling."""
    schedule: Literal["reference", "linear", "wsd"] = "linear"
    """`reference`: the ALBERT release's, whose decay clock starts at step 0; `linear`: warm-up, then decay to
    `end_fraction`; `wsd`: warm-up, stable, decay over the last `decay_steps`."""
    warmup_steps: int = 3125
    """Steps of linear warm-up."""
    decay_steps: int = 0
    """Steps of the final decay under `wsd`."""
    end_fraction: float = 0.0
    """Learning rate that the decay ends at after the last step, as a share of the peak. Not used by `reference`."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.999
    """Decay of the second moment."""
    epsilon: float = 1e-6
    """Added to the square root of the second moment."""
    weight_decay: float = 0.01
    """Decoupled; not on biases and LayerNorm."""
    clip_norm: float = 1.0
    """Largest global norm of the gradient; 0: no clipping."""
    bias_correction: bool = False
    """Adam's bias correction. The ALBERT and BERT releases have none."""
    micro_batches: int = 1
    """The batch is computed in so many parts, to save memory; the result is the same."""


@dataclasses.dataclass(frozen=True)
class Run:
    """How long, how often, where."""

    steps: int = 125_000
    """Updates."""
    seed: int = 0
    """Of the weights, the order of the data, the masks and the dropout."""
    depths: tuple[tuple[int, int], ...] = ()
    """Layers and last step, in turn: `3 20000 6 50000` applies the shared layer 3 times up to step 20,000, 6 times up
    to step 50,000 and then `model.num_layers` times. Evaluation always applies it `model.num_layers` times. Needs
    `model.share = all` with one group."""
    devices: int = 0
    """Devices of each process to use; 0: all. On a CPU more than one splits the cores."""
    fsdp: int = 1
    """Parameters and what the optimiser remembers of them are split over so many devices; each has rows of its own."""
    tensor: int = 1
    """Heads, feed-forward layer and vocabulary are split over so many devices of a process, which share their rows."""
    zero1: bool = False
    """What the optimiser remembers is split over the devices that hold the same parameters."""
    distributed: bool = False
    """This process is one of several (a TPU pod, hosts with GPUs): find the others, train together. Goes without saying
    where JAX_COORDINATOR_ADDRESS is set, or a TPU's environment names several hosts. `batch_rows` is the batch of all.
    The work directory lies on a disk that all of them see; the first process writes there."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    eval_every: int = 1000
    """Steps between two evaluations on the validation split; 0: only at the end."""
    eval_rows: int = 512
    """Rows of the validation split in an evaluation; 0: all."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints."""
    keep_last: int = 3
    """Newest checkpoints that are kept."""
    keep_every: int = 0
    """Checkpoints at multiples of this step are kept for good; 0: none."""
    spike_factor: float = 3.0
    """Stop when the loss exceeds this multiple of its running mean (and on NaN always); 0: only on NaN."""
    tensorboard: bool = True
    """Write event files beside metrics.jsonl."""
    profile_steps: tuple[int, int] = (0, 0)
    """`10 15` writes a profiler trace of steps 10 to 14 into the work directory; `0 0`: none."""


@dataclasses.dataclass(frozen=True)
class Pretrain:
    """Everything that a pretraining run depends on."""

    model: Model = Model()
    data: Data = Data()
    mask: Mask = Mask()
    optim: Optim = Optim()
    run: Run = Run()


# --- What follows from a config -----------------------------------------------------------------------------------


def predictions_per_row(config: Pretrain) -> int:
    """K: the static number of prediction slots in a row."""
    return prediction_slots(config.mask.rate, config.data.length, config.data.window_slots)
