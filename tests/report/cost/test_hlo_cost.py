"""FLOPs, bytes and collectives of small programs, counted by hand beside each."""

import jax
import jax.numpy as jnp
import pytest

from bertlite_jax.report.cost import hlo, hlo_cost, hlo_loops


def entry(*lines: str, parameters: str = "", others: str = "") -> str:
    """A module whose entry has these lines."""
    body = "\n".join(f"  {line}" for line in lines)
    return f"HloModule m\n\n{others}\n\nENTRY %main ({parameters}) -> f32[] {{\n{body}\n}}\n"


def loop(condition: str, body: str, initial: str) -> str:
    """A `while` over (counter, array, bound); the array is added to itself, 8 x 128 x 4 bytes = 4 KiB."""
    kinds = "(s32[], f32[8,128]{1,0}, s32[])"
    others = f"""
%body (b: {kinds}) -> {kinds} {{
  %b = {kinds} parameter(0)
  %i = s32[] get-tuple-element(%b), index=0
  %x = f32[8,128]{{1,0}} get-tuple-element(%b), index=1
  %n = s32[] get-tuple-element(%b), index=2
  %y = f32[8,128]{{1,0}} add(%x, %x)
{body}
  ROOT %t = {kinds} tuple(%j, %y, %n)
}}

%condition (c: {kinds}) -> pred[] {{
  %c = {kinds} parameter(0)
  %k = s32[] get-tuple-element(%c), index=0
  %m = s32[] get-tuple-element(%c), index=2
{condition}
}}"""
    return entry(
        "%x0 = f32[8,128]{1,0} parameter(0)",
        "%d = s32[] parameter(1)",
        *initial.split("; "),
        f"%start = {kinds} tuple(%zero, %x0, %limit)",
        f"ROOT %w = {kinds} while(%start), condition=%condition, body=%body",
        others=others,
    )


ONE_UP = "  %one = s32[] constant(1)\n  %j = s32[] add(%i, %one)"
TWO_UP = "  %two = s32[] constant(2)\n  %j = s32[] add(%i, %two)"
BELOW_FIVE = "  %five = s32[] constant(5)\n  ROOT %p = pred[] compare(%k, %five), direction=LT"
BELOW_BOUND = "  ROOT %p = pred[] compare(%k, %m), direction=LT"
FROM_ZERO = "%zero = s32[] constant(0); %limit = s32[] constant(7)"
BODY_BYTES = 2 * 8 * 128 * 4 + 3 * 4  # x read and y written; i and its step read, j written


@pytest.mark.parametrize(
    ("text", "trips"),
    [
        (loop(BELOW_FIVE, ONE_UP, FROM_ZERO), 5),
        (loop(BELOW_BOUND, ONE_UP, FROM_ZERO), 7),
        (loop(BELOW_FIVE, TWO_UP, "%zero = s32[] constant(2); %limit = s32[] constant(7)"), 2),  # at 2 and 4
        (loop(BELOW_BOUND, ONE_UP, "%zero = s32[] constant(0); %limit = s32[] add(%d, %d)"), None),
    ],
)
def test_loops_count_by_their_condition(text, trips):
    module = hlo.parse(text)
    main = module.computations["main"]
    assert hlo_loops.trip_count(module, main, main.instructions["w"]) == trips


def test_a_loop_of_unknown_length_counts_once_and_is_said():
    unknown = hlo_cost.cost(loop(BELOW_BOUND, ONE_UP, "%zero = s32[] constant(0); %limit = s32[] add(%d, %d)"))
    known = hlo_cost.cost(loop(BELOW_FIVE, ONE_UP, FROM_ZERO))
    assert (unknown.unknown_loops, known.unknown_loops) == (1, 0)
    assert unknown.hbm_bytes == BODY_BYTES + 2 * 4  # and the sum d + d
    assert known.hbm_bytes == 5 * BODY_BYTES


# --- Programs that XLA compiles for this machine -------------------------------------------------------------------


def compiled(function, *shapes) -> hlo_cost.Cost:
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return hlo_cost.cost(jax.jit(function).lower(*arguments).compile().as_text() or "")


def test_a_product_is_two_flops_a_multiply_add():
    assert compiled(lambda a, b: a @ b, (8, 32), (32, 16)).flops == 2 * 8 * 32 * 16


def test_a_product_in_a_scan_counts_as_often_as_it_runs():
    def function(x, w):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=5)[0]

    assert compiled(function, (8, 32), (32, 32)).flops == 5 * 2 * 8 * 32 * 32


