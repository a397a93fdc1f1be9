"""Parameters, FLOPs and time by formula, against published figures, our model's own shapes and XLA's count."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from search import planted

from bertlite_jax.config import presets
from bertlite_jax.config.model import Model
from bertlite_jax.config.search.settings import CostModel, Counted, Shape, model_of
from bertlite_jax.model import heads
from bertlite_jax.model.encoder import Encoder
from bertlite_jax.search import costs
from bertlite_jax.search.costs import Machine

BORT = presets.BORT
TRANSPOSED = model_of(BORT, Shape(4, 8, 768, 1024))
"""To which the published 56.1 million belong."""
HEADS = ("mlm", "pooler", "pair")


def count(model: Model, counted: Counted = "all") -> int:
    return costs.count(model, counted, planted.FORMULAS)


def with_pooler(model: Model) -> Model:
    return dataclasses.replace(model, pooler=True)


# --- Parameters --------------------------------------------------------------------------------------------------


def test_bort_as_released_has_76_million_parameters():
    """23.1 M in the layers, 52.0 M in the embeddings, 1.1 M in the masked-LM head."""
    assert count(BORT, "layers") == 23_108_608
    assert count(BORT, "encoder") == 23_108_608 + 51_997_696
    assert count(BORT) == 76_208_217
    assert count(with_pooler(BORT)) == 77_257_817


def test_the_published_size_is_that_of_the_transposed_shape():
    """Abstract of arXiv 2010.10499: 56.1 M parameters, 39 M of them in embeddings."""
    assert count(TRANSPOSED, "layers") == 15_760_384
    assert count(TRANSPOSED, "encoder") == 15_760_384 + 38_998_272
    assert count(with_pooler(TRANSPOSED)) == 55_991_641


def test_with_berts_cased_vocabulary_bort_has_16_percent_of_bert_large():
    """V = 28,996: 55.46 M with head and pooler."""
    small = with_pooler(dataclasses.replace(BORT, vocab_size=28_996))
    large = dataclasses.replace(presets.BERT_LARGE, pair_classes=0)
    assert round(count(small) / 1e6, 2) == 55.46
    bare = count(large, "encoder") + 1024 * 1024 + 1024
    assert bare == 335_141_888
    assert count(small) / bare == pytest.approx(0.1655, abs=5e-4)


def test_the_second_released_shape_and_roberta_large_have_their_sizes():
    assert count(model_of(BORT, Shape(2, 16, 1024, 512))) == 63_604_825
    roberta = dataclasses.replace(model_of(BORT, Shape()), max_positions=514, token_types=1)
    assert count(roberta, "encoder") + 1024 * 1024 + 1024 == 355_359_744


@pytest.mark.parametrize("shape", [
    Shape(2, 2, 16, 24), Shape(3, 4, 16, 8, 8), Shape(4, 2, 16, 32, 8, "all"), Shape(4, 2, 16, 32, 0, "all"),
    Shape(2, 2, 16, 32, 8, "attention"), Shape(2, 2, 16, 32, 16, "ffn"),
])  # fmt: skip
@pytest.mark.parametrize("base", [
    tiny.model(), tiny.model(token_types=0, pooler=False, pair_classes=0), tiny.model(norm="pre", vocab_multiple=16),
])  # fmt: skip
def test_the_model_itself_has_as_many_parameters(shape, base):
    """Of ALBERT's, Bort's and a third kind, without allocating any."""
    model = model_of(base, shape)
    network = heads.PretrainingModel(model)
    ids = jax.ShapeDtypeStruct((1, 8), np.int32)

    def init(ids):
        return network.init(jax.random.key(0), ids, ids, ids, ids, ids[:, :1], ids[:, :2])["params"]

    parts = {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in jax.eval_shape(init, ids).items()}
    beside: dict[Counted, tuple[str, ...]] = {
        "all": (),
        "encoder": HEADS,
        "layers": (*HEADS, "embeddings", "projection"),
    }
    for counted, left_out in beside.items():
        assert count(model, counted) == sum(size for name, size in parts.items() if name not in left_out)


# --- FLOPs -------------------------------------------------------------------------------------------------------


def test_flops_of_published_shapes():
    """N (2 L (4 D^2 + 2 D F) + 4 L^2 D), L = 512: Bort 27.9 GFLOP, a twelfth of RoBERTa-large, a third of BERT-base."""

    def flops(model: Model, length: int = 512) -> int:
        return costs.encoder_flops(model, length, planted.FORMULAS)

    bort = flops(BORT)
    assert bort == 4 * (2 * 512 * (4 * 1024**2 + 2 * 1024 * 768) + 4 * 512**2 * 1024)
    assert round(bort / 1e9, 3) == 27.917
    assert flops(model_of(BORT, Shape())) / bort == pytest.approx(12.0)
    assert flops(model_of(BORT, Shape(12, 12, 768, 3072))) / bort == pytest.approx(3.4615, abs=5e-5)
    assert round(flops(BORT, 128) / 1e9, 3) == 6.174


def test_sharing_saves_parameters_and_no_flops():
    own, shared = (model_of(BORT, Shape(4, 8, 1024, 768, 128, share)) for share in ("none", "all"))
    assert count(shared, "layers") * 4 == count(own, "layers")
    assert costs.encoder_flops(own, 128, planted.FORMULAS) == costs.encoder_flops(shared, 128, planted.FORMULAS)


@pytest.mark.parametrize("shape", [planted.BORT, Shape(6, 16, 1024, 4096, 128, "all")])
def test_xla_counts_the_same_flops_in_an_unrolled_encoder_and_one_layer_under_a_loop(shape):
    """Within 1 %: norms, softmax and activations count there. A loop's body is counted once, whatever its length.

    Nothing is compiled, and no parameter exists. ALBERT's activation has a tanh, Bort's a long polynomial.
    """
    base = dataclasses.replace(BORT, compute="float32", attention="xla", activation="gelu_tanh")
    formula = costs.encoder_flops(model_of(base, shape), 128, planted.FORMULAS)

    def counted(unroll: bool) -> float:
        encoder = Encoder(dataclasses.replace(model_of(base, shape), unroll=unroll))
        ids = jax.ShapeDtypeStruct((1, 128), jnp.int32)
        params = jax.eval_shape(encoder.init, jax.random.key(0), ids, ids, ids, ids)
        cost = jax.jit(encoder.apply).lower(params, ids, ids, ids, ids).cost_analysis()
        return (cost or {})["flops"]

    assert counted(unroll=True) == pytest.approx(formula, rel=0.01)
    assert counted(unroll=False) == pytest.approx(formula / shape.num_layers, rel=0.05)


# --- Time --------------------------------------------------------------------------------------------------------


def test_analytic_time_is_flops_over_the_peak():
    seconds = costs.answer_seconds(BORT, CostModel(rows=2, length=128), planted.FORMULAS, Machine(1e12))
    assert seconds == 2 * costs.encoder_flops(BORT, 128, planted.FORMULAS) / 1e12


def test_a_candidate_has_the_costs_of_its_settings():
    """Bort's own by default: all parameters, answers of 512 tokens; an update is three passes over the batch."""
    bort = planted.COSTS[planted.BORT]
    assert bort.parameters == 76_208_217
    assert round(bort.seconds * planted.MACHINE.flops_per_second / 1e9, 3) == 27.917
    of_layers = dataclasses.replace(planted.CONFIG, cost=CostModel(parameters="layers", length=128))
    seconds_of = costs.by_formula(of_layers.cost, planted.FORMULAS, planted.MACHINE)
    other = costs.candidate(planted.BORT, of_layers, planted.FORMULAS, seconds_of).cost
    assert other.parameters == 23_108_608
    assert round(other.seconds * planted.MACHINE.flops_per_second / 1e9, 3) == 6.174


