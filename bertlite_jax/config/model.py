"""The shape of an encoder and of a task's head."""

from __future__ import annotations

import dataclasses
from typing import Literal

SPECIAL_IDS = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
"""Ids by role in ALBERT's vocabulary, which ours follow: those of a model that has no tokenizer beside it."""


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