def test_scans_within_scans_multiply():
    def function(x, w):
        def inner(c, _):
            return jnp.tanh(c @ w), None

        def outer(c, _):
            return jax.lax.scan(inner, c, None, length=3)[0], None

        return jax.lax.scan(outer, x, None, length=4)[0]

    assert compiled(function, (8, 32), (32, 32)).flops == 12 * 2 * 8 * 32 * 32


def test_batched_products_count_each_matrix():
    cost = compiled(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), (3, 8, 32), (3, 32, 16))
    assert cost.flops == 3 * 2 * 8 * 32 * 16


def test_an_addition_reads_two_arrays_and_writes_one():
    assert compiled(lambda a, b: a + b, (8, 128), (8, 128)).hbm_bytes == 3 * 8 * 128 * 4


def test_without_loops_the_bytes_are_those_that_xla_counts():
    def loss(w, v, x):
        y = jax.nn.gelu(x @ w) @ v
        return jnp.sum(jax.nn.softmax(y - jnp.mean(y, -1, keepdims=True)) ** 2)

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((256, 512), (512, 256), (512, 256))]
    program = jax.jit(jax.grad(loss, (0, 1))).lower(*shapes).compile()
    counted = hlo_cost.cost(program.as_text() or "")
    assert counted.hbm_bytes == pytest.approx((program.cost_analysis() or {})["bytes accessed"], rel=0.01)


# --- Programs for TPUs -----------------------------------------------------------------------------------------------


def line_of(operation: str, *sources: str, others: str = "") -> hlo_cost.Cost:
    """The cost of one instruction over parameters %a, %b, ..."""
    given = [f"%{name} = {shape} parameter({n})" for n, (name, shape) in enumerate(zip("abcd", sources, strict=False))]
    return hlo_cost.cost(entry(*given, f"ROOT {operation}", others=others), heaviest=5)


@pytest.mark.parametrize(
    ("operation", "left", "right", "flops"),
    [
        ("bf16[64,32] convolution(%a, %b), dim_labels=bf_io->bf", "bf16[64,16]", "bf16[16,32]", 2 * 64 * 16 * 32),
        ("f32[16,32] convolution(%a, %b), dim_labels=fb_io->bf", "bf16[64,16]", "bf16[64,32]", 2 * 64 * 16 * 32),
        # q k^T: 4 rows x 3 heads of [8, 16] x [16, 8]; both batch axes are spatial, with holes between their entries.
        (
            "bf16[4,3,8,8] convolution(%a, %b), window={size=4x3 stride=3x2 lhs_dilate=4x3}, "
            "dim_labels=0b1f_0o1i->01bf",
            "bf16[4,8,3,16]",
            "bf16[4,8,3,16]",
            4 * 3 * 2 * 8 * 16 * 8,
        ),
        # The same as a transposed convolution with padding.
        (
            "bf16[4,3,16,8] convolution(%a, %b), window={size=4x3 stride=4x3 pad=3_3x2_2 lhs_dilate=3x2 "
            "rhs_reversal=1x1}, dim_labels=0f1b_01oi->01fb",
            "bf16[4,8,3,8]",
            "bf16[4,3,16,8]",
            4 * 3 * 2 * 8 * 8 * 16,
        ),
    ],
)
def test_products_that_became_convolutions_count_as_products(operation, left, right, flops):
    assert line_of(f"%y = {operation}", left, right).flops == flops


def test_a_convolution_with_padding_counts_only_where_input_is():
    # Length 4, kernel 3, padding 1 on both sides: 4 + 3 + 3 = 10 of the 12 pairs meet an entry.
    operation = "%y = f32[1,4,1] convolution(%a, %b), window={size=3 pad=1_1}, dim_labels=b0f_0io->b0f"
    assert line_of(operation, "f32[1,4,1]", "f32[3,1,1]").flops == 2 * 10


def test_fast_memory_costs_no_traffic():
    vmem = "f32[8,128]{1,0:T(8,128)S(1)}"
    hbm = "f32[8,128]{1,0:T(8,128)}"
    assert line_of(f"%y = {vmem} add(%a, %b)", vmem, hbm).hbm_bytes == 4096
    assert line_of(f"%y = {hbm} add(%a, %b)", vmem, vmem).hbm_bytes == 4096
    assert line_of(f"%s = ({vmem}, {hbm}, u32[]{{:S(2)}}) copy-start(%a)", hbm).hbm_bytes == 4096


def test_of_a_slice_only_the_slice_counts():
    operation = "%y = f32[1,8,128] dynamic-slice(%a, %b, %b, %b), dynamic_slice_sizes={1,8,128}"
    assert line_of(operation, "f32[12,8,128]", "s32[]").hbm_bytes == 2 * 4096 + 4


