"""What it costs that layers which share everything have something to themselves after all, in ALBERT base."""

import dataclasses

import pytest

from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.report.cost import flops

BASE = Model()


@pytest.mark.parametrize(("change", "more"), [
    ({"own_norms": True}, 36_864 - 3_072),  # Four vectors of 768 in each of twelve layers, for one set of them.
    ({"depth_vector": True}, 9_216),
    ({"low_rank": 8}, 737_280),  # 12 layers of 2 kernels of 8 x (768 + 3072).
    ({"own_first": 1, "own_last": 1}, 2 * 7_087_872),
    ({"own_first": 1, "low_rank": 8, "depth_vector": True}, 7_087_872 + 11 * 61_440 + 9_216),
])  # fmt: skip
def test_what_single_layers_have_to_themselves_adds_little(change, more):
    assert flops.parameters(dataclasses.replace(BASE, **change))["total"] - 11_813_810 == more


def test_low_rank_pairs_cost_their_two_products_of_each_token():
    """At rank 8 4 x 8 x (768 + 3072) a layer and token, 0.9 % of a layer's products; norms and vectors cost none."""
    plain = flops.forward_flops_per_row(BASE, 128, 20, 0)
    paired = flops.forward_flops_per_row(dataclasses.replace(BASE, low_rank=8), 128, 20, 0)
    assert paired - plain == 12 * 128 * 122_880
    assert pytest.approx(0.0087, abs=5e-5) == 122_880 / (8 * 768 * 768 + 4 * 768 * 3072)
    free = dataclasses.replace(BASE, own_norms=True, depth_vector=True, own_first=2)
    assert flops.forward_flops_per_row(free, 128, 20, 0) == plain


@pytest.mark.parametrize(("remat", "width"), [("none", 2), ("dots", 4), ("full", 0)])
def test_widened_kernels_are_kept_for_the_backward_pass(remat, width):
    """One of each kind for each layer, unless everything is computed again."""
    config = Pretrain(model=dataclasses.replace(BASE, remat=remat))
    paired = dataclasses.replace(config, model=dataclasses.replace(config.model, low_rank=8))
    plain, more = (flops.step_memory_bytes(each, compute="bfloat16")["activations"] for each in (config, paired))
    assert more - plain == 12 * 2 * 768 * 3072 * width


def test_of_pruned_layers_only_what_is_left_costs():
    """Heads of width 8, three in both layers, and three neurons in the first: 3 x 8 x 8 x 16 + 3 x 4 x 16 a token."""
    plain = dataclasses.replace(BASE, hidden_size=16, num_heads=2, ffn_size=32, num_layers=2, share="none")
    pruned = dataclasses.replace(plain, pruned_heads=(1, 2), pruned_ffn=(3, 0))
    of_layers = flops.forward_flops_per_row(pruned, 10, 0, 0) - 10 * 2 * 128 * 16  # Without the projection.
    assert of_layers == 10 * (3 * 8 * 8 * 16 + 3 * 4 * 16) + 4 * 10 * 10 * 24
