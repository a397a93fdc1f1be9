"""Time in collectives, read from traces."""

import time

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from bertlite_jax.report.cost import breakdown, hlo, trace


def test_overlapping_spans_count_once():
    assert trace.covered([(0, 10), (5, 12), (20, 21), (6, 7)]) == 13
    assert trace.covered([]) == 0


def profiled(function, argument, folder) -> float:
    compiled = jax.jit(function).lower(argument).compile()
    jax.profiler.start_trace(folder)
    jax.block_until_ready(compiled(argument))
    jax.profiler.stop_trace()
    return trace.collective_seconds(folder, trace.waiting_operations(compiled.as_text() or ""))


@pytest.mark.thorough
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


def test_time_is_shared_out_among_what_runs_at_a_time():
    """A alone for 2, a and b for 2, b alone for 1, nothing for 5, then a twice at once beside b."""
    spans = [(0, 4, "a"), (2, 5, "b"), (10, 13, "a"), (10, 13, "a"), (10, 13, "b")]
    assert trace.shared_out(spans) == {"a": 2 + 1 + 2, "b": 1 + 1 + 1}
    assert trace.shared_out([]) == {}


def test_operations_of_a_program_take_most_of_its_time(tmp_path):
    """A loop of products and sines: what it repeats is timed, and the loop itself is not counted beside it.

    Without the product, XLA of jaxlib 0.12 makes one call of such a loop, with nothing to see inside.
    """
    w = jnp.eye(768)
    repeated = lambda x: jax.lax.scan(lambda x, _: (jnp.sin(x @ w) + x, None), x, None, length=10)[0]  # noqa: E731
    program = jax.jit(repeated).lower(jnp.ones((768, 768))).compile()
    jax.block_until_ready(program(jnp.ones((768, 768))))
    with trace.profiling(tmp_path):
        began = time.perf_counter()
        jax.block_until_ready(program(jnp.ones((768, 768))))
        whole = time.perf_counter() - began
    found = trace.operation_seconds(tmp_path, breakdown.operations(hlo.parse(program.as_text() or "")))
    assert 0.3 * whole < sum(found.values()) <= whole
    assert any("sine" in name for name in found)
    assert not any(name.startswith("while") for name in found)


def test_a_folder_without_a_trace_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no trace"):
        trace.collective_seconds(tmp_path, ())
    with pytest.raises(FileNotFoundError, match="no trace"):
        trace.operation_seconds(tmp_path, ())
