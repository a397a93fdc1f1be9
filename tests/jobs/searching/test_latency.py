"""Times of answers: by formula for a slice, measured in turns, of the 8-bit file, and fitted."""

import dataclasses
import types

import numpy as np
import pytest
import thorough
import tiny

from bertlite_jax.config.search.settings import CostModel, Search, Shape, model_of
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.searching import latency, timing
from bertlite_jax.search import costs, space

SMALL = tiny.model(vocab_size=300, share="none", max_positions=64)


def config_of(**cost) -> Search:
    return Search(model=SMALL, cost=CostModel(**{"length": 32, **cost}))


def test_a_slice_answers_by_the_roofline_of_its_chips():
    """One text keeps one chip of a v5e busy; two halves of a tpu7x are two devices."""
    slice_ = latency.machine_of(CostModel(latency="roofline", host="v5e-16", layer_seconds=1e-6))
    assert slice_ == costs.Machine(197e12, 819e9, 1e-6, 2, 16)
    assert latency.machine_of(CostModel(host="tpu7x:2x2x1")).bytes_per_second == 7380e9 / 2
    seconds = latency.seconds_of(config_of(latency="roofline", host="v5e-16"), [], None)
    moved = costs.encoder_bytes(SMALL, 32, 1, 2)
    assert seconds(SMALL) == moved / 819e9


def test_sixteen_chips_answer_sixteen_texts_as_fast_as_one_chip_answers_one():
    """Kernels are not divided: each chip reads all of them. Of seventeen texts one chip has two."""

    def seconds(host: str, rows: int) -> float:
        return latency.seconds_of(config_of(latency="roofline", host=host, rows=rows), [], None)(SMALL)

    assert seconds("v5e-16", 16) == seconds("v5e-16", 1) == seconds("v5e-4", 4)
    assert seconds("v5e-16", 17) == seconds("v5e-4", 5) > seconds("v5e-4", 4)


def test_a_slice_that_does_not_exist_is_told_with_the_field():
    with pytest.raises(UserError, match=r"^config: cost.host = v5e-17: no such slice; v5e-N counts chips; nearest: "):
        latency.machine_of(CostModel(host="v5e-17"))
    with pytest.raises(UserError, match=r"^config: cost.host = abacus: unknown chip; "):
        latency.machine_of(CostModel(host="abacus"))


def test_this_machine_is_measured_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "_measured_machine", lambda: (1e10, 1e9))
    cost = CostModel(layer_seconds=1e-6)
    latency.keep_machine(cost, tmp_path)
    monkeypatch.setattr(latency, "_measured_machine", lambda: pytest.fail("measured again"))
    latency.keep_machine(cost, tmp_path)
    assert latency.machine_of(cost, tmp_path) == costs.Machine(1e10, 1e9, 1e-6, 4)


def test_a_machine_has_a_bandwidth(monkeypatch):
    monkeypatch.setattr(timing, "_COPIED", 2**20)
    assert 1e7 < timing.memory_bandwidth() < 1e14


# --- Measured --------------------------------------------------------------------------------------------------------


def test_answers_are_timed_in_turns(monkeypatch):
    """What each takes by a clock that only they move; the median and what a tenth stays below."""
    now, order = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def answer(name: str, seconds: float):
        def take() -> None:
            order.append(name)
            now[0] += seconds * (2 if order.count(name) == 3 else 1)

        return take

    slow, fast = timing.in_turns([answer("slow", 2.0), answer("fast", 1.0)], turns=10, least=0.0)
    assert order == ["slow", "fast"] * 11
    assert (slow.median, fast.median) == (2.0, 1.0)
    assert (slow.p10, fast.p10) == (2.0, 1.0)


@pytest.mark.parametrize("make", [timing.float32_answer, timing.int8_answer])
@pytest.mark.parametrize("share", thorough.but(["all"], ["none", "all"]))
def test_an_answer_has_a_state_for_each_token(make, share):
    pytest.importorskip("onnxruntime")
    model = dataclasses.replace(SMALL, share=share, residual_scale="depth", vocab_multiple=7)
    answer = make(model, 2, 32)()
    states = answer["last_hidden_state"] if isinstance(answer, dict) else answer
    assert np.shape(states) == (2, 32, 16)
    assert np.isfinite(np.asarray(states)).all()


