"""What `make.py` asks of the fixtures when they are new, and `test_golden.py` ever after, both in the fixtures' folder.

By commands and files wherever there is a command, since those are what a release promises.
"""

import contextlib
import io
import json
import pathlib

import numpy as np
import onnxruntime
import tokenizers

from bertlite_jax.cli.main import main
from bertlite_jax.config import Data
from bertlite_jax.data.rows import batches, source

HERE = pathlib.Path(__file__).resolve().parent
CORPUS = ("corpus", "text.txt", "--length", "64", "--validation-fraction", "0.1", "--language", "en", "--workers", "1")
STEPS = (0, 1, 2, 30)
"""Whose batches are kept. The last one lies in the second pass over the corpus."""


def bertlite(*arguments: str) -> str:
    """Runs a command in this process, which has to succeed. Returns what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(arguments)
    assert code == 0, f"bertlite {' '.join(arguments)} left with {code}"
    return printed.getvalue()


def rows(corpus: str, tokenizer: str) -> dict[str, np.ndarray]:
    """Training batches of 8 rows at `STEPS`, counted from 0, and validation rows, as `train/0/tokens` [8, 64]."""
    data = Data(corpus=(corpus,), tokenizer=tokenizer, length=64, batch_rows=8, windows_per_row=4)
    opened = source.open_source(data, "train", seed=0)
    held_out = source.open_source(data, "validation", seed=0)
    found = {f"train/{step}": batches.batch_at(opened, step + 1, data.batch_rows) for step in STEPS}
    found |= {f"validation/{number}": batch for number, batch in enumerate(batches.evaluation_rows(held_out, 0, 8))}
    return {f"{which}/{name}": array for which, batch in found.items() for name, array in batch.items()}


def states(model: str) -> np.ndarray:
    """Means over the tokens of each text, of the embeddings and of both layers: [texts, 3 x 24] float32."""
    asked = ("--input", "texts.txt", "--pool", "mean", "--layers", "0,1,2", "--compute", "float32")
    bertlite("embed", model, "--out", "states.npy", "--overwrite", *asked)
    found = np.load("states.npy")
    pathlib.Path("states.npy").unlink()
    return found


def answers(model: str) -> list[dict]:
    """Of each text its label and the probabilities."""
    return [json.loads(line) for line in bertlite("predict", model, "--input", "texts.txt").splitlines()]


def runtime_logits(folder: str) -> np.ndarray:
    """What ONNX Runtime gives for the texts, with nothing but the files of an INT8 folder: [texts, labels] float32."""
    reader = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
    reader.enable_padding()
    texts = reader.encode_batch(pathlib.Path("texts.txt").read_text(encoding="utf-8").splitlines())
    ids = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    batch = {name: np.array([getattr(text, field) for text in texts], np.int64) for name, field in ids.items()}
    session = onnxruntime.InferenceSession(f"{folder}/onnx/model_quantized.onnx", providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, batch)[0])
