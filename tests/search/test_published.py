"""Published models beside the shapes of a space."""

import functools

import pytest

from bertlite_jax.config.model import Model
from bertlite_jax.config.search.settings import Shape, Space
from bertlite_jax.report.cost import flops
from bertlite_jax.search import costs, published, space

FORMULAS = costs.Formulas(flops.parameters, flops.forward_flops_per_row, flops.train_flops_per_step)
ANSWER = functools.partial(costs.encoder_flops, length=512, formulas=FORMULAS)
BASE = Model(pooler=False, pair_classes=0)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("TinyBERT-4", 14.5e6), ("TinyBERT-6", 67.0e6), ("MiniLM-12", 33.0e6), ("DistilBERT", 66.0e6)],
)
def test_a_shape_has_the_parameters_that_its_paper_states(name, parameters):
    """Embeddings, layers and pooler, with BERT's vocabulary of 30,522."""
    shape = space.resolved(published.SHAPES[name])
    model = Model(
        vocab_size=30_522,
        embed_size=shape.hidden_size,
        hidden_size=shape.hidden_size,
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        ffn_size=shape.ffn_size,
        share="none",
    )
    assert flops.parameters(model)["encoder"] == pytest.approx(parameters, rel=0.02)


def test_those_are_shown_that_lie_within_the_space():
    """BERT-large is slower than <12,16,1024,3072>, the largest of Bort's space."""
    found = published.comparable(BASE, 1, space.points(Space()), ANSWER)
    assert set(found) == set(published.SHAPES) - {"BERT-large"}
    assert found["Bort"] == Shape(4, 8, 1024, 768, 1024)
    assert found["ALBERT-base"] == Shape(12, 12, 768, 3072, 128, "all")


def test_a_space_of_an_eighth_of_the_widths_has_published_models_of_an_eighth():
    """312 and 1200 of TinyBERT are 39 and 150, which twelve heads do not divide."""
    narrow = Space(num_heads=(4, 8), hidden_size=(64, 96, 128), ffn_size=(32, 64, 96, 128, 384))
    found = published.comparable(BASE, 8, space.points(narrow), ANSWER)
    assert found["Bort / 8"] == Shape(4, 8, 128, 96, 128)
    assert found["ALBERT-base / 8"] == Shape(12, 12, 96, 384, 16, "all")
    assert "TinyBERT-4 / 8" not in found
    assert published.comparable(BASE, 1, space.points(narrow), ANSWER) == {}
    assert published.comparable(BASE, 0, space.points(Space()), ANSWER) == {}
    assert published.comparable(BASE, 7, space.points(narrow), ANSWER) == {}