def pretended(monkeypatch) -> list[int]:
    """Answers that are not computed: the time is that of the layers, and models are counted."""
    made = []

    def make(model, rows, length):
        made.append(model.num_layers)
        return lambda: model.num_layers

    monkeypatch.setattr(timing, "float32_answer", make)
    monkeypatch.setattr(timing, "in_turns", lambda answers: [timing.Timing(0.01 * a(), 0.009 * a()) for a in answers])
    return made


def test_measurements_are_kept_and_not_repeated(tmp_path, monkeypatch):
    made = pretended(monkeypatch)
    config = config_of(latency="measured")
    shapes = [Shape(layers, 2, 16, 32, 16) for layers in range(1, 12)]
    seconds = latency.seconds_of(config, shapes[:9], tmp_path)
    assert seconds(model_of(SMALL, shapes[3])) == 0.04
    assert sorted(made) == list(range(1, 10))
    latency.seconds_of(config, shapes, tmp_path)
    assert sorted(made) == list(range(1, 12))


@pytest.mark.parametrize(("kind", "timed"), [("measured", 13), ("fitted", 12)])
def test_shapes_beside_the_space_are_timed_too_but_nothing_is_fitted_to_them(tmp_path, monkeypatch, kind, timed):
    """A published model must not change the times of the space."""
    made = pretended(monkeypatch)
    shapes, other = [Shape(layers, 2, 16, 32, 16) for layers in range(1, 13)], Shape(12, 4, 16, 32, 16)
    seconds = latency.seconds_of(config_of(latency=kind), shapes, tmp_path, beside=[other, shapes[0]])
    assert len(made) == timed
    assert seconds(model_of(SMALL, other)) == pytest.approx(0.12)


def test_what_is_not_to_be_kept_is_read_all_the_same(tmp_path, monkeypatch):
    """As in a dry run."""
    made = pretended(monkeypatch)
    config, shapes = config_of(latency="measured"), [Shape(layers, 2, 16, 32, 16) for layers in (1, 2)]
    latency.seconds_of(config, shapes, tmp_path, keep=False)
    assert list(tmp_path.iterdir()) == []
    latency.seconds_of(config, shapes, tmp_path)
    latency.seconds_of(config, shapes, tmp_path, keep=False)
    assert sorted(made) == [1, 1, 2, 2]


@pytest.mark.parametrize("changed", ["device", "runtime"])
def test_times_of_another_device_or_runtime_are_not_taken_for_this_one(tmp_path, monkeypatch, changed):
    made = pretended(monkeypatch)
    config, shapes = config_of(latency="measured"), [Shape(1, 2, 16, 32, 16)]
    latency.seconds_of(config, shapes, tmp_path)
    if changed == "device":
        monkeypatch.setattr(latency.jax, "devices", lambda: [types.SimpleNamespace(device_kind="abacus")])
    else:
        monkeypatch.setattr(latency, "_runtime", lambda kind: "9")
    latency.seconds_of(config, shapes, tmp_path)
    assert made == [1, 1]


def test_a_fitted_formula_needs_some_shapes_and_says_the_others(tmp_path, monkeypatch):
    made = pretended(monkeypatch)
    small = [Shape(layers, 2, 16, 32, 16) for layers in (1, 2, 3)]
    with pytest.raises(UserError, match="latency = fitted needs at least 12 shapes, and there are 3"):
        latency.seconds_of(config_of(latency="fitted"), small, tmp_path)
    grid = space.Space(num_layers=tuple(range(1, 9)), num_heads=(2, 4), hidden_size=(16, 32), ffn_size=(32, 64))
    seconds = latency.seconds_of(config_of(latency="fitted", fitted_shapes=20), space.points(grid), tmp_path)
    assert len(made) == 20
    assert seconds(model_of(SMALL, Shape(5, 2, 32, 64))) == pytest.approx(0.05, rel=0.2)