def test_a_fused_update_writes_the_update_only():
    others = """
%fused (p: f32[12,8,128], q: s32[], r: f32[8,128]) -> f32[12,8,128] {
  %p = f32[12,8,128] parameter(0)
  %q = s32[] parameter(1)
  %r = f32[8,128] parameter(2)
  %z = s32[] constant(0)
  %v = f32[1,8,128] bitcast(%r)
  ROOT %u = f32[12,8,128] dynamic-update-slice(%p, %v, %q, %z, %z)
}"""
    operation = "%y = f32[12,8,128] fusion(%a, %b, %c), kind=kLoop, calls=%fused"
    cost = line_of(operation, "f32[12,8,128]", "s32[]", "f32[8,128]", others=others)
    assert cost.hbm_bytes == 2 * 4096 + 4  # the row is read and written, and its number read


def test_a_stack_that_a_fusion_only_deals_out_in_other_tiles_is_neither_read_nor_written_whole():
    """TPU7x: a copy inside, in place by its aliasing, stands between the stack and the slice of it."""
    wide, tall = "f32[12,8,128]{2,1,0:T(16,128)}", "f32[12,8,128]{2,1,0:T(8,128)}"
    others = f"""
%tiles (s: f32[12,8,128]) -> f32[12,8,128] {{
  %s = {wide} parameter(0)
  ROOT %t = {tall} copy(%s)
}}

%update (p: f32[12,8,128], q: s32[], r: f32[1,8,128]) -> f32[12,8,128] {{
  %p = {wide} parameter(0)
  %q = s32[] parameter(1)
  %r = f32[1,8,128] parameter(2)
  %z = s32[] constant(0)
  %stack = {tall} fusion(%p), kind=kLoop, output_to_operand_aliasing={{{{}}: (0, {{}})}}, calls=%tiles
  ROOT %u = {tall} dynamic-update-slice(%stack, %r, %q, %z, %z)
}}

%slice (p: f32[12,8,128], q: s32[]) -> f32[1,8,128] {{
  %p = {wide} parameter(0)
  %q = s32[] parameter(1)
  %z = s32[] constant(0)
  %stack = {tall} fusion(%p), kind=kLoop, output_to_operand_aliasing={{{{}}: (0, {{}})}}, calls=%tiles
  ROOT %part = f32[1,8,128] dynamic-slice(%stack, %q, %z, %z), dynamic_slice_sizes={{1,8,128}}
}}"""
    update = "%y = f32[12,8,128] fusion(%a, %b, %c), kind=kLoop, calls=%update"
    assert line_of(update, "f32[12,8,128]", "s32[]", "f32[1,8,128]", others=others).hbm_bytes == 2 * 4096 + 4
    part = "%y = f32[1,8,128] fusion(%a, %b), kind=kLoop, calls=%slice"
    assert line_of(part, "f32[12,8,128]", "s32[]", others=others).hbm_bytes == 2 * 4096 + 4
    whole = "%y = f32[12,8,128] fusion(%a), kind=kLoop, calls=%tiles"  # A fusion that is a copy reads and writes all.
    assert line_of(whole, "f32[12,8,128]", others=others).hbm_bytes == 3 * 12 * 4096  # rows of 8 padded to 16, and not


def test_an_operand_that_a_nested_fusion_only_reshapes_is_read():
    """TPU programs wrap the operands of products so; the product reads both matrices whole."""
    others = """
%view (v: bf16[2,32,16]) -> bf16[64,16] {
  %v = bf16[2,32,16] parameter(0)
  ROOT %w = bf16[64,16] bitcast(%v)
}

%fused (p: bf16[2,32,16], q: bf16[16,32]) -> bf16[64,32] {
  %p = bf16[2,32,16] parameter(0)
  %q = bf16[16,32] parameter(1)
  %rows = bf16[64,16] fusion(%p), kind=kLoop, calls=%view
  ROOT %c = bf16[64,32] convolution(%rows, %q), dim_labels=bf_io->bf
}"""
    operation = "%y = bf16[64,32] fusion(%a, %b), kind=kOutput, calls=%fused"
    cost = line_of(operation, "bf16[2,32,16]", "bf16[16,32]", others=others)
    assert cost.hbm_bytes == 2 * (64 * 16 + 16 * 32 + 64 * 32)


def test_collectives_are_counted_by_kind_and_group():
    reduced = "%y = (f32[100], f32[28]) all-reduce(%a, %b), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%sum"
    (found,) = line_of(reduced, "f32[100]", "f32[28]").collectives
    assert found == hlo_cost.Collective("all-reduce", 4, 1, 512)
    gathered = "%y = (f32[16], f32[128]) all-gather-start(%a), replica_groups=[2,8]<=[16], dimensions={0}"
    (found,) = line_of(gathered, "f32[16]").collectives
    assert found == hlo_cost.Collective("all-gather", 8, 1, 512)


