"""The published shapes have the published number of parameters, to the last one."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from bertlite_jax.config import presets
from bertlite_jax.config.model import Model
from bertlite_jax.model.heads import PretrainingModel


def parameters(model: Model) -> dict[str, int]:
    """Numbers in each top-level part, from shapes alone."""
    ids = jnp.zeros((1, 8), jnp.int32)
    shapes = jax.eval_shape(
        lambda key: PretrainingModel(model).init(key, ids, ids, ids, ids, ids[:, :1], ids[:, :2]), jax.random.key(0)
    )["params"]
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in shapes.items()}
    return counts | {"encoder": sum(n for name, n in counts.items() if name not in ("mlm", "pair"))}


# google-research/albert configs; the paper rounds to 12, 18, 60 and (not reproducible) 235 million.
@pytest.mark.parametrize(
    ("model", "encoder", "mlm", "pair"),
    [
        (presets.ALBERT_BASE, 11_683_584, 128_688, 1_538),
        (presets.ALBERT_LARGE, 17_683_968, 161_456, 2_050),
        (presets.ALBERT_XLARGE, 58_724_864, 292_528, 4_098),
        (presets.ALBERT_XXLARGE, 222_595_584, 554_672, 8_194),
        (presets.ALBERT_BASE_V1, 11_683_584, 128_688, 1_538),
    ],
)
def test_albert_has_the_published_parameters(model: Model, encoder: int, mlm: int, pair: int):
    counts = parameters(model)
    assert (counts["encoder"], counts["mlm"], counts["pair"]) == (encoder, mlm, pair)


@pytest.mark.parametrize(
    ("model", "encoder", "total"),
    [
        (presets.BERT_BASE, 109_482_240, 110_106_428),
        (presets.BERT_LARGE, 335_141_888, 336_226_108),
        (presets.BERT_TINY, 4_385_920, None),
        (presets.BERT_MINI, 11_170_560, None),
        (presets.BERT_SMALL, 28_763_648, None),
        (presets.BERT_MEDIUM, 41_373_184, None),
    ],
)
def test_bert_has_the_published_parameters(model: Model, encoder: int, total: int | None):
    counts = parameters(model)
    assert counts["encoder"] == encoder
    if total:
        assert counts["encoder"] + counts["mlm"] + counts["pair"] == total


def test_distilbert_is_half_of_bert_without_pooler_and_token_types():
    """BERT base less 6 of its 12 layers, 2 token-type rows, and the pooler: 66.4 million, as published."""
    layer = 4 * (768 * 768 + 768) + 768 * 3072 + 3072 + 3072 * 768 + 768 + 4 * 768
    pooler = 768 * 768 + 768
    assert parameters(presets.DISTILBERT)["encoder"] == 109_482_240 - 6 * layer - 2 * 768 - pooler == 66_362_880


def test_bort_has_the_parameters_of_its_four_narrow_layers():
    """V, 512 positions and the embedding norm of width 1024; 4 layers with a feed-forward of 768."""
    layer = 4 * (1024 * 1024 + 1024) + 1024 * 768 + 768 + 768 * 1024 + 1024 + 4 * 1024
    assert parameters(presets.BORT)["encoder"] == (50_265 + 512 + 2) * 1024 + 4 * layer


# Brightmart's Chinese ALBERT: V = 21,128.
@pytest.mark.parametrize(("model", "encoder"), [(presets.ALBERT_TINY, 4_080_520), (presets.ALBERT_SMALL, 4_742_272)])
def test_small_albert_matches_the_chinese_release(model: Model, encoder: int):
    assert parameters(dataclasses.replace(model, vocab_size=21_128))["encoder"] == encoder


# Lan et al. 2020, Tables 3 and 4: base with embeddings of E and one sharing mode.
@pytest.mark.parametrize(
    ("embed", "share", "encoder"),
    [
        (768, "all", 31_114_752),
        (768, "attention", 83_095_296),
        (768, "ffn", 57_134_592),
        (768, "none", 109_081_344),
        (128, "all", 11_683_584),
        (128, "attention", 63_664_128),
        (128, "ffn", 37_703_424),
        (128, "none", 89_650_176),
    ],
)
def test_sharing_ablation_has_the_papers_parameters(embed: int, share: str, encoder: int):
    model = dataclasses.replace(presets.ALBERT_BASE, embed_size=embed, share=share)
    assert parameters(model)["encoder"] == encoder


def test_more_layers_of_a_shared_model_add_no_parameters():
    deep = dataclasses.replace(presets.ALBERT_BASE, num_layers=48)
    assert parameters(deep) == parameters(presets.ALBERT_BASE)


def test_padding_the_vocabulary_adds_rows_to_table_and_bias_only():
    padded = dataclasses.replace(presets.BERT_BASE, vocab_multiple=128)
    assert padded.padded_vocab == 30_592
    extra = parameters(padded)["encoder"] - parameters(presets.BERT_BASE)["encoder"]
    assert extra == (30_592 - 30_522) * 768
