"""Latencies by a made-up table, so that what pruning leaves does not depend on the machine."""

from collections.abc import Iterator

import numpy as np
import pytest

from bertlite_jax.jobs.compressing import latency
from bertlite_jax.train.compression import choice
from bertlite_jax.train.compression.choice import Latencies


@pytest.fixture(scope="module")
def pretended() -> Iterator[Latencies]:
    """Of two layers with two heads and 64 neurons: 1 + 2 (2 + 4) ms. Whole models take what their parts do."""
    table = Latencies(
        heads=np.asarray([0.0, 1e-3, 2e-3]),
        widths=np.asarray([0, 16, 32, 48, 64]),
        neurons=np.asarray([0.0, 1e-3, 2e-3, 3e-3, 4e-3]),
        layer=0.0,
        rest=1e-3,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "table_of", lambda *given: table)
        patch.setattr(
            latency,
            "seconds_of",
            lambda makers, settings, length: [choice.seconds_of(make().model, table) for make in makers],
        )
        yield table
