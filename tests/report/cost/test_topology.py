"""Slices by both their names. Shapes and counts are from the tables of Cloud TPU's documentation."""

import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.report.cost import topology


@pytest.mark.parametrize(
    ("user", "compiler", "chips"),
    [
        ("v4-8", "v4:2x2x1", 4),
        ("v4-16", "v4:2x2x2", 8),
        ("v4-32", "v4:2x2x4", 16),
        ("v4-64", "v4:2x4x4", 32),
        ("v4-512", "v4:4x8x8", 256),
        ("v5e-4", "v5e:2x2", 4),
        ("v5e-8", "v5e:2x4", 8),
        ("v5e-16", "v5e:4x4", 16),
        ("v5e-32", "v5e:4x8", 32),
        ("v5e-256", "v5e:16x16", 256),
        ("v5p-8", "v5p:2x2x1", 4),
        ("v5p-128", "v5p:4x4x4", 64),
        ("v5p-256", "v5p:4x4x8", 128),
        ("v5p-8192", "v5p:16x16x16", 4096),
        ("v6e-16", "v6e:4x4", 16),
        ("tpu7x-8", "tpu7x:2x2x1", 4),
    ],
)
def test_both_names_mean_the_same_slice(user, compiler, chips):
    by_user, by_compiler = topology.parse(user), topology.parse(compiler)
    assert by_user == by_compiler
    assert by_user.chips == chips
    assert (by_user.user_name, by_user.compiler_name) == (user, compiler)


def test_other_spellings_are_known():
    assert topology.parse("v5litepod-256").compiler_name == "v5e:16x16"
    assert topology.parse("V5E:16x16").user_name == "v5e-256"


def test_a_tpu7x_chip_is_two_devices_and_a_v4_chip_one():
    assert topology.parse("tpu7x:2x2x1").devices == 8
    assert topology.parse("v4-32").devices == 16


def test_v4_cores_are_joined():
    assert topology.parse("v4-8").compiler_options == {"chip_config_name": "megacore"}
    assert topology.parse("v5p-8").compiler_options == {}


def test_two_slices_have_twice_the_chips():
    two = topology.parse("v5e-16", slices=2)
    assert (two.chips, two.devices, two.compiler_name) == (32, 32, "v5e:4x4")
    assert "2 slices" in topology.describe(two)


def test_the_screen_says_which_is_which():
    said = topology.describe(topology.parse("v4-512"))
    assert said.startswith("v4-512 = 256 chips (512 cores) = v4:4x8x8; 256 devices with 30.8 GiB")


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("v9-4", "known: v4, v5e, v5p, v6e, tpu7x"),
        ("v5f-16", "did you mean v5"),
        ("v4-500", "counts cores, two a chip; nearest: v4-512"),
        ("v5e-512", "counts chips; nearest: v5e-256"),
        ("v5e", "write v5e:2x2 or v5e-16"),
        ("v5e:4x4x4", "v5e has 2 axes, as 4x4"),
        ("v4:4x4", "v4 has 3 axes, as 2x2x4"),
        ("v5e:3x4", "write v5e:4x4"),
        ("v5e:32x32", "at most 256 chips"),
    ],
)
def test_wrong_names_are_refused_with_the_right_one(text, right):
    with pytest.raises(UserError) as refused:
        topology.parse(text)
    assert str(refused.value).startswith(f"compile: --topology {text}: ")
    assert right in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_slices_are_refused():
    with pytest.raises(UserError, match="--num-slices 0 must be at least 1"):
        topology.parse("v5e-16", slices=0)
