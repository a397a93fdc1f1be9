"""A limit in words becomes fields of a search."""

import pytest

from bertlite_jax.config.search.limit import seconds_in, with_limit
from bertlite_jax.config.search.settings import CostModel, Search
from bertlite_jax.errors import UserError


@pytest.mark.parametrize(
    ("text", "seconds"), [("5ms", 0.005), ("0.8 ms", 0.0008), ("250us", 0.00025), ("1s", 1.0), (".5s", 0.5), ("2.s", 2)]
)
def test_times(text, seconds):
    assert seconds_in(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["5", "ms", "0ms", "-1ms", "5 minutes", "1e3ms", "nan s"])
def test_what_is_no_time(text):
    with pytest.raises(UserError, match=f"^search: --latency {text} is no time above 0; write 5ms, 250us or 0.5s$"):
        seconds_in(text)


def test_this_machine_is_timed_with_the_file_that_is_deployed_and_a_slice_has_its_roofline():
    config = Search(cost=CostModel(latency="analytic", length=64))
    here = with_limit(config, "5ms", "this", ())
    assert (here.method.most_seconds, here.cost.host, here.cost.latency) == (0.005, "this", "int8")
    there = with_limit(config, "", "v5e-16", ())
    assert (there.method.most_seconds, there.cost.host, there.cost.latency) == (0.0, "v5e-16", "roofline")
    assert with_limit(config, "", "", ()) == config


def test_what_is_given_stays():
    config = Search(cost=CostModel(latency="measured"))
    assert with_limit(config, "", "this", ("cost.latency",)).cost.latency == "measured"
    for latency, host, field in (("5ms", "", "method.most_seconds"), ("", "this", "cost.host")):
        with pytest.raises(UserError, match=f"sets {field}; pass one of them"):
            with_limit(config, latency, host, (field,))
