"""Who answers in `bertlite bench infer`: which files each wants, and how it is loaded.

Packages are imported inside the functions, most of them in the contender's own process (`inference_peer`).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import logging
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert.huggingface.folder import WEIGHTS, to_hf
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import FILE, Weights, load_weights, read_json, read_safetensors, save_weights
from bertlite_jax.errors import UserError, fields_close_to
from bertlite_jax.host.whole_files import write_json
from bertlite_jax.jobs.benchmarks.runtime_process import Answer, Batch, Load

Task = Literal["classify", "choose", "tag", "span", "fill-mask", "states"]
"""What is answered: a head's outputs, the masked-LM logits of a pretrained model, or the last states of an encoder."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """Somebody who answers.

    Attributes:
      name: as `--only` takes it.
      about: what it is, in a few words.
      packages: that it needs besides our own.
      prepare: (weights, folder, texts) -> the file that is stored on a disk to deploy it, and how to load it. `texts`
        are batches to calibrate with. A file that is in the folder already is not written again.
    """

    name: str
    about: str
    packages: tuple[str, ...]
    prepare: Callable[[Weights, pathlib.Path, list[Batch]], tuple[pathlib.Path, Load]]


def task_of(source: Weights) -> Task:
    """What a model answers."""
    if source.head:
        return source.head.kind
    return "fill-mask" if "mlm" in source.params else "states"


def choose(
    only: Sequence[str] = (), auto_is_float32: bool = False, task: Task = "classify"
) -> tuple[list[Contender], list[str]]:
    """The contenders that take part, and a line for each that cannot.

    Args:
      only: names; none: all.
      auto_is_float32: whether the model's own arithmetic is float32 on this machine, so that jax-auto is jax-f32.
      task: what is answered.

    Raises:
      UserError: an unknown name.
    """
    known = {contender.name: contender for contender in ALL}
    for name in only:
        if name not in known:
            raise UserError(f"bench: --only {name} is no contender; {fields_close_to(name, list(known))}")
    chosen, skipped = [], []
    for contender in ALL:
        if only and contender.name not in only:
            continue
        missing = [package for package in contender.packages if importlib.util.find_spec(package) is None]
        if missing:
            skipped.append(f"{contender.name} is left out: pip install {' '.join(missing)}")
        elif contender.name == "jax-auto" and auto_is_float32:
            skipped.append("jax-auto is left out: on this machine it is jax-f32")
        elif contender.name == STOCK and task == "fill-mask":
            skipped.append(
                f"{STOCK} is left out: quantize_dynamic transposes the table of the decoder, which is that of the "
                "embeddings too, and ONNX Runtime cannot load its file"
            )
        else:
            chosen.append(contender)
    return chosen, skipped


# --- PyTorch ---------------------------------------------------------------------------------------------------------


def _hf_folder(source: Weights, folder: pathlib.Path) -> pathlib.Path:
    place = folder / "transformers"
    if not place.is_dir():
        # A tokenizer is no part of what is timed, nor of a model's size.
        to_hf(dataclasses.replace(source, tokenizer=None), place)
    return place


def _torch_float32(source: Weights, folder: pathlib.Path, texts: list[Batch]) -> tuple[pathlib.Path, Load]:
    place = _hf_folder(source, folder)
    return place / WEIGHTS, functools.partial(load_torch, str(place), task_of(source))


def _torch_bfloat16(source: Weights, folder: pathlib.Path, texts: list[Batch]) -> tuple[pathlib.Path, Load]:
    """The same folder with tensors stored as bfloat16, as `model.to(torch.bfloat16).save_pretrained` writes them."""
    import ml_dtypes
    import safetensors.numpy

    wide, place = _hf_folder(source, folder), folder / "transformers-bfloat16"
    if not place.is_dir():
        place.mkdir()
        tensors = read_safetensors(wide / WEIGHTS)
        tensors = {
            name: value.astype(ml_dtypes.bfloat16) if value.dtype == np.float32 else value
            for name, value in tensors.items()
        }
        safetensors.numpy.save_file(tensors, place / WEIGHTS, metadata={"format": "pt"})
        write_json(place / "config.json", read_json(wide / "config.json") | {"dtype": "bfloat16"})
    return place / WEIGHTS, functools.partial(load_torch, str(place), task_of(source))


def load_torch(folder: str, task: Task, threads: int) -> Answer:
    """The class of transformers for the task, eager, in the dtype that config.json states."""
    import inspect

    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    kinds = {
        "classify": transformers.AutoModelForSequenceClassification,
        "choose": transformers.AutoModelForMultipleChoice,
        "tag": transformers.AutoModelForTokenClassification,
        "span": transformers.AutoModelForQuestionAnswering,
        "fill-mask": transformers.AutoModelForMaskedLM,
        "states": transformers.AutoModel,
    }
    model = kinds[task].from_pretrained(folder).eval()
    known = inspect.signature(model.forward).parameters

    def answer(batch: Batch) -> np.ndarray:
        with torch.inference_mode():
            out = model(**{name: torch.from_numpy(value) for name, value in batch.items() if name in known})
            given = {name: value.float().numpy() for name, value in out.items() if torch.is_tensor(value)}
        return _answer_of(task, given)

    return answer


# --- ONNX Runtime and OpenVINO ---------------------------------------------------------------------------------------


def _onnx(kind: str, runtime: Callable[..., Answer]) -> Callable[..., tuple[pathlib.Path, Load]]:
    """`prepare` of a contender that runs the ONNX file of that kind."""

    def prepare(source: Weights, folder: pathlib.Path, texts: list[Batch]) -> tuple[pathlib.Path, Load]:
        place = folder / f"{kind}.onnx"
        if not place.is_file():
            WRITERS[kind](source, folder, texts, place)
        return place, functools.partial(runtime, str(place), task_of(source))

    return prepare


def _output(source: Weights) -> Any:
    """What `build_onnx` calls the task."""
    task = task_of(source)
    return task if task in ("fill-mask", "states") else "auto"


def _write_float32(source: Weights, folder: pathlib.Path, texts: list[Batch], place: pathlib.Path) -> None:
    from bertlite_jax.convert.onnx.float32 import float32
    from bertlite_jax.convert.onnx.graph import save_onnx
    from bertlite_jax.convert.onnx.model import build_onnx

    save_onnx(build_onnx(source, float32(source), _output(source)), place)


def _write_integer(kind: str) -> Callable[[Weights, pathlib.Path, list[Batch], pathlib.Path], None]:
    def write(source: Weights, folder: pathlib.Path, texts: list[Batch], place: pathlib.Path) -> None:
        from bertlite_jax.convert.int8 import calibrate
        from bertlite_jax.convert.onnx import integer
        from bertlite_jax.convert.onnx.graph import save_onnx
        from bertlite_jax.convert.onnx.model import build_onnx
        from bertlite_jax.convert.weights import quantized

        container = quantized.quantize(source)
        if kind == "static":
            arithmetic = integer.static(container, calibrate.ranges(source, texts, output=_output(source)))
        else:
            arithmetic = {"tensor": integer.per_tensor, "token": integer.per_token}[kind](container)
        save_onnx(build_onnx(quantized.to_weights(container), arithmetic, _output(source)), place)

    return write


def _write_stock(source: Weights, folder: pathlib.Path, texts: list[Batch], place: pathlib.Path) -> None:
    """What ONNX Runtime's own tool makes of our float32 file, with its defaults."""
    from onnxruntime.quantization import quantize_dynamic

    wide, _ = _onnx("float32", load_onnxruntime)(source, folder, texts)
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # It advises a pass over the graph first; these are its defaults.
    try:
        quantize_dynamic(str(wide), str(place))
    finally:
        logging.disable(before)


