"""What an operation of a training step belongs to."""

import pytest

from bertlite_jax.report.cost import breakdown, hlo

MODULE = hlo.parse("""
%inside (a: f32[4,8], b: f32[8,2]) -> f32[4,2] {
  %a = f32[4,8]{1,0} parameter(0)
  %b = f32[8,2]{1,0} parameter(1)
  ROOT %dot.1 = f32[4,2]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (s: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  %s = (s32[], f32[4,2]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = f32[4,2]{1,0} get-tuple-element(%s), index=1
  %normal = f32[4,2]{1,0} negate(%x), metadata={op_name="encoder/norm/mul"}
  ROOT %next = (s32[], f32[4,2]{1,0}) tuple(%i, %normal)
}

%more (s: (s32[], f32[4,2])) -> pred[] {
  %s.1 = (s32[], f32[4,2]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%s.1), index=0
  %end = s32[] constant(3)
  ROOT %less = pred[] compare(%i.1, %end), direction=LT
}

ENTRY %main (p: f32[4,8], q: f32[8,2]) -> f32[4,2] {
  %p = f32[4,8]{1,0} parameter(0)
  %q = f32[8,2]{1,0} parameter(1)
  %layer = f32[4,2]{1,0} fusion(%p, %q), kind=kCustom, calls=%inside, metadata={op_name="dense/dot_general"}
  %scores = f32[4,2]{1,0} fusion(%p, %q), kind=kCustom, calls=%inside, metadata={op_name="dense/attention/dot"}
  %bias = f32[4,2]{1,0} add(%layer, %scores), metadata={op_name="attention/dense/add"}
  %zero = s32[] constant(0)
  %start = (s32[], f32[4,2]{1,0}) tuple(%zero, %bias)
  %loop = (s32[], f32[4,2]) while(%start), condition=%more, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %out = f32[4,2]{1,0} get-tuple-element(%loop), index=1
  %moments = f32[4,2]{1,0} multiply(%out, %out), metadata={op_name="optimizer/mul"}
  %muon = f32[4,2]{1,0} fusion(%p, %q), kind=kCustom, calls=%inside, metadata={op_name="optimizer/dot_general"}
  %step = f32[4,2]{1,0} add(%moments, %muon), metadata={op_name="optimizer/add"}
  ROOT %copy.1 = f32[4,2]{1,0} copy(%step)
}
""")
SECONDS = {"layer": 5.0, "scores": 2.0, "bias": 1.0, "normal": 0.75, "moments": 0.125, "muon": 0.125, "copy.1": 0.5}


def test_operations_count_where_they_were_made():
    """Products outside attention and optimiser are one part; the innermost name counts; what nobody named is the rest.

    Muon's products are the optimiser's.
    """
    parts = {part.name: part for part in breakdown.breakdown(MODULE, SECONDS, step_seconds=10.0)}
    assert list(parts) == list(breakdown.PARTS)
    assert {name: part.seconds for name, part in parts.items()} == {
        "products of layers and heads": 5.0,
        "biases, rounding, transpositions": 1.0,
        "attention": 2.0,
        "norms and activations": 0.75,
        "optimiser": 0.25,
        "the rest": 0.5,
        "host": pytest.approx(0.5),
    }


def test_flops_and_bytes_count_as_often_as_a_loop_runs():
    """A product of [4, 8] and [8, 2] takes 2 x 4 x 8 x 2 FLOPs; a negation of [4, 2] moves 64 bytes, three times."""
    parts = {part.name: part for part in breakdown.breakdown(MODULE, SECONDS, step_seconds=10.0)}
    assert parts["products of layers and heads"].flops == parts["attention"].flops == parts["optimiser"].flops == 128
    assert parts["norms and activations"].bytes == 3 * 64


def test_only_what_takes_time_itself_is_an_operation():
    assert "loop" not in breakdown.operations(MODULE)
    assert set(SECONDS) <= breakdown.operations(MODULE)
