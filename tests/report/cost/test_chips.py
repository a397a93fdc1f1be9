"""What chips can do, and the bounds that follow, by arithmetic shown here."""

import pytest

from bertlite_jax.report.cost import chips


@pytest.mark.parametrize(
    ("generation", "teraflops"), [("v4", 275), ("v5e", 197), ("v5p", 459), ("v6e", 918), ("tpu7x", 2307)]
)
def test_peaks_are_the_published_ones_a_chip(generation, teraflops):
    assert chips.CHIPS[generation].device_peak * chips.CHIPS[generation].devices == pytest.approx(teraflops * 1e12)


def test_a_step_takes_the_longer_of_its_products_and_its_bytes():
    v5e = chips.CHIPS["v5e"]
    assert chips.step_seconds(197e12, 819e9 / 2, v5e) == (pytest.approx(1.0), "products")
    assert chips.step_seconds(197e12 / 4, 2 * 819e9, v5e) == (pytest.approx(2.0), "memory")


def test_operations_that_follow_each_other_each_take_their_longer_part():
    """Products for 1 s that read for 1/2 s, and three copies of 1/2 s: 2.5 s, though all bytes together take 2."""
    operations = [(197 * 10**12, 819 * 10**9 // 2, 1), (0, 819 * 10**9 // 2, 3)]
    assert chips.serial_seconds(operations, 2 * 819e9, chips.CHIPS["v5e"]) == pytest.approx(2.5)
    assert chips.serial_seconds(operations, 4 * 819e9, chips.CHIPS["v5e"]) == pytest.approx(4.0)


def test_a_device_of_two_on_a_chip_has_half_of_its_memory_bandwidth():
    seconds, bound = chips.step_seconds(0.0, 7380e9 / 2, chips.CHIPS["tpu7x"])
    assert (seconds, bound) == (pytest.approx(1.0), "memory")


def test_an_all_reduce_sends_the_bytes_nearly_twice():
    # v5e: 400 GB/s both ways together, 200 one way; 16 devices send 15/16 of 200 GB in each of two passes.
    assert chips.link_seconds(200e9, 16, 2, chips.CHIPS["v5e"]) == pytest.approx(2 * 15 / 16)