def test_compute_of_a_trial_has_the_vocabulary_in_it():
    """Of the smallest shape, an update with 8 rows of 128 and 28 predictions each: the vocabulary takes two thirds."""
    smallest = planted.CANDIDATES[0]
    head = 3 * 8 * 2 * 28 * (512 * 512 + 512 * 50_265)
    layers = 3 * 8 * 2 * (2 * 128 * (4 * 512**2 + 2 * 512 * 256) + 4 * 128**2 * 512)
    assert smallest.cost.step_flops == head + layers
    assert head / (head + layers) == pytest.approx(2 / 3, abs=0.05)


def test_a_roofline_is_the_larger_of_arithmetic_and_memory_and_an_overhead_for_each_layer():
    roofline = CostModel(latency="roofline", length=32)
    flops = costs.encoder_flops(BORT, 32, planted.FORMULAS)
    moved = costs.encoder_bytes(BORT, 32, 1, 4)

    def seconds(machine: Machine) -> float:
        return costs.answer_seconds(BORT, roofline, planted.FORMULAS, machine)

    assert seconds(Machine(1e9, 1e12)) == flops / 1e9
    assert seconds(Machine(1e15, 1e9)) == moved / 1e9
    assert seconds(Machine(1e9, 1e12, 0.01)) == pytest.approx(flops / 1e9 + 0.04)


def test_short_texts_move_mostly_kernels():
    """4 bytes of each of N (4 D^2 + 2 D F) weights, over nine tenths of all; each layer reads shared ones too."""
    kernels = 4 * 4 * (4 * 1024**2 + 2 * 1024 * 768)
    moved = costs.encoder_bytes(BORT, 8, 1, 4)
    assert 0.9 < kernels / moved < 1
    assert costs.encoder_bytes(dataclasses.replace(BORT, share="all"), 8, 1, 4) == moved
    assert costs.encoder_bytes(BORT, 8, 1, 2) == moved / 2


def test_more_heads_move_more_scores():
    """2 H L^2 numbers in each layer."""
    eight, sixteen = (costs.encoder_bytes(model_of(BORT, Shape(4, H, 1024, 768)), 512, 1, 4) for H in (8, 16))
    assert sixteen - eight == 4 * 4 * 2 * 8 * 512**2
