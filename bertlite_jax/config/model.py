"""The shape of an encoder and of a task's head."""

from __future__ import annotations

import dataclasses
from typing import Literal

SPECIAL_IDS = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
"""Ids by role in ALBERT's vocabulary, which ours follow: those of a model that has no tokenizer beside it.

Wherever the roles have an order, it is that of these keys.
"""


ResidualScale = Literal["published", "depth"] | float
"""The values of `Model.residual_scale`."""


@dataclasses.dataclass(frozen=True)
class Model:
    """Shape of the encoder and its pretraining heads. The defaults are ALBERT base, version 2."""

    vocab_size: int = 30_000
    """Pieces in the vocabulary, V. 0: as many as the tokenizer has."""
    vocab_multiple: int = 1
    """Pad the embedding table to a multiple of this many rows. Padded rows are zero and never predicted."""
    embed_size: int = 128
    """Width of the embedding table, E. Equal to `hidden_size` for BERT, DistilBERT and Bort."""
    projection: Literal["auto", "always"] = "auto"
    """A dense layer between embeddings and encoder. auto: if their widths differ. always: as ALBERT in transformers."""
    embedding_order: Literal["sum_then_project", "project_then_sum"] = "sum_then_project"
    """Where the projection stands. sum_then_project: word, position and token type vectors have width E, are summed and
    normalised, then projected (ALBERT). project_then_sum: word vectors are projected first, without a bias; the other
    tables and the norm have width D, and the masked-LM head goes back through the same kernel (ALBERT of
    brightmart/albert_zh)."""
    hidden_size: int = 768
    """Width of the hidden states, D."""
    num_layers: int = 12
    """Number of layers, N."""
    num_heads: int = 12
    """Attention heads, H. Must divide hidden_size."""
    ffn_size: int = 3072
    """Width of the feed-forward layer, F."""
    max_positions: int = 512
    """Rows of the position table: most tokens in a window, special tokens included. 0: as many as data.length."""
    token_types: int = 2
    """Rows of the token type table: 2 for the parts A and B of a pair. 0: no table, as in DistilBERT."""
    share: Literal["all", "attention", "ffn", "none"] = "all"
    """Which parameters the layers of a group share: all (ALBERT), those of attention, of the feed-forward layer, or
    none (BERT)."""
    share_groups: int = 1
    """Number of groups of consecutive layers; layers share only within their group. Must divide num_layers."""
    own_norms: bool = False
    """With share all: each layer has its own LayerNorms."""
    depth_vector: bool = False
    """With share all: each layer adds its own vector to the hidden states before it is applied. Zero at the start."""
    low_rank: int = 0
    """With share all: each layer adds its own product of two matrices of this rank to the two feed-forward kernels.
    Zero at the start. 0: none."""
    own_first: int = 0
    """With share all: number of first layers that have all their parameters to themselves."""
    own_last: int = 0
    """With share all: number of last layers that have all their parameters to themselves."""
    pruned_heads: tuple[int, ...] = ()
    """Set by pruning. Attention heads left in each layer, or in each group of layers that share them. A layer without
    heads has the bias of its output left. Empty: num_heads in all."""
    pruned_ffn: tuple[int, ...] = ()
    """Set by pruning. Width left of each feed-forward layer, likewise. Empty: ffn_size in all."""
    activation: Literal["gelu_tanh", "gelu_erf", "relu"] = "gelu_tanh"
    """Activation of feed-forward layers and heads. GELU by tanh as in Google's code, by erf as in Hugging Face's
    BERT."""
    norm: Literal["post", "pre"] = "post"
    """Where LayerNorm stands. post: after each residual sum, as published. pre: before attention and before
    feed-forward."""
    norm_epsilon: float = 1e-12
    """Added to the variance in LayerNorm."""
    residual_scale: ResidualScale = "published"
    """Factor on what attention and feed-forward add to the hidden states. published: 1. depth: 1 / num_layers, with
    which deep shared layers learn from the first steps on. Exports have it in their kernels."""
    init_std: float = 0.02
    """Standard deviation of the initial weights; the normal distribution is truncated at two standard deviations."""
    position_init: Literal["normal", "sinusoidal"] = "normal"
    """Initial position table, which is then learnt. normal: random, like all tables. sinusoidal: sines and cosines with
    twice the deviation, from which attention finds neighbours sooner."""
    hidden_dropout: float = 0.0
    """Dropout probability after the embeddings, after attention and after feed-forward."""
    attention_dropout: float = 0.0
    """Dropout probability on the attention weights."""
    pooler: bool = True
    """Add a dense layer with tanh on [CLS]. The pair head needs it."""
    pair_classes: int = 2
    """Outputs of the pair head: 2; 3 for data.pair_task three_way; 0: no pair head."""
    replaced_head: bool = False
    """Set by objective.replaced_weight. Add a head that says of each token whether it was replaced."""
    compute: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix products; parameters, norms, softmax and losses stay float32. auto: bfloat16 on TPU and GPU,
    and on CPUs with AMX or AVX-512 bfloat16 if a short trial shows that it is faster; otherwise float32."""
    attention: Literal["auto", "xla", "cudnn", "pallas"] = "auto"
    """Implementation of attention. auto: the fused kernel for GPU (cudnn) or TPU (pallas) if it fits, otherwise xla."""
    remat: Literal["none", "dots", "full"] = "none"
    """What the backward pass computes again instead of keeping it in memory: nothing, all but matrix products, or
    everything."""
    unroll: bool = False
    """Compile the layers one after the other instead of a loop over them: faster steps, slower compilation."""

    @property
    def padded_vocab(self) -> int:
        """Rows of the embedding table."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

    @property
    def projected(self) -> bool:
        """Whether there is a projection."""
        return self.projection == "always" or self.embed_size != self.hidden_size

    @property
    def projects_words(self) -> bool:
        """Whether the projection is that of the word vectors, before the sum."""
        return self.projected and self.embedding_order == "project_then_sum"

    @property
    def sum_size(self) -> int:
        """Width at which word, position and token type vectors are summed, S; also that of the masked-LM head."""
        return self.hidden_size if self.projects_words else self.embed_size

    @property
    def residual_factor(self) -> float:
        """The factor s of the branches, x + s f(x); it is multiplied into the kernels of `output` and `down`.

        A shared layer adds nearly the same direction in each application, so that N of them add up to N times one
        and not to sqrt(N) times: the factor that keeps the sum is 1/N. N applications with 1/N are N Euler steps along
        one flow dx/dt = f(x), t from 0 to 1. With `run.depths`, N is therefore the depth at hand and not the last one:
        a switch from 3 to 6 layers halves the steps and keeps the way, where 3 applications with 1/6 would go half of
        it and the switch would double it.

        Source: arXiv 2606.18524.

        Examples:
          >>> from bertlite_jax.config import Model
          >>> Model(num_layers=12, residual_scale="depth").residual_factor == 1 / 12
          True
          >>> Model(num_layers=12, residual_scale=0.5).residual_factor
          0.5
        """
        if isinstance(self.residual_scale, str):
            return 1.0 if self.residual_scale == "published" else 1.0 / self.num_layers
        return float(self.residual_scale)

    @property
    def exported(self) -> Model:
        """The shape of an exported file: no padded rows, no head for replaced tokens, the factor in the kernels."""
        return dataclasses.replace(self, vocab_multiple=1, residual_scale="published", replaced_head=False)

    @property
    def freed(self) -> tuple[str, ...]:
        """The options in use with which layers that share everything differ after all, cheapest first."""
        names = ("own_norms", "depth_vector", "low_rank", "own_first", "own_last")
        return tuple(name for name in names if getattr(self, name))

    @property
    def sharing_layers(self) -> range:
        """The layers that share, in `share_groups` groups; those of `own_first` and `own_last` stand around them."""
        return range(self.own_first, self.num_layers - self.own_last)

    @property
    def shared_parts(self) -> tuple[str, ...]:
        """Which of attention, ffn and norms have one set of parameters in a group; the others have one in each layer.

        Norms are shared only if everything is, as in the ALBERT paper's ablation (arXiv 1909.11942, Table 4).
        """
        parts = {"all": ("attention", "ffn", "norms"), "attention": ("attention",), "ffn": ("ffn",), "none": ()}
        return tuple(part for part in parts[self.share] if not (part == "norms" and self.own_norms))

    @property
    def stack_sizes(self) -> dict[str, int]:
        """Length of the leading axis of each part's parameters: groups if it is shared, otherwise layers.

        First and last layers with parameters of their own stand before and after the groups.
        """
        shared, own = self.shared_parts, self.own_first + self.own_last
        parts = ("attention", "ffn", "norms")
        sizes = {part: own + self.share_groups if part in shared else self.num_layers for part in parts}
        if self.depth_vector:
            sizes["depth"] = self.num_layers
        if self.low_rank:
            sizes["low_rank"] = len(self.sharing_layers)
        return sizes

    @property
    def pruned(self) -> bool:
        """Whether layers may differ in heads and widths.

        Their parameters then do not lie in stacks: those of `stack_place` p are under `layers/p`.
        """
        return bool(self.pruned_heads)

    def heads_in(self, layer: int) -> int:
        """Attention heads of a layer."""
        place = self.stack_place("attention", layer)
        return self.num_heads if not self.pruned or place is None else self.pruned_heads[place]

    def ffn_size_in(self, layer: int) -> int:
        """Width of the feed-forward layer of a layer."""
        place = self.stack_place("ffn", layer)
        return self.ffn_size if not self.pruned or place is None else self.pruned_ffn[place]

    def stack_place(self, part: str, layer: int) -> int | None:
        """Where the parameters of a part that a layer applies stand in the part's stack; None where it has none."""
        middle = self.sharing_layers
        if part not in self.stack_sizes or (part == "low_rank" and layer not in middle):
            return None
        if part == "low_rank":
            return layer - middle.start
        if part not in self.shared_parts or layer < middle.start:
            return layer
        if layer >= middle.stop:
            return layer - middle.stop + middle.start + self.share_groups
        return middle.start + (layer - middle.start) // (len(middle) // self.share_groups)

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads


