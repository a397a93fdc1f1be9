"""The shapes of a space. Published figures are of Bort's space, arXiv 2010.10499."""

import pytest

from bertlite_jax.config import presets
from bertlite_jax.config.model import Model
from bertlite_jax.config.search.settings import Shape, Space
from bertlite_jax.errors import UserError
from bertlite_jax.search import space

BORT = Shape(4, 8, 1024, 768, 1024)
SHARED = Space(num_layers=(2, 4), num_heads=(4,), hidden_size=(512, 768), embed_size=(128, 0), share=("none", "all"))


def test_borts_space_has_360_combinations_300_shapes_and_90_without_regard_to_heads():
    assert len(list(space.grid(Space()))) == 360
    shapes = space.points(Space())
    assert len(shapes) == 300
    assert len(space.distinct(shapes)) == 90
    assert BORT in shapes
    assert Shape(2, 16, 1024, 512, 1024) in shapes


def test_heads_of_every_shape_divide_its_width():
    """Of 512, 768 and 1024, twelve heads divide 768 only."""
    shapes = space.points(Space())
    assert {shape.hidden_size for shape in shapes if shape.num_heads == 12} == {768}
    assert all(shape.hidden_size % shape.num_heads == 0 for shape in shapes)


def test_of_shapes_that_differ_in_heads_only_the_one_with_heads_of_64_stays():
    """512 / 8, 768 / 12, 1024 / 16, as in BERT."""
    heads = {(shape.hidden_size, shape.num_heads) for shape in space.distinct(space.points(Space()))}
    assert heads == {(512, 8), (768, 12), (1024, 16)}


def test_embeddings_and_sharing_multiply_the_space():
    """2 depths x 2 widths x 5 feed-forward layers x 2 embedding sizes x 2 ways of sharing."""
    shapes = space.points(SHARED)
    assert len(shapes) == 80
    assert len(space.distinct(shapes)) == 80
    assert {shape.embed_size for shape in shapes} == {128, 512, 768}


def test_an_embedding_size_that_is_named_twice_in_effect_makes_one_shape():
    """0 is as wide as the hidden states: 512 of 512."""
    shapes = space.points(
        Space(num_layers=(2,), num_heads=(8,), hidden_size=(512,), ffn_size=(256,), embed_size=(0, 512))
    )
    assert shapes == [Shape(2, 8, 512, 256, 512)]


def test_neighbours_are_one_value_away():
    """Of Bort: two depths, heads of 4 and 16 (12 divide no 1024), the width 768 below, two feed-forward widths."""
    assert space.neighbours(Space(), BORT) == sorted(
        [
            Shape(2, 8, 1024, 768, 1024), Shape(6, 8, 1024, 768, 1024), Shape(4, 4, 1024, 768, 1024),
            Shape(4, 8, 768, 768, 768), Shape(4, 8, 1024, 512, 1024), Shape(4, 8, 1024, 1024, 1024),
        ]
    )  # fmt: skip


def test_a_neighbour_of_another_width_gets_heads_that_divide_it():
    """Twelve heads of 768 have the neighbours 512 and 1024, which 8 and 16 divide; 8 is as near as 16 and smaller."""
    found = space.neighbours(Space(), Shape(4, 12, 768, 768, 768))
    assert Shape(4, 8, 512, 768, 512) in found
    assert Shape(4, 8, 1024, 768, 1024) in found


def test_embeddings_as_wide_as_the_states_stay_so_in_a_neighbour():
    found = space.neighbours(SHARED, Shape(2, 4, 512, 256, 512))
    assert Shape(2, 4, 768, 256, 768) in found
    assert Shape(2, 4, 512, 256, 128) in found
    assert Shape(2, 4, 512, 256, 512, "all") in found


@pytest.mark.parametrize("which", [Space(), SHARED])
def test_every_shape_is_reached_from_every_other_by_neighbours(which):
    """Otherwise a local refinement could not leave a part of the space."""
    everything = set(space.points(which))
    reached, border = {min(everything)}, [min(everything)]
    while border:
        new = set(space.neighbours(which, border.pop())) - reached
        reached |= new
        border.extend(new)
    assert reached == everything


def test_shapes_that_the_common_fields_do_not_fit_are_refused():
    """Groups of layers that share need a divisor of every depth; depth vectors need layers that share everything."""
    with pytest.raises(UserError, match=r"space: <2,8,512,256>: model.share_groups = 3 does not divide"):
        space.check_shapes(Model(share_groups=3), [Shape(2, 8, 512, 256)])
    with pytest.raises(UserError, match=r"model.depth_vector = True needs layers that share everything"):
        space.check_shapes(Model(depth_vector=True), [Shape(2, 8, 512, 256)])
    space.check_shapes(presets.BORT, space.points(Space())[::30])


def test_a_shape_is_written_as_in_the_paper_with_what_is_unusual_behind_it():
    assert space.describe(BORT) == "<4,8,1024,768>"
    assert space.describe(Shape(4, 8, 1024, 768)) == "<4,8,1024,768>"
    assert space.describe(Shape(12, 12, 768, 3072, 128, "all")) == "<12,12,768,3072> E=128 share=all"
