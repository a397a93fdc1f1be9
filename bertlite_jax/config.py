"""Every setting, its default, its unit. The ground floor; what must agree stands in `config_checks.py`.

A config is a `Pretrain` object; `config_files.py` says how it comes from a file and from a work directory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import os
import re
from collections.abc import Iterator
from typing import Literal


class UserError(Exception):
    """A mistake of the user: shown as one line without a traceback, exit code 2."""


class Diverged(Exception):
    """The loss of a run is no number, or far above what it was: shown as one line, exit code 1."""


def in_object_storage(place: str | os.PathLike[str]) -> bool:
    """Whether this is `gs://BUCKET/...` or the like (`gs:/BUCKET/...` once it went through pathlib), and no path."""
    return re.match("(gs|s3|az|hf|hdfs|file):/", os.fspath(place)) is not None


def check_on_disk(job: str, place: str | os.PathLike[str]) -> None:
    """Raises UserError for a place in object storage, which pathlib would take for a folder named `gs:`."""
    if in_object_storage(place):
        raise UserError(
            f"{job}: {place} lies in object storage, and this has to be a path: mount the bucket, or copy "
            "(docs/tpu.md says how); only text, data.corpus and data.tokenizer may be gs://"
        )


@contextlib.contextmanager
def writing(job: str, place: os.PathLike[str]) -> Iterator[None]:
    """Around the calls that make a job's output folder: a place that cannot be written is the user's mistake."""
    check_on_disk(job, place)
    try:
        yield
    except OSError as error:
        raise UserError(f"{job}: {place} cannot be written: {error.strerror}; name another place") from error


def fields_close_to(name: str, known: list[str]) -> str:
    """`did you mean x?` for a misspelt name, or the list of what exists."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


@dataclasses.dataclass(frozen=True)
class Model:
    """Shape of the encoder and its pretraining heads. The defaults are ALBERT base, version 2."""

    vocab_size: int = 30_000
    """Pieces in the tokenizer, V."""
    vocab_multiple: int = 1
    """The embedding table is padded to a multiple of this many rows; padded rows are zero and never predicted."""
    embed_size: int = 128
    """Width of the embedding table, E. Equal to `hidden_size` for BERT, DistilBERT and Bort."""
    projection: Literal["auto", "always"] = "auto"
    """A dense layer between embeddings and layers: where E and D differ, or always, as ALBERT in `transformers`."""
    hidden_size: int = 768
    """Width of the hidden states, D."""
    num_layers: int = 12
    """Applications of the block, N."""
    num_heads: int = 12
    """Attention heads, H. Must divide `hidden_size`."""
    ffn_size: int = 3072
    """Width of the feed-forward layer, F."""
    max_positions: int = 512
    """Rows of the position table: the longest window, specials included."""
    token_types: int = 2
    """Kinds of token in a pair (A and B). 0 leaves the table out, as DistilBERT does."""
    share: Literal["all", "attention", "ffn", "none"] = "all"
    """Which parameters the layers of a group share. ALBERT: all. BERT: none."""
    share_groups: int = 1
    """Groups of consecutive layers that share among themselves. Must divide `num_layers`."""
    activation: Literal["gelu_tanh", "gelu_erf", "relu"] = "gelu_tanh"
    """Feed-forward and head activation. Google's code: tanh. Hugging Face BERT: erf."""
    norm: Literal["post", "pre"] = "post"
    """LayerNorm after each residual sum (as published) or before each part."""
    norm_epsilon: float = 1e-12
    """Added to the variance in LayerNorm."""
    init_std: float = 0.02
    """Standard deviation of the normal that is truncated at two of them."""
    position_init: Literal["normal", "sinusoidal"] = "normal"
    """What the position table starts as: drawn like all tables, or sines and cosines of twice the deviation, from
    which attention finds neighbours sooner. It is learnt in either case."""
    hidden_dropout: float = 0.0
    """Probability, after the embeddings and after each part."""
    attention_dropout: float = 0.0
    """Probability, on the attention weights."""
    pooler: bool = True
    """Dense and tanh on [CLS]. The pair head needs it."""
    pair_classes: int = 2
    """Outputs of the pair head. 0 leaves it out; 3 for `three_way`."""
    compute: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the products; parameters, norms, softmax and losses stay float32. `auto` is bfloat16 on TPU, on
    GPU, and on CPUs with AMX or AVX-512 bfloat16 where a short trial runs faster; float32 elsewhere."""
    attention: Literal["auto", "xla", "cudnn", "pallas"] = "auto"
    """Attention implementation. `auto` takes the fused kernels of GPU (cudnn) and TPU (pallas) where they fit."""
    remat: Literal["none", "dots", "full"] = "none"
    """What the backward pass computes again: nothing, all but matrix products, everything."""
    unroll: bool = False
    """Write the layers out instead of scanning: faster steps, slower compilation."""

    @property
    def padded_vocab(self) -> int:
        """Rows of the embedding table."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

    @property
    def projected(self) -> bool:
        """Whether there is a projection."""
        return self.projection == "always" or self.embed_size != self.hidden_size

    @property
    def shared_parts(self) -> tuple[str, ...]:
        """Which of attention, ffn and norms have one set of parameters a group; the others have one a layer.

        Norms are shared only where everything is, as in the ALBERT paper's ablation (arXiv 1909.11942, Table 4).
        """
        parts = {"all": ("attention", "ffn", "norms"), "attention": ("attention",), "ffn": ("ffn",), "none": ()}
        return parts[self.share]

    @property
    def stack_sizes(self) -> dict[str, int]:
        """Length of the leading axis of each part's parameters: groups where it is shared, layers where it is not."""
        shared = self.shared_parts
        return {
            part: self.share_groups if part in shared else self.num_layers for part in ("attention", "ffn", "norms")
        }

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads


