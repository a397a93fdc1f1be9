"""A limit as people say it, 5ms on this machine or on a slice, becomes fields of a search."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection

from bertlite_jax.config.search.settings import Search
from bertlite_jax.errors import UserError

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def with_limit(config: Search, latency: str, host: str, given: Collection[str]) -> Search:
    """The search in which the winner answers in a given time on a given machine.

    Args:
      config: recipe and options together.
      latency: such as `5ms`; becomes `method.most_seconds`. Empty: that of the config.
      host: `this`, whose time is that of the 8-bit file, or a slice, whose time is its roofline; becomes `cost.host`
        and, unless that is given, `cost.latency`. Empty: those of the config.
      given: fields that have options of their own on the command line.

    Raises:
      UserError: no such time, or it is given twice.
    """
    for option, value, field in (("--latency", latency, "method.most_seconds"), ("--host", host, "cost.host")):
        if value and field in given:
            raise UserError(f"search: {option} sets {field}; pass one of them")
    if latency:
        config = dataclasses.replace(
            config, method=dataclasses.replace(config.method, most_seconds=seconds_in(latency))
        )
    if host:
        cost = dataclasses.replace(config.cost, host=host)
        if "cost.latency" not in given:
            cost = dataclasses.replace(cost, latency="int8" if host == "this" else "roofline")
        config = dataclasses.replace(config, cost=cost)
    return config


def seconds_in(text: str) -> float:
    """Seconds in a time such as `5ms`, `0.8 ms`, `250us` or `1s`. Raises UserError for what is none."""
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(us|ms|s)\s*", text)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not seconds:
        raise UserError(f"search: --latency {text} is no time above 0; write 5ms, 250us or 0.5s")
    return seconds