WRITERS: dict[str, Callable[[Weights, pathlib.Path, list[Batch], pathlib.Path], None]] = {
    "float32": _write_float32,
    "tensor": _write_integer("tensor"),
    "token": _write_integer("token"),
    "static": _write_integer("static"),
    "stock": _write_stock,
}


def load_onnxruntime(path: str, task: Task, threads: int) -> Answer:
    """A session whose threads do not spin while they wait, as in a process that has other work."""
    from bertlite_jax.convert.onnx.session import open_session

    session = open_session(path, threads=threads)
    inputs = {value.name for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]

    def answer(batch: Batch) -> np.ndarray:
        given = session.run(outputs, {name: value for name, value in batch.items() if name in inputs})
        return _answer_of(task, dict(zip(outputs, given, strict=True)))

    return answer


def load_openvino(path: str, task: Task, threads: int) -> Answer:
    """OpenVINO as it comes: bfloat16 products where the CPU has AMX."""
    import openvino  # pyright: ignore[reportMissingImports]

    core = openvino.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(path, "CPU", settings)
    inputs = {value.get_any_name() for value in compiled.inputs}
    outputs = [value.get_any_name() for value in compiled.outputs]

    def answer(batch: Batch) -> np.ndarray:
        given = compiled({name: value for name, value in batch.items() if name in inputs})
        return _answer_of(task, {name: given[name] for name in outputs})

    return answer


