"""A step that cannot fit is refused before anything is compiled, with the setting that would help."""

import dataclasses
import re

import jax
import pytest

from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.host import memory
from bertlite_jax.jobs.pretraining import memory_need
from bertlite_jax.train import sharding

CONFIG = Pretrain(model=Model(num_layers=2), data=Data(batch_rows=64, length=128))


@pytest.fixture
def total(monkeypatch) -> int:
    """The estimate on one device."""
    monkeypatch.setattr(memory, "most_bytes", lambda: None)
    return memory_need.check(CONFIG, sharding.make_mesh(1), "float32")


def test_what_fits_passes(total, monkeypatch):
    """The estimate is within a sixth, so a machine of five sixths of it may be enough."""
    monkeypatch.setattr(memory, "most_bytes", lambda: int(0.84 * total))
    assert memory_need.check(CONFIG, sharding.make_mesh(1), "float32") == total


def test_a_batch_that_does_not_fit_is_told_with_its_settings(total, monkeypatch):
    monkeypatch.setattr(memory, "most_bytes", lambda: int(0.83 * total))
    with pytest.raises(UserError) as refused:
        memory_need.check(CONFIG, sharding.make_mesh(1), "float32")
    needs = re.search(
        r"^pretrain: a step needs about ([\d.]+) GiB, and this machine has ([\d.]+) GiB", str(refused.value)
    )
    assert needs
    assert float(needs[1]) == pytest.approx(total / 2**30, abs=0.06)
    assert "raise optim.micro_batches (now 1) or lower data.batch_rows (now 64)" in str(refused.value)


def test_a_model_that_does_not_fit_is_told_as_such(monkeypatch):
    monkeypatch.setattr(memory, "most_bytes", lambda: 10**6)
    config = Pretrain(model=Model(), data=Data(batch_rows=1, length=8))
    with pytest.raises(UserError, match="take a smaller model; its parameters and the optimiser alone need"):
        memory_need.check(config, sharding.make_mesh(1), "float32")


def test_devices_of_a_cpu_share_its_memory(total, monkeypatch):
    """Each of two has its own parameters and half of the rows."""
    if len(jax.devices()) < 2:
        pytest.skip("one device")
    two = memory_need.check(CONFIG, sharding.make_mesh(2), "float32")
    assert total / 2 < two < total
    monkeypatch.setattr(memory, "most_bytes", lambda: int(1.2 * two))
    with pytest.raises(UserError, match="a step needs about"):
        memory_need.check(CONFIG, sharding.make_mesh(2), "float32")


def test_the_stage_that_needs_most_counts(total, monkeypatch):
    """A larger batch at first is compared before the run starts, and named with its setting and its step."""
    mesh = sharding.make_mesh(1)
    for batches in (((32, 10),), ((32, 10), (48, 20))):
        smaller = dataclasses.replace(CONFIG, run=dataclasses.replace(CONFIG.run, batches=batches))
        assert memory_need.check(smaller, mesh, "float32") == total
    larger = dataclasses.replace(CONFIG, run=dataclasses.replace(CONFIG.run, batches=((8, 10), (512, 20))))
    needed = memory_need.check(larger, mesh, "float32")
    assert 2 * total < needed < 8 * total
    monkeypatch.setattr(memory, "most_bytes", lambda: total)
    with pytest.raises(UserError, match=r"^pretrain: step 11 needs about .* or lower run.batches \(now 512\)$"):
        memory_need.check(larger, mesh, "float32")
