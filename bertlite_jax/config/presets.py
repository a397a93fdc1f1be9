"""The published shapes, as `Model` values. Parameter counts stand in tests/config/test_presets.py and in the README.

Sources: Lan et al. 2020 (arXiv 1909.11942), Table 1, and google-research/albert (version 1: dropout 0.1 except in
xxlarge; version 2: none); brightmart/albert_zh (tiny, small; *_ZH: in its own layout); Devlin et al. 2018 and
google-research/bert (base, large and the miniatures of Turc et al. 2019, arXiv 1908.08962); Sanh et al. 2019 (arXiv
1910.01108); de Wynter and Perry 2020 (arXiv 2010.10499).
"""

from __future__ import annotations

import dataclasses

from bertlite_jax.config.model import Model


def _albert(hidden: int, layers: int, heads: int, dropout: float = 0.0) -> Model:
    return Model(
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        ffn_size=4 * hidden,
        hidden_dropout=dropout,
        attention_dropout=dropout,
    )


def _albert_zh(hidden: int, layers: int, heads: int) -> Model:
    return dataclasses.replace(_albert(hidden, layers, heads), vocab_size=21_128, embedding_order="project_then_sum")


def _bert(hidden: int, layers: int) -> Model:
    return Model(
        vocab_size=30_522,
        embed_size=hidden,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=hidden // 64,
        ffn_size=4 * hidden,
        share="none",
        activation="gelu_erf",
        hidden_dropout=0.1,
        attention_dropout=0.1,
    )


ALBERT_BASE = _albert(768, 12, 12)
ALBERT_LARGE = _albert(1024, 24, 16)
ALBERT_XLARGE = _albert(2048, 24, 16)
ALBERT_XXLARGE = _albert(4096, 12, 64)
ALBERT_BASE_V1 = _albert(768, 12, 12, dropout=0.1)
ALBERT_LARGE_V1 = _albert(1024, 24, 16, dropout=0.1)
ALBERT_XLARGE_V1 = _albert(2048, 24, 16, dropout=0.1)
ALBERT_XXLARGE_V1 = ALBERT_XXLARGE
ALBERT_TINY = _albert(312, 4, 12)
ALBERT_SMALL = _albert(384, 6, 12)
ALBERT_TINY_ZH = _albert_zh(312, 4, 12)
ALBERT_BASE_ZH = _albert_zh(768, 12, 12)
ALBERT_LARGE_ZH = _albert_zh(1024, 24, 16)

BERT_BASE = _bert(768, 12)
BERT_LARGE = _bert(1024, 24)
BERT_TINY = _bert(128, 2)
BERT_MINI = _bert(256, 4)
BERT_SMALL = _bert(512, 4)
BERT_MEDIUM = _bert(512, 8)

DISTILBERT = dataclasses.replace(_bert(768, 6), token_types=0, pooler=False, pair_classes=0)

BORT = dataclasses.replace(
    _bert(1024, 4),
    vocab_size=50_265,
    num_heads=8,
    ffn_size=768,
    token_types=0,
    pooler=False,
    pair_classes=0,
    norm_epsilon=1e-5,
)