# --- JAX -------------------------------------------------------------------------------------------------------------


def _jax(compute: Literal["auto", "float32"]) -> Callable[..., tuple[pathlib.Path, Load]]:
    def prepare(source: Weights, folder: pathlib.Path, texts: list[Batch]) -> tuple[pathlib.Path, Load]:
        place = folder / "ours"
        if not place.is_dir():
            save_weights(dataclasses.replace(source, tokenizer=None), place)
        return place / FILE, functools.partial(load_jax, str(place), task_of(source), compute)

    return prepare


def load_jax(folder: str, task: Task, compute: Literal["auto", "float32"], threads: int) -> Answer:
    """Our model, compiled once for each shape of a batch."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # Before jax is imported. Everybody here answers on the CPU.
    import jax

    from bertlite_jax.model.ops import choose_precision

    source = load_weights(pathlib.Path(folder))
    apply = _applied(source, task, choose_precision.resolve(compute, "cpu"))
    params = jax.device_put(source.params)
    run = jax.jit(apply)
    return lambda batch: np.asarray(run(params, _inputs(batch)))


def _jax_integer(source: Weights, folder: pathlib.Path, texts: list[Batch]) -> tuple[pathlib.Path, Load]:
    from bertlite_jax.convert.weights import quantized

    place = folder / quantized.FILE
    if not place.is_file():
        quantized.save(quantized.quantize(source), place)
    return place, functools.partial(load_jax_integer, str(place), task_of(source))


def load_jax_integer(path: str, task: Task, threads: int) -> Answer:
    """Our forward pass in integers, compiled once for each shape of a batch."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    from bertlite_jax.convert.weights import quantized
    from bertlite_jax.model import int8_encoder

    container = quantized.load(path)
    params = jax.device_put(quantized.jax_params(container))

    @jax.jit
    def run(params: Any, inputs: tuple[Any, ...]) -> Any:
        tokens, mask, _, types = inputs
        given = int8_encoder.answer(params, container.model, container.head, tokens, mask, types)
        if task == "states":
            return given["last_hidden_state"]
        logits = given["logits"]
        if task == "choose":
            return logits.reshape(-1, CHOICES)
        return logits.swapaxes(1, 2) if task == "span" else logits

    return lambda batch: np.asarray(run(params, _inputs(batch)))


