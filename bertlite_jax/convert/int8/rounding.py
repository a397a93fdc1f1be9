"""Weights rounded so that their products with a text's activations change least, at unchanged size.

The inputs that are rounded later compensate the rounding error of the earlier ones.

Source: Frantar et al. 2023 (arXiv 2210.17323, GPTQ), section 3.2 and algorithm 1, without its blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from onnx import helper

from bertlite_jax.config.int8 import Bits
from bertlite_jax.convert.int8 import measuring_text
from bertlite_jax.convert.int8.measuring_text import Batch
from bertlite_jax.convert.onnx.arithmetic import Arithmetic, Site
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.graph import FLOAT, Graph, node
from bertlite_jax.convert.onnx.model import Output, build_onnx
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.convert.weights.quantized import Container
from bertlite_jax.model.ops.integer_grid import bits_of, range_of

_DAMPING = 0.01
"""Share of the mean diagonal that is added to it: directions absent from the text then keep ordinary rounding."""


def fit(weights: Weights, container: Container, batches: Sequence[Batch], output: Output = "auto") -> Container:
    """The container with new integers in its kernels; scales and everything else stay.

    A shared kernel is fitted to the activations of all its applications. A small model takes a second and BERT-base
    minutes, most of them in the kernels with the most inputs.

    Args:
      weights: what `container` was made from.
      container: quantised by `quantized.quantize`.
      batches: of text.
      output: as for `build_onnx`; kernels that it does not use stay as they are.
    """
    flat = quantized.unstack(parameters.exported(weights.params, weights.model))
    chosen = dict(container.integers)
    for path, gram in _grams(weights, batches, output).items():
        if path in chosen:
            chosen[path] = fit_kernel(flat[path], container.scales[path], gram, bits_of(path, container.bits))
    return dataclasses.replace(container, integers=chosen)


def fit_kernel(kernel: np.ndarray, scale: np.ndarray, gram: np.ndarray, bits: Bits) -> np.ndarray:
    """Integers that make x times (kernel - integers * scale) small over the rows x behind the Gram matrix.

    Args:
      kernel: [In, Out] float.
      scale: [Out] f32.
      gram: [In, In], the sum of the outer products of activations with themselves.
      bits: of the integers, as of `Bits`.

    Returns:
      int8 [In, Out].
    """
    count = len(kernel)
    damped = gram + np.eye(count) * (_DAMPING * np.mean(np.diag(gram)) + np.finfo(np.float64).tiny)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    left = kernel.astype(np.float64).copy()
    integers = np.zeros(kernel.shape, np.int8)
    for i in range(count):
        low, high = (np.full(left.shape[1], end) for end in range_of(bits))
        if bits == 7 and i % 2:
            before = integers[i - 1].astype(int)
            low = np.where(before < 0, np.maximum(low, -128 - before), low)
            high = np.where(before > 0, np.minimum(high, 128 - before), high)
        integers[i] = np.clip(np.rint(left[i] / scale), low, high)
        left[i + 1 :] -= np.outer(upper[i, i + 1 :], (left[i] - integers[i] * scale.astype(np.float64)) / upper[i, i])
    return integers


def _grams(weights: Weights, batches: Sequence[Batch], output: Output) -> dict[str, np.ndarray]:
    """Gram matrix [In, In] of every stored kernel's input over the real tokens, by stored name."""
    scored = measuring_text.scored_output(weights, output)
    inputs: list[tuple[str, str]] = []
    plain = float32(weights)

    def dense(graph: Graph, x: str, site: Site) -> str:
        kernel = f"{site.weight.replace('.', '/')}/kernel"
        inputs.append((kernel, node(graph, "Identity", x, name=f"watched.{site.name}")))
        return plain.dense(graph, x, site)

    model = build_onnx(weights, Arithmetic(dense, plain.rows, plain.decode), output)
    model.graph.output.extend([helper.make_tensor_value_info(value, FLOAT, None) for _, value in inputs])
    session = open_session(model.SerializeToString())
    grams: dict[str, np.ndarray] = {}
    for batch in batches:
        outputs = run_session(session, measuring_text.as_read(batch, scored))
        real = batch["attention_mask"].reshape(-1) > 0
        for path, value in inputs:
            x = outputs[value][real] if len(outputs[value]) == len(real) else outputs[value]
            grams[path] = grams.get(path, 0.0) + x.T.astype(np.float64) @ x
    return grams
