"""Time in collectives, read from traces."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from bertlite_jax.report import trace


def test_overlapping_spans_count_once():
    assert trace.covered([(0, 10), (5, 12), (20, 21), (6, 7)]) == 13
    assert trace.covered([]) == 0


def profiled(function, argument, folder) -> float:
    compiled = jax.jit(function).lower(argument).compile()
    jax.profiler.start_trace(folder)
    jax.block_until_ready(compiled(argument))
    jax.profiler.stop_trace()
    return trace.collective_seconds(folder, trace.waiting_operations(compiled.as_text()))


def test_a_sum_over_devices_takes_time_and_a_lone_device_waits_for_nobody(tmp_path):
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    over_four = jax.shard_map(lambda x: jax.lax.psum(jnp.sin(x), "d"), mesh=mesh, in_specs=P("d"), out_specs=P())
    assert profiled(over_four, jnp.ones((4, 1 << 16)), tmp_path / "four") > 0
    assert profiled(jnp.sin, jnp.ones((4, 1 << 16)), tmp_path / "one") == 0


def test_it_is_not_the_start_that_waits():
    """The sum runs beside the product; names say nothing, operations do."""
    text = """
ENTRY %main (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %psum.3 = f32[8]{0} all-reduce-start(%p), replica_groups={{0,1}}, to_apply=%add
  %all-reduce_like = f32[8]{0} multiply(%p, %p)
  %psum.4 = f32[8]{0} all-reduce-done(%psum.3)
  ROOT %gather.1 = f32[8]{0} all-gather(%psum.4), replica_groups={{0,1}}, dimensions={0}
}
"""
    assert trace.waiting_operations(text) == {"psum.4", "gather.1"}


def test_a_folder_without_a_trace_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no trace"):
        trace.collective_seconds(tmp_path, ())