def _inputs(batch: Batch) -> tuple[np.ndarray, ...]:
    """Tokens, segments, positions and token types, [B, L] int32; every choice is a row."""
    tokens, mask, types = (
        batch[name].reshape(-1, batch[name].shape[-1]).astype(np.int32)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    positions = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    return tokens, mask, positions, types


def _applied(source: Weights, task: Task, compute: Any) -> Callable[..., Any]:
    """`apply(params, inputs) -> answer` of the task."""
    import jax.numpy as jnp

    from bertlite_jax.model.encoder import Encoder
    from bertlite_jax.model.heads import PretrainingModel
    from bertlite_jax.model.task_heads import TaskModel

    def apply(params: Any, inputs: tuple[Any, ...]) -> Any:
        tokens, _, positions, _ = inputs
        first = jnp.zeros((len(tokens), 1), jnp.int32)
        if source.head:
            logits = TaskModel(source.model, source.head, compute).apply({"params": params}, *inputs, first)
            return _shaped(logits, source.head)
        if task == "states":
            encoder = {name: value for name, value in params.items() if name not in parameters.OPTIONAL_PARTS}
            return jnp.asarray(Encoder(source.model, compute).apply({"params": encoder}, *inputs), jnp.float32)
        model = dataclasses.replace(source.model, pair_classes=0, pooler=False)
        params = {name: value for name, value in params.items() if name not in ("pair", "pooler")}
        logits: Any = PretrainingModel(model, compute).apply({"params": params}, *inputs, first, positions)
        return logits[0][..., : model.vocab_size]

    return apply


def _shaped(logits: Any, head: Head) -> Any:
    """`TaskModel`'s logits as `Answer` wants them."""
    if head.kind == "classify":
        return logits[:, 0]
    if head.kind == "choose":
        return logits.reshape(-1, CHOICES)
    return logits.swapaxes(1, 2) if head.kind == "span" else logits


# --- Answers ---------------------------------------------------------------------------------------------------------

CHOICES = 2
"""Texts that a head of the kind `choose` is given."""


def _answer_of(task: Task, given: Mapping[str, Any]) -> np.ndarray:
    """The array that counts among a runtime's outputs: [B, C], for spans [B, 2, L], else [B, L, C]."""
    if task == "span":
        return np.stack([given["start_logits"], given["end_logits"]], axis=1)
    return given["last_hidden_state" if task == "states" else "logits"]


# --- Everybody -------------------------------------------------------------------------------------------------------

_ORT = ("onnx", "onnxruntime")
_VINO = (*_ORT, "openvino")

STOCK = "onnx-int8-stock"

ALL: tuple[Contender, ...] = (
    Contender("torch-f32", "PyTorch float32", ("torch", "transformers"), _torch_float32),
    Contender("torch-bf16", "PyTorch bfloat16", ("torch", "transformers"), _torch_bfloat16),
    Contender("onnx-f32", "ONNX Runtime float32", _ORT, _onnx("float32", load_onnxruntime)),
    Contender("onnx-int8-tensor", "INT8, a scale a tensor", _ORT, _onnx("tensor", load_onnxruntime)),
    Contender("onnx-int8-token", "INT8, a scale a token", _ORT, _onnx("token", load_onnxruntime)),
    Contender("onnx-int8-static", "INT8, measured ranges", _ORT, _onnx("static", load_onnxruntime)),
    Contender(STOCK, "ORT's quantize_dynamic", _ORT, _onnx("stock", load_onnxruntime)),
    Contender("openvino", "OpenVINO, float32 file", _VINO, _onnx("float32", load_openvino)),
    Contender("openvino-int8", "OpenVINO, that static file", _VINO, _onnx("static", load_openvino)),
    Contender("jax-f32", "JAX float32", (), _jax("float32")),
    Contender("jax-auto", "JAX bfloat16 products", (), _jax("auto")),
    Contender("jax-int8", "JAX INT8, a scale a token", (), _jax_integer),
)
"""In the order of the tables. The first that takes part is what the others are compared with."""
