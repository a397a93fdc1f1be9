"""One update as one jitted call: prepare, micro-batches, one reduction over devices, optimiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from bertlite_jax.train import sharding
from bertlite_jax.train.state import TrainState, places_of

Batch = dict[str, Array]
"""Arrays whose leading axis is B, the rows; of pretraining those of `config.batch.BATCH`."""
Prepare = Callable[[Key[Array, ""], Batch, Int[Array, ""]], tuple[Batch, dict[str, Array]]]
"""(key of the step, rows, updates so far) -> (what the loss reads, weights): masks, and what the loss divides by."""
Loss = Callable[..., tuple[Float[Array, ""], dict[str, Array]]]
"""(params, rows, weights of the global batch, key of the step) -> (these rows' share of the loss, sums to report).

Where there are teachers, the parameters of each follow as further arguments."""


def with_noise(loss: Loss, noise: Callable[[Any, Key[Array, ""]], Any]) -> Loss:
    """A loss of parameters that `noise(params, key of the step)` has changed; gradients flow through that change."""

    def noisy(
        params: Any, rows: Batch, weights: dict[str, Array], key: Key[Array, ""], *teachers: Any
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        return loss(noise(params, key), rows, weights, key, *teachers)

    return noisy


@runtime_checkable
class Step(Protocol):
    """A jitted update, as `make_step` returns it."""

    def __call__(self, state: TrainState, batch: Batch, /, *teachers: Any) -> tuple[TrainState, dict[str, Array]]:
        """One update; the given state is donated. Metrics are float32 scalars on the device."""
        ...

    def lower(self, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """The program for arguments, or shapes, like these."""
        ...


def step_key(seed: int, updates: Int[Array, ""]) -> Key[Array, ""]:
    """The key that all random choices of an update are folded from, by the row's number in the global batch.

    Args:
      seed: of masks and dropout.
      updates: made so far; 0 at step 1.
    """
    return jax.random.fold_in(jax.random.key(seed), updates)


def row_keys(key: Key[Array, ""], rows: Int[Array, " B"]) -> Key[Array, " B"]:
    """A key for each row, folded from its number in the global batch."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows)


def make_step(
    prepare: Prepare,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    learning_rate: Callable[[Int[Array, ""]], Float[Array, ""]],
    layout: sharding.Layout,
    micro_batches: int,
    seed: int,
    unroll: bool = False,
    teachers: Sequence[sharding.Layout] = (),
) -> Step:
    """Compiles nothing yet; returns `step(state, batch, *teachers) -> (state, metrics)`.

    Losses are sums over the global batch divided by global weights, whatever the number of devices or micro-batches:
    the weights follow from the batch, so they are summed before the first forward pass. Gradients are summed over
    micro-batches on each device and over devices once; parameters that are split are put together once.

    Args:
      prepare: see `Prepare`; gets one device's rows.
      loss: see `Loss`; gets one device's rows.
      optimizer: turns gradients into updates.
      learning_rate: of the updates made so far; only reported, as the optimiser has its own.
      layout: of the parameters over the devices.
      micro_batches: A; each device's rows are computed in A parts.
      seed: of masks and dropout.
      unroll: write the micro-batches out instead of scanning.
      teachers: layouts of further parameters, which the loss reads and nothing changes.

    Returns:
      A jitted function. It donates its state. Metrics are float32 scalars on the device: `loss`, `grad_norm`,
      `learning_rate`, and the global sums and weights by their names.
    """
    by_part = sharding.places(layout.moments, layout.mesh)

    def gradients(held: tuple[Any, Int[Array, ""], tuple[Any, ...]], batch: Batch) -> tuple[Any, dict[str, Array]]:
        params, step, others = held
        key = step_key(seed, step)
        batch, weights = prepare(key, batch, step)
        weights = sharding.sum_over_devices(weights, layout)
        parts = jax.tree.map(lambda rows: rows.reshape(micro_batches, -1, *rows.shape[1:]), batch)
        params = sharding.gather(params, layout)
        others = [sharding.gather(other, other_layout) for other, other_layout in zip(others, teachers, strict=True)]
        value_and_grad = jax.value_and_grad(loss, has_aux=True)

        def micro_batch(totals: Any, rows: Batch) -> tuple[Any, None]:
            (value, sums), grads = value_and_grad(params, rows, weights, key, *others)
            return jax.tree.map(jnp.add, totals, ({"loss": value, **sums}, grads)), None

        rows_like = jax.tree.map(_first, parts)
        value, sums = jax.eval_shape(lambda rows: loss(params, rows, weights, key, *others), rows_like)
        shapes = {"loss": value, **sums}, params  # A gradient is like its parameter.
        zeros = sharding.vary(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), layout)
        totals, _ = jax.lax.scan(micro_batch, zeros, parts, unroll=micro_batches if unroll else 1)
        sums, grads = totals
        return sharding.sum_gradients(grads, layout), {**sharding.sum_over_devices(sums, layout), **weights}

    def step(state: TrainState, batch: Batch, *others: Any) -> tuple[TrainState, dict[str, Array]]:
        grads, metrics = sharding.on_rows(gradients, layout, teachers)((state.params, state.step, others), batch)
        grads = jax.lax.with_sharding_constraint(grads, by_part)
        with jax.named_scope("optimizer"):
            updates, opt = optimizer.update(grads, state.opt, state.params)
            params = optax.apply_updates(state.params, jax.lax.with_sharding_constraint(updates, by_part))
        metrics |= {"grad_norm": optax.tree.norm(grads), "learning_rate": learning_rate(state.step)}
        return TrainState(step=state.step + 1, params=params, opt=opt), metrics

    out = places_of(layout, optimizer), sharding.replicated(layout.mesh)
    return jax.jit(step, donate_argnums=0, out_shardings=out)


def _first(rows: Array) -> Array:
    return rows[0]
