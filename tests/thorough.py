"""Which values of a parametrised test `make test` takes; the others are for `make test-thorough`."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def but(kept: Collection, values: Iterable) -> list[Any]:
    """The values in their order, each that is not among `kept` marked `thorough`. A tuple is one of several arguments.

    The ids of tests stay those of the values.
    """
    values = list(values)
    assert all(value in values for value in kept), f"{kept} should be some of {values}"
    return [value if value in kept else _marked(value) for value in values]


def _marked(value: Any) -> Any:
    several = value if isinstance(value, tuple) else (value,)
    return pytest.param(*several, marks=pytest.mark.thorough)
