"""Transformers in PyTorch, eager, in float32 and bfloat16."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

import numpy as np

from bertlite_jax.convert.huggingface.folder import WEIGHTS, to_hf
from bertlite_jax.convert.weights.folder import Weights, read_json, read_safetensors
from bertlite_jax.host.whole_files import write_json
from bertlite_jax.jobs.benchmarks.runtimes.process import Answer, Batch, Load
from bertlite_jax.jobs.benchmarks.runtimes.runtime import Task, answer_of, task_of


def _hf_folder(source: Weights, folder: pathlib.Path) -> pathlib.Path:
    hf = folder / "transformers"
    if not hf.is_dir():
        # Without the tokenizer, which is part of neither the time nor the size.
        to_hf(dataclasses.replace(source, tokenizer=None), hf)
    return hf


def float32(source: Weights, folder: pathlib.Path, texts: list[Batch]) -> tuple[pathlib.Path, Load]:
    """Writes the model as `to_hf` does. See `Runtime.prepare`."""
    hf = _hf_folder(source, folder)
    return hf / WEIGHTS, functools.partial(load, str(hf), task_of(source))


def bfloat16(source: Weights, folder: pathlib.Path, texts: list[Batch]) -> tuple[pathlib.Path, Load]:
    """Stores the tensors as bfloat16, as `model.to(torch.bfloat16).save_pretrained` does. See `Runtime.prepare`."""
    import ml_dtypes
    import safetensors.numpy

    hf, narrow = _hf_folder(source, folder), folder / "transformers-bfloat16"
    if not narrow.is_dir():
        narrow.mkdir()
        tensors = {
            name: value.astype(ml_dtypes.bfloat16) if value.dtype == np.float32 else value
            for name, value in read_safetensors(hf / WEIGHTS).items()
        }
        safetensors.numpy.save_file(tensors, narrow / WEIGHTS, metadata={"format": "pt"})
        write_json(narrow / "config.json", read_json(hf / "config.json") | {"dtype": "bfloat16"})
    return narrow / WEIGHTS, functools.partial(load, str(narrow), task_of(source))


def load(folder: str, task: Task, threads: int) -> Answer:
    """Loads the class of transformers for the task, eager, in the dtype that config.json states."""
    import inspect

    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    classes = {
        "classify": transformers.AutoModelForSequenceClassification,
        "choose": transformers.AutoModelForMultipleChoice,
        "tag": transformers.AutoModelForTokenClassification,
        "span": transformers.AutoModelForQuestionAnswering,
        "fill-mask": transformers.AutoModelForMaskedLM,
        "states": transformers.AutoModel,
    }
    model = classes[task].from_pretrained(folder).eval()
    inputs = inspect.signature(model.forward).parameters

    def answer(batch: Batch) -> np.ndarray:
        with torch.inference_mode():
            output = model(**{name: torch.from_numpy(value) for name, value in batch.items() if name in inputs})
            arrays = {name: value.float().numpy() for name, value in output.items() if torch.is_tensor(value)}
        return answer_of(task, arrays)

    return answer
