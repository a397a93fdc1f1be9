"""Turns of contenders: they alternate, and one that is too slow gets none."""

import pytest

from bertlite_jax.jobs.benchmarks.race import Contender, drop_slow, race


def test_contenders_alternate_and_every_turn_counts():
    """Two rounds of two contenders; a turn may time several calls."""
    order, lines = [], []
    contenders = [Contender("a", seconds=[9.0]), Contender("b")]

    def take_turn(contender: Contender) -> list[float]:
        order.append(contender.name)
        return [1.0, 2.0]

    race(contenders, 2, take_turn, lines.append)
    assert "".join(order) == "abab"
    assert contenders[0].seconds == [9.0, 1.0, 2.0, 1.0, 2.0]
    assert contenders[0].fastest == 1.0
    assert lines == ["bench: round 1 of 2", "bench: round 2 of 2"]


@pytest.mark.parametrize(("seconds", "dropped"), [([8.0], False), ([8.1], True), ([100.0, 7.0], False)])
def test_only_the_fastest_time_decides_who_is_dropped(seconds, dropped):
    """Other programs may have slowed the others down. The limit is 8 times 1 second."""
    slow = Contender("slow", seconds=list(seconds))
    drop_slow([slow], 8.0, reference_seconds=1.0)
    assert slow.dropped == dropped
    race([slow], 1, lambda contender: [0.5])
    assert slow.seconds == (seconds if dropped else [*seconds, 0.5])
