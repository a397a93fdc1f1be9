"""Products of 8-bit integers as ONNX nodes: dynamic per tensor, dynamic per token, and static.

Weights come from a container; parts that it has as floats are multiplied in f32. Activations are u8, because ONNX
Runtime's products of s8 with s8 are slow on x86 (21 ms where u8 x s8 takes 0.4; 128 x 768 x 3072).

Letters: M rows (all tokens below each other, or one state a text), V vocabulary.
Source: onnx/onnx:docs/Operators.md (DynamicQuantizeLinear, MatMulInteger, QuantizeLinear).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx.inliner import inline_local_functions

from bertlite_jax.config.int8 import Bits
from bertlite_jax.convert.onnx.arithmetic import Arithmetic, Site
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.graph import FLOAT, INT32, Graph, constant, node, nodes, tensor
from bertlite_jax.convert.weights.packed import TWO_OF_A_BYTE, pack
from bertlite_jax.convert.weights.quantized import WORDS, Container, static_step, to_weights, zero_point
from bertlite_jax.model.ops.integer_grid import SMALLEST_STEP, bits_of

DECODE = Site("mlm/decode")
"""The product with the tied word table, which has no kernel of its own."""


class Stored(NamedTuple):
    """Names of a product's int8 weights [In, Out] and their f32 scales [Out] in a graph."""

    weights: str
    scales: str


Product = Callable[[Graph, str, Site, Stored], str]
"""(graph, x, site, weights) -> x times the weights, f32, without the bias."""


def per_tensor(container: Container) -> Arithmetic:
    """One scale and zero point for a whole activation, computed at run time.

    This is the fastest, but the answer for a text depends on its neighbours in the batch and on padding.
    """
    return _arithmetic(container, _per_tensor)


def per_token(container: Container, signed: bool = False) -> Arithmetic:
    """One scale for each token's row and a constant zero point; no row depends on another.

    The row scale is applied outside the integer product. ONNX Runtime's fused product
    (com.microsoft.MatMulIntegerToFloat) has a single activation scale, but the fusion accepts a product of scales of
    any shape: with `Mul(Cast(y), Mul(row scale, weight scale))` it silently uses the first row's scale for all rows.
    So the two scales are never multiplied with each other here.

    Args:
      container: weights.
      signed: s8 activations, for CPUs that multiply s8 x s8 (ARM).
    """
    # Sum is the same as Add, but ONNX Runtime does not fuse it to a BiasGelu, which is slower than Add and Gelu.
    return _arithmetic(container, functools.partial(_per_token, container.model.activation, signed), add="Sum")


def static(container: Container, ranges: Mapping[str, tuple[float, float]]) -> Arithmetic:
    """Ranges that were measured beforehand (`calibrate.ranges`), as pairs of QuantizeLinear and DequantizeLinear.

    ONNX Runtime, OpenVINO and other runtimes recognise the integer product in that pattern.

    Args:
      container: weights.
      ranges: lowest and highest activation by `Site.name`, one for each application of a shared layer.
    """
    # ONNX Runtime would fuse MatMul and Add to a Gemm of floats before it looks for integers; MatMul and Sum it keeps.
    return _arithmetic(container, functools.partial(_static, ranges), add="Sum")


def integer_products(model: onnx.ModelProto) -> int:
    """Products of integers in a graph: MatMulInteger, and MatMul of two dequantised values."""
    made = inline_local_functions(model).graph.node if model.functions else model.graph.node
    dequantized = {name for each in made if each.op_type == "DequantizeLinear" for name in each.output}
    return sum(
        each.op_type == "MatMulInteger" or (each.op_type == "MatMul" and dequantized.issuperset(each.input))
        for each in made
    )


# --- What the three have in common -----------------------------------------------------------------------------------