Split = Literal["punctuation", "chinese", "clitics", "characters"]
"""What is a word of its own in plain text."""


@dataclasses.dataclass(frozen=True)
class Head:
    """The layers on top of the encoder of a task model."""

    kind: Literal["classify", "choose", "tag", "span"] = "classify"
    """Set by the task. classify: one answer for each text or pair. choose: one score for each choice. tag: one label
    for each token. span: start and end of an answer."""
    labels: tuple[str, ...] = ("0", "1")
    """Set by the task. Names of the outputs of classify and tag; a regression has one. choose and span have none."""
    problem: Literal["single_label", "multi_label", "regression"] = "single_label"
    """Set by the task. What the outputs of classify are: logits of labels of which one is right, logits of independent
    labels, or numbers."""
    hidden: tuple[int, ...] = ()
    """Widths of additional layers between pooled state and outputs; their activation is that of the pooler."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Set by the encoder. Activation of the pooler (of classify and choose) and of hidden. tanh: as in BERT and ALBERT.
    relu: as in DistilBERT."""
    dropout: float = 0.1
    """Dropout probability before the outputs."""
    span: Literal["independent", "conditioned"] = "independent"
    """For span heads. independent: start and end are predicted separately (BERT). conditioned: the end is predicted
    given the start, and a third output says whether there is an answer (ALBERT's run_squad_v2)."""
    no_answer: bool = False
    """Set by the task. For span heads: texts may not hold the answer (SQuAD 2.0). The model says so if its score for
    that exceeds a threshold."""

    splits: tuple[Split, ...] = ("punctuation", "chinese")
    """Set by the training words. For tag heads: how plain text becomes words, beside white space. punctuation: signs
    are words of their own. chinese: so is each Chinese character. clitics: so are 's and n't. characters: every
    character is one."""

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
