"""The largest batch of a device whose memory is known is found, with few attempts."""

import pytest

from bertlite_jax.jobs.compiling import batch_search

GIB = 2**30


def device(state: float, row: float, limit: float, tried: list[int]):
    """`attempt` of a step that needs `state + rows * row` GiB where `limit` are there."""

    def attempt(rows: int) -> dict:
        tried.append(rows)
        used = int((state + rows * row) * GIB)
        if used > limit * GIB:
            return {"fits": False, "used_bytes": used}
        parts = dict.fromkeys(("argument_bytes", "output_bytes", "code_bytes"), 0)
        return {"fits": True, **parts, "temporary_bytes": used}

    return attempt


def test_the_grid_has_steps_of_at_most_a_quarter():
    grid = [1]
    while grid[-1] < 100:
        grid.append(batch_search.after(grid[-1]))
    assert grid == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112]
    assert [batch_search.on_grid(rows) for rows in (0.3, 1, 9.9, 31, 47, 100)] == [1, 1, 8, 28, 40, 96]


@pytest.mark.parametrize("first", [1, 2, 20, 500])
@pytest.mark.parametrize(("state", "row", "right"), [(1.0, 0.4, 32), (3.0, 0.11, 112), (0.2, 7.0, 2), (15.0, 0.7, 1)])
def test_the_largest_that_fits_is_found_in_few_attempts(first, state, row, right):
    # 15.75 GiB: (15.75 - 1) / 0.4 = 36.9; (15.75 - 3) / 0.11 = 115.9; 2.2; 1.07.
    tried: list[int] = []
    attempt = device(state, row, 15.75, tried)
    rows, result = batch_search.find_largest(
        attempt, first, int(15.75 * GIB), [(0, int(state * GIB))], log=lambda _: None
    )
    assert (rows, result["fits"]) == (right, True)
    assert len(tried) <= 3


def test_without_knowledge_it_takes_a_few_more():
    tried: list[int] = []
    rows, _ = batch_search.find_largest(device(6.0, 0.4, 15.75, tried), 4, int(15.75 * GIB), log=lambda _: None)
    assert rows == 24  # (15.75 - 6) / 0.4 = 24.4
    assert len(tried) <= 6


def test_nothing_fits_where_the_state_does_not():
    tried: list[int] = []
    rows, result = batch_search.find_largest(device(20.0, 0.4, 15.75, tried), 8, int(15.75 * GIB), log=lambda _: None)
    assert (rows, result["fits"]) == (0, False)


def test_each_attempt_is_said():
    said: list[str] = []
    batch_search.find_largest(device(1.0, 8.0, 15.75, []), 2, int(15.75 * GIB), log=said.append)
    assert said[0] == "compile: 2 rows per device do not fit: 17.0 of 15.8 GiB"
    assert said[-1] == "compile: 1 rows per device fit: 9.0 of 15.8 GiB"