@dataclasses.dataclass(frozen=True)
class Head:
    """What stands on the encoder of a task model, in place of the pretraining heads."""

    kind: Literal["classify", "choose", "tag", "span"] = "classify"
    """One answer a text or pair; one score a choice; one label a token; start and end of an answer."""
    labels: tuple[str, ...] = ("0", "1")
    """Names of the outputs of `classify` and `tag`; a regression has one. `choose` and `span` have none."""
    problem: Literal["single_label", "multi_label", "regression"] = "single_label"
    """What the outputs of `classify` mean: logits of one choice, of independent choices, or numbers."""
    hidden: tuple[int, ...] = ()
    """Widths of further layers between the pooled state and the outputs, each with the pooler's activation."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Of the pooler (`classify`, `choose`) and of `hidden`. BERT and ALBERT: tanh. DistilBERT: relu."""
    dropout: float = 0.1
    """Probability, before the outputs."""
    span: Literal["independent", "conditioned"] = "independent"
    """Of `span`: start and end each by themselves (BERT), or the end given the start and a third output that says
    whether there is an answer (ALBERT's run_squad_v2)."""
    no_answer: bool = False
    """Of `span`: a text may not hold the answer (SQuAD 2.0), and the model says so where its score for that is above a
    threshold."""

    @property
    def conditioned(self) -> bool:
        """Whether the end of a span is found given its start."""
        return self.kind == "span" and self.span == "conditioned"

    @property
    def outputs(self) -> int:
        """Width of the last layer."""
        return {"choose": 1, "span": 2}.get(self.kind, len(self.labels))

    @property
    def pooled(self) -> bool:
        """Whether the head reads the pooled state of [CLS] rather than every token's."""
        return self.kind in ("classify", "choose")


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
    """At most so many windows share a row, P."""
    buckets: tuple[int, ...] = ()
    """Shorter rows for shorter windows, where they are not packed: `128 256`. Each step has rows of one length, and as
    many slots as `batch_rows` rows of `length`."""
    pair_task: Literal["sop", "nsp", "three_way", "none"] = "sop"
    """Sentence-order prediction (ALBERT), next-sentence prediction (BERT), next/previous/random (StructBERT), none."""
    single_segment: Literal["drop", "split", "reference"] = "drop"
    """A window that cannot be cut into a pair at a fitting place: no pair loss for it; cut it at any word; or take a
    random second part with label 1, as the ALBERT release does."""
    read_threads: int = 2
    """Threads that prepare batches ahead."""


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
    depths: str = ""
    """`3:20000,6:50000`: the shared layer is applied 3 times up to step 20,000, 6 times up to 50,000, then
    `model.num_layers` times. Evaluation always applies it that often. Needs `model.share = all`, one group."""
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
    profile_steps: str = ""
    """`10:15` writes a profiler trace of steps 10 to 14 into the work directory."""


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
    """K: the static number of prediction slots in a row, ceil(rate x L) + P."""
    windows = config.data.windows_per_row if config.data.pack else 1
    return -int(-config.mask.rate * config.data.length // 1) + windows


def depth_stages(text: str) -> list[tuple[int, int]]:
    """`"3:100,6:300"` as [(3, 100), (6, 300)]: layers, and the last step with so many."""
    stages = []
    for part in text.split(",") if text else []:
        layers, _, last = part.strip().partition(":")
        if not (layers.isdecimal() and last.isdecimal()):
            raise UserError(f"config: run.depths = {text!r} should look like 3:20000,6:50000 (layers:last step)")
        stages.append((int(layers), int(last)))
    return stages


def at_step(config: Pretrain, step: int) -> Pretrain:
    """The config of one step (from 1 on): with the layers that `run.depths` applies there."""
    layers = next((layers for layers, last in depth_stages(config.run.depths) if step <= last), config.model.num_layers)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, num_layers=layers))


def profile_window(text: str) -> tuple[int, int]:
    """`"10:15"` as (10, 15); (0, 0) for the empty string."""
    if not text:
        return 0, 0
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and 0 < int(first) < int(last)):
        raise UserError(f"config: run.profile_steps = {text!r} should look like 10:15; steps count from 1")
    return int(first), int(last)
