"""The text of compiled programs, read into instructions; sizes counted by hand."""

import pytest

from bertlite_jax.report.cost import hlo

PROGRAM = """
HloModule jit_f, is_scheduled=true

%fused (p: f32[8,128]) -> (f32[8,128], s32[]) {
  %p = f32[8,128]{1,0:T(8,128)} parameter(0)
  %c = s32[]{:T(128)} constant(3)
  %y = f32[8,128]{1,0:T(8,128)S(1)} add(%p, %p), metadata={op_name="jit(f)/add" source_line=3}
  ROOT %t = (f32[8,128]{1,0:T(8,128)}, /*index=1*/s32[]{:T(128)}) tuple(%y, %c)
}

ENTRY %main (x: f32[8,128]) -> f32[8,128] {
  %x = f32[8,128]{1,0:T(8,128)} parameter(0), sharding={devices=[2,1]<=[2]}
  %both = (f32[8,128]{1,0:T(8,128)}, s32[]{:T(128)}) fusion(%x), kind=kLoop, calls=%fused
  ROOT %out = f32[8,128]{1,0:T(8,128)} get-tuple-element(%both), index=0
}
"""


def test_instructions_have_names_operands_and_attributes():
    module = hlo.parse(PROGRAM)
    assert (module.entry, set(module.computations)) == ("main", {"main", "fused"})
    main, fused = module.computations["main"], module.computations["fused"]
    both = main.instructions["both"]
    assert (both.operation, both.operands, both.called) == ("fusion", ("x",), ("fused",))
    assert [shape.kind for shape in both.shapes] == ["f32", "s32"]
    assert main.root.name == "out"
    assert main.root.attribute("index") == "0"
    assert main.parameters[0].name == "x"
    assert fused.instructions["c"].argument == "3"
    assert fused.instructions["y"].source == "jit(f)/add"
    assert [user.name for user in fused.users["y"]] == ["t"]


@pytest.mark.parametrize(
    ("text", "logical", "in_memory"),
    [
        ("f32[8,128]{1,0:T(8,128)}", 8 * 128 * 4, 8 * 128 * 4),
        ("bf16[5,64]{1,0:T(8,128)(2,1)}", 5 * 64 * 2, 8 * 128 * 2),
        ("bf16[12,64,512]{1,2,0:T(8,128)}", 12 * 64 * 512 * 2, 12 * 128 * 512 * 2),  # minor axis 1, then axis 2
        ("f32[100]{0:T(1024)}", 400, 4096),
        ("s32[]{:T(128)}", 4, 4),
        ("pred[3,5]{1,0}", 15, 15),
        ("u4[3]{0}", 2, 2),
        ("token[]", 0, 0),
    ],
)
def test_sizes_are_rounded_up_to_tiles(text, logical, in_memory):
    (shape,) = hlo.shapes(text)
    assert (shape.logical_bytes, shape.bytes) == (logical, in_memory)


def test_memory_spaces_are_read():
    assert [shape.space for shape in hlo.shapes("(f32[8]{0:T(128)S(1)}, f32[8]{0:T(128)}, u32[]{:S(2)})")] == [1, 0, 2]


def test_other_texts_are_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        hlo.parse("module @jit_f {\n}")