def test_a_collective_that_goes_on_beside_others_moves_what_it_moves_alone():
    """The tuple of `-start` repeats the operand."""
    wait = "replica_groups=[2,8]<=[16], dimensions={0}"
    alone = line_of(f"%y = f32[128] all-gather(%a), {wait}", "f32[16]")
    beside = line_of(f"%y = (f32[16], f32[128]) all-gather-start(%a), {wait}", "f32[16]")
    assert alone.hbm_bytes == beside.hbm_bytes == 4 * (16 + 128)
    pairs = "source_target_pairs={{0,1},{1,0}}"
    alone = line_of(f"%y = f32[128] collective-permute(%a), {pairs}", "f32[128]")
    beside = line_of(f"%y = (f32[128], f32[128], u32[], u32[]) collective-permute-start(%a), {pairs}", "f32[128]")
    assert alone.hbm_bytes == beside.hbm_bytes == 2 * 512


def test_what_slices_send_each_other_is_counted_apart():
    sent = (
        "%y = (f32[128], u32[], token[]) send(%a, %b), channel_id=3, is_host_transfer=true, "
        'frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}'
    )
    (found,) = line_of(sent, "f32[128]", "token[]").collectives
    assert (found.kind, found.bytes) == (hlo_cost.BETWEEN_SLICES, 512)


def test_kernels_count_what_they_say_of_themselves():
    call = '%y = f32[8] custom-call(%a), custom_call_target="tpu_custom_call", backend_config={}'
    told = call.replace("={}", '={"custom_call_config":{"cost_estimate":{"flops":1000,"bytes_accessed":64}}}')
    assert line_of(call, "f32[8]").unknown_kernels == 1
    assert (line_of(told, "f32[8]").flops, line_of(told, "f32[8]").unknown_kernels) == (1000, 0)


def test_an_array_whose_parts_a_kernel_takes_apart_is_read_once():
    """Queries, keys and values of the joined product: each program reads its columns of each part, no column twice."""
    lines = [f"%{name} = bf16[2,128,384] bitcast(%a)" for name in ("q", "k", "v")]
    call = "ROOT %y = bf16[2,128,128] custom-call(%q, %k, %v, %b)"
    given = ["%a = bf16[256,384] parameter(0)", "%b = bf16[2,128,128] parameter(1)"]
    text = entry(*given, *lines, f'{call}, custom_call_target="tpu_custom_call", backend_config={{}}')
    assert hlo_cost.cost(text).hbm_bytes == 2 * (2 * 128 * 384 + 2 * 2 * 128 * 128)


def test_the_heaviest_operations_are_named_by_where_they_come_from():
    operation = '%y = f32[8,128] add(%a, %b), metadata={op_name="jit(step)/encoder/add"}'
    assert line_of(operation, "f32[8,128]", "f32[8,128]").heaviest == (("jit(step)/encoder/add", 3 * 4096),)


def test_copies_that_run_beside_the_operations_are_not_among_them():
    vmem, hbm = "f32[8,128]{1,0:T(8,128)S(1)}", "f32[8,128]{1,0:T(8,128)}"
    copied = line_of(f"%s = ({vmem}, {hbm}, u32[]{{:S(2)}}) copy-start(%a)", hbm)
    assert (copied.hbm_bytes, copied.operations) == (4096, ())
    product = line_of("%y = bf16[64,32] convolution(%a, %b), dim_labels=bf_io->bf", "bf16[64,16]", "bf16[16,32]")
    assert product.operations == ((2 * 64 * 16 * 32, 2 * (64 * 16 + 16 * 32 + 64 * 32), 1),)
    assert hlo_cost.cost(loop(BELOW_FIVE, ONE_UP, FROM_ZERO)).operations[0][2] == 5


def test_work_that_is_handed_to_the_sparse_core_counts_once():
    """TPU7x: the tuple of `call-start` repeats its operands, and the collective stands in what it calls."""
    others = """
%called (p: f32[128]) -> f32[128] {
  %p = f32[128] parameter(0)
  ROOT %r = f32[128] all-reduce(%p), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%sum
}"""
    call = (
        "%y = ((f32[128]), f32[128], u32[]{:S(8)}) call-start(%a), "
        'async_execution_thread="sparsecore", to_apply=%called'
    )
    cost = line_of(call, "f32[128]", others=others)
    assert cost.collectives == (hlo_cost.Collective("all-reduce", 8, 1, 512),)
    assert cost.hbm_bytes == 2 * 512
    assert cost.operations == ()  # It goes on beside them.


def test_room_that_is_only_set_aside_moves_nothing():
    assert line_of('%y = f32[12,8,128] custom-call(), custom_call_target="AllocateBuffer"').hbm_bytes == 0
