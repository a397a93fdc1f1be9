"""How long a shape takes to answer: by formula for a machine, measured on this one, or by a formula fitted to that.

What is measured is kept in the folder of the search, so that a restart compares the same times.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from bertlite_jax.config.model import Model
from bertlite_jax.config.search.settings import MEASURED, CostModel, Search, Shape, model_of
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, json_files, json_shapes, whole_files
from bertlite_jax.host.json_shapes import NUMBER
from bertlite_jax.jobs.searching import timing, training
from bertlite_jax.report.cost import flops, topology
from bertlite_jax.search import costs, latency_fit, surrogate
from bertlite_jax.search.costs import Machine, Seconds

FILE, MACHINE = "latencies.json", "machine.json"
FORMULAS = costs.Formulas(flops.parameters, flops.forward_flops_per_row, flops.train_flops_per_step)
"""Those that every report counts by."""
TOGETHER = 8
"""Models that are timed in turn, so that a busy moment of the machine slows down all of them."""
_SHAPE: dict[Any, Any] = {...: {"median": NUMBER, "p10": NUMBER}}


def seconds_of(
    config: Search,
    shapes: Sequence[Shape],
    place: pathlib.Path | None,
    stop_wanted: Callable[[int], bool] = lambda step: False,
    keep: bool = True,
    beside: Sequence[Shape] = (),
) -> Seconds:
    """Returns the time of an answer for the model of a shape.

    Args:
      config: of the search, with all sizes.
      shapes: all that will be asked for, the maximum point among them; here they are measured, if that is wanted.
      place: folder of the search, where measurements are kept; None: nowhere.
      stop_wanted: whether a signal has asked for the end.
      keep: what is measured now; what was kept before is read in any case.
      beside: others that will be asked for, which no formula is fitted to.

    Raises:
      Stopped: it has, while models were timed.
      UserError: there is no such slice, the peak of this device is not known, or a package is missing.
    """
    cost = config.cost
    if cost.latency not in MEASURED:
        return costs.by_formula(cost, FORMULAS, machine_of(cost, place))
    models = {shape: model_of(config.model, shape) for shape in shapes}
    if cost.latency == "fitted":
        drawn = random.Random(config.method.seed).sample(list(models.values()), min(len(models), cost.fitted_shapes))
        if len(drawn) < 12:
            raise UserError(
                f"config: cost.latency = fitted needs at least 12 shapes, and there are {len(drawn)}; use measured"
            )
        found = measured(drawn, cost, "measured", place, stop_wanted, keep)
        fit = latency_fit.fit(drawn, [cost.length] * len(drawn), [found[model].median for model in drawn])
        return lambda model: latency_fit.predict(fit, model, cost.length)
    everything = [*models.values(), *(model_of(config.model, shape) for shape in beside)]
    found = measured(list(dict.fromkeys(everything)), cost, cost.latency, place, stop_wanted, keep)
    return lambda model: found[model].median


def elsewhere(config: Search) -> dict[str, Seconds]:
    """The roofline of each of `cost.compared_hosts`, without an overhead.

    Raises:
      UserError: there is no such slice.
    """
    found = {}
    for host in config.cost.compared_hosts:
        cost = dataclasses.replace(config.cost, latency="roofline", host=host, layer_seconds=0.0)
        found[host] = costs.by_formula(cost, FORMULAS, _slice(cost, "config: cost.compared_hosts ="))
    return found


# --- Machines --------------------------------------------------------------------------------------------------------


def machine_of(cost: CostModel, place: pathlib.Path | None = None) -> Machine:
    """What formulas need to know of `cost.host`; this machine is measured once.

    Args:
      cost: of the config.
      place: folder of the search, where what is measured is kept; None: nowhere.
    """
    if cost.host == "this":
        return _this_machine(cost, place)
    return _slice(cost, "config: cost.host =")


def _slice(cost: CostModel, where: str) -> Machine:
    """A slice; `where` begins the message of what is none."""
    named = topology.parse(cost.host, where=where)
    chip = named.chip
    return Machine(chip.device_peak, chip.hbm_bandwidth / chip.devices, cost.layer_seconds, 2, named.devices)


def _this_machine(cost: CostModel, place: pathlib.Path | None) -> Machine:
    stored = place / MACHINE if place else None
    if stored is None or not stored.is_file():
        return Machine(*_measured_machine(), cost.layer_seconds, 4)
    values = json_files.read_object(stored, "search")
    json_shapes.check(values, {"peak": NUMBER, "bandwidth": NUMBER}, str(stored), "search")
    return Machine(values["peak"], values["bandwidth"], cost.layer_seconds, 4)


def keep_machine(cost: CostModel, place: pathlib.Path) -> None:
    """Writes down what this machine can do, where formulas need it."""
    if cost.latency not in MEASURED and cost.host == "this" and not (place / MACHINE).is_file():
        peak, bandwidth = _measured_machine()
        whole_files.write_json(place / MACHINE, {"peak": peak, "bandwidth": bandwidth})


@functools.cache
def _measured_machine() -> tuple[float, float]:
    """Peak in FLOP a second of float32 products, and bytes a second of memory; once a process."""
    kind, product = jax.devices()[0].device_kind, jax.jit(jnp.matmul)
    peak = flops.peak_flops(kind, "float32", lambda a, b: product(a, b).block_until_ready())
    if peak is None:
        raise UserError(f"search: the peak of {kind} is not known; use --cost.latency measured")
    return peak, timing.memory_bandwidth()


# --- Measured --------------------------------------------------------------------------------------------------------


def measured(
    models: Sequence[Model],
    cost: CostModel,
    kind: str,
    place: pathlib.Path | None,
    stop_wanted: Callable[[int], bool] = lambda step: False,
    keep: bool = True,
) -> Mapping[Model, timing.Timing]:
    """The time of an answer of each model on this machine.

    Args:
      models: different ones.
      cost: length and rows of an answer.
      kind: `measured` or `int8`.
      place: folder of the search; None: nothing is kept.
      stop_wanted: whether a signal has asked for the end.
      keep: what is measured now.
    """
    stored = place / FILE if place else None
    known: dict[str, Any] = {}
    if stored is not None and stored.is_file():
        known = json_files.read_object(stored, "search")
        json_shapes.check(known, _SHAPE, str(stored), "search")
    keys = {model: _key(model, cost, kind) for model in models}
    todo = [model for model in models if keys[model] not in known]
    random.Random(0).shuffle(todo)  # Not small ones first: the machine may be slow at first.
    make = timing.float32_answer if kind == "measured" else timing.int8_answer
    for first in range(0, len(todo), TOGETHER):
        if not first:
            print(f"search: timing {len(todo)} models on this machine", flush=True)
        if stop_wanted(first):
            raise training.Stopped
        group = todo[first : first + TOGETHER]
        answers: list[Callable[[], object]] = [make(model, cost.rows, cost.length) for model in group]
        for model, time in zip(group, timing.in_turns(answers), strict=True):
            known[keys[model]] = time._asdict()
        if stored is not None and keep:
            whole_files.write_json(stored, known)
    return {model: timing.Timing(**known[key]) for model, key in keys.items()}


def _key(model: Model, cost: CostModel, kind: str) -> str:
    return surrogate.memo_key(
        model=model,
        length=cost.length,
        rows=cost.rows,
        kind=kind,
        device=jax.devices()[0].device_kind,
        cpu=cpu.name(),
        cores=cpu.cores(),
        runtime=_runtime(kind),
    )


def _runtime(kind: str) -> str:
    """Version of what computes the answers."""
    if kind == "measured":
        return jax.__version__
    from bertlite_jax.convert.onnx import session

    return session.onnxruntime.__version__