def _arithmetic(container: Container, product: Product, add: str = "Add") -> Arithmetic:
    plain = functools.cache(lambda: float32(to_weights(container)))

    def dense(graph: Graph, x: str, site: Site) -> str:
        at = site.weight.replace(".", "/")
        if f"{at}/kernel" not in container.integers:
            return plain().dense(graph, x, site)
        bits = bits_of(at, container.bits)
        stored = Stored(
            _integers(graph, f"{site.weight}.kernel", container.integers[f"{at}/kernel"], bits),
            _scales(graph, f"{site.weight}.kernel.scale", container.scales[f"{at}/kernel"]),
        )
        bias = tensor(graph, f"{site.weight}.bias", container.floats[f"{at}/bias"])
        return node(graph, add, product(graph, x, site, stored), bias, name=site.name)

    def rows(graph: Graph, ids: str, path: str) -> str:
        if path not in container.integers:
            return plain().rows(graph, ids, path)
        at = path.replace("/", ".")
        scales = _scales(graph, f"{at}.scale", container.scales[path])
        if path == WORDS and "mlm/bias" in container.floats:
            integers = node(graph, "Gather", _words(graph, container), ids, name=at, axis=1)
            integers = node(graph, "Transpose", integers, name=at, perm=[1, 2, 0])
        else:
            integers = node(graph, "Gather", tensor(graph, at, container.integers[path]), ids, name=at)
        scale = node(graph, "Gather", scales, ids, name=f"{at}.scale")
        scale = node(graph, "Unsqueeze", scale, constant(graph, [-1], np.int64), name=f"{at}.scale")
        return node(graph, "Mul", node(graph, "Cast", integers, name=at, to=FLOAT), scale, name=at)

    def decode(graph: Graph, x: str) -> str:
        if WORDS not in container.integers:
            return plain().decode(graph, x)
        scales = _scales(graph, f"{WORDS.replace('/', '.')}.scale", container.scales[WORDS])
        bias = tensor(graph, "mlm.bias", container.floats["mlm/bias"])
        y = product(graph, x, DECODE, Stored(_words(graph, container), scales))
        return node(graph, add, y, bias, name=DECODE.name)

    return Arithmetic(dense, rows, decode, folded=container.bits == 4)


def _words(graph: Graph, container: Container) -> str:
    """The word table as the tied decoder multiplies with it, [E, V].

    Embeddings gather a few of its columns; if the table were [V, E], runtimes would hold a transposed copy as well.
    """
    name = f"{WORDS.replace('/', '.')}.transposed"
    if name not in graph.initializers:
        tensor(graph, name, np.ascontiguousarray(container.integers[WORDS].T))
    return name


def _integers(graph: Graph, name: str, integers: np.ndarray, bits: Bits) -> str:
    """Int8 weights; those of 4 bits are stored two to a byte.

    Runtimes unpack them once, when they load the file: a table gives the two integers of a byte, and nothing of it
    depends on an input.
    """
    if bits != 4 or integers.size % 2:
        return tensor(graph, name, integers)

    def make() -> tuple[str]:
        places = node(graph, "Cast", tensor(graph, f"{name}.packed", pack(integers)), name=name, to=INT32)
        both = node(graph, "Gather", tensor(graph, "two_of_a_byte", TWO_OF_A_BYTE), places, name=name)
        shape = constant(graph, integers.shape, np.int64)
        return (node(graph, "Reshape", both, shape, name=name),)

    return _once(graph, ("unpacked", name), make)[0]


def _scales(graph: Graph, name: str, scales: np.ndarray) -> str:
    """f32 scales, stored as f16 where that is exact (`quantize_weights` chooses such scales)."""
    half = scales.astype(np.float16)
    if not np.array_equal(half.astype(np.float32), scales):
        return tensor(graph, name, scales)
    return _once(graph, (name,), lambda: (node(graph, "Cast", tensor(graph, name, half), name=name, to=FLOAT),))[0]


def _once(graph: Graph, key: tuple[str, ...], make: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    """Values that several products share (query, key and value read one x), made on the first request."""
    if (*key, "number") not in graph.memo:
        values = make()
        graph.memo |= {(*key, "number"): str(len(values))} | {(*key, str(i)): value for i, value in enumerate(values)}
    return tuple(graph.memo[*key, str(i)] for i in range(int(graph.memo[*key, "number"])))


def _multiplied(graph: Graph, quantized: str, zero: str, site: Site, stored: Stored) -> str:
    """The integer product as f32 numbers, without scales."""
    product = node(graph, "MatMulInteger", quantized, stored.weights, zero, name=site.name)
    return node(graph, "Cast", product, name=site.name, to=FLOAT)


# --- The three -------------------------------------------------------------------------------------------------------


def _per_tensor(graph: Graph, x: str, site: Site, stored: Stored) -> str:
    quantized, scale, zero = _once(
        graph, ("per tensor", x), lambda: nodes(graph, "DynamicQuantizeLinear", x, outputs=3, name=site.name)
    )
    y = _multiplied(graph, quantized, zero, site, stored)
    return node(graph, "Mul", y, node(graph, "Mul", scale, stored.scales, name=f"{site.name}.scale"), name=site.name)


def _per_token(activation: str, signed: bool, graph: Graph, x: str, site: Site, stored: Stored) -> str:
    zero = zero_point(site.path, activation)
    kind, shift = (np.int8, -128) if signed else (np.uint8, 0)
    zero_name = constant(graph, zero + shift, kind)

    def make() -> tuple[str, str, str]:
        # QuantizeLinear with a step for each row is one pass over x; dividing by the steps first would be two.
        steps = _row_steps(graph, x, zero, site.name)
        count = node(graph, "Shape", steps, name=site.name)
        zeros = node(graph, "Expand", zero_name, count, name=site.name)
        quantized = node(graph, "QuantizeLinear", x, steps, zeros, name=site.name, axis=0)
        column = node(graph, "Unsqueeze", steps, constant(graph, [1], np.int64), name=site.name)
        always = node(graph, "GreaterOrEqual", count, constant(graph, 0, np.int64), name=site.name)
        return quantized, column, node(graph, "Cast", always, name=f"{site.name}.one", to=FLOAT)

    quantized, column, one = _once(graph, ("per token", x, zero_name), make)
    y = _multiplied(graph, quantized, zero_name, site, stored)
    # ONNX Runtime fuses product, Cast and scales to one operator if the scales are themselves a product that is neither
    # constant nor shared with another application of the layer. Hence the factor 1.0, which it cannot fold away.
    scales = node(graph, "Mul", one, stored.scales, name=f"{site.name}.scale")
    return node(graph, "Mul", node(graph, "Mul", y, scales, name=site.name), column, name=site.name)


def _row_steps(graph: Graph, x: str, zero: int, name: str) -> str:
    """The size [M] of a step for each row of x [M, In]: the smallest for which nothing is clipped."""
    smallest = constant(graph, SMALLEST_STEP)
    highest = node(graph, "ReduceMax", x, name=name, axes=[1], keepdims=0)
    highest = node(graph, "Mul", highest, constant(graph, 1 / (255 - zero)), name=name)
    if zero == 0:
        return node(graph, "Max", highest, smallest, name=name)
    lowest = node(graph, "ReduceMin", x, name=name, axes=[1], keepdims=0)
    lowest = node(graph, "Mul", lowest, constant(graph, -1 / zero), name=name)
    return node(graph, "Max", highest, lowest, smallest, name=name)


def _static(ranges: Mapping[str, tuple[float, float]], graph: Graph, x: str, site: Site, stored: Stored) -> str:
    low, high = ranges[site.name]
    scale, zero = static_step(low, high)
    step = constant(graph, scale), constant(graph, zero, np.uint8)

    def make() -> tuple[str]:
        quantized = node(graph, "QuantizeLinear", x, *step, name=site.name)
        return (node(graph, "DequantizeLinear", quantized, *step, name=site.name),)

    (rounded,) = _once(graph, ("static", x, *step), make)
    weights = node(graph, "DequantizeLinear", stored.weights, stored.scales, name=f"{site.name}.kernel", axis=1)
    return node(graph, "MatMul", rounded, weights, name=site.name)
