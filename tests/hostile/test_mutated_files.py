"""Files of weights, JSON and records with random damage: read, or refused in one line; never another error.

Each case is a seed. Where one finds a fault, it stays in `FOUND` and is run each time.
"""

import pathlib
import random
import shutil
from collections.abc import Callable

import numpy as np
import pytest

from bertlite_jax.config import files
from bertlite_jax.convert.huggingface import weight_files
from bertlite_jax.convert.weights.folder import load_weights
from bertlite_jax.data.corpus import folder, records
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host import retry
from bertlite_jax.report.run import metrics

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden/0.1.0"
SEEDS = 400
FOUND: dict[str, tuple[int, ...]] = {"corpus.json": (127,)}
"""Seeds that once ended in another error, by reader."""


def mutated(content: bytes, seed: int) -> bytes:
    """One to four changes: flipped bits, other bytes, cuts, repetitions, large numbers. The same for the same seed."""
    draw = random.Random(seed)
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        # Half of all changes hit the first kilobyte, where headers lie.
        at = draw.randrange(min(len(data), 1024) if draw.random() < 0.5 else len(data)) if data else 0
        kind = draw.randrange(7)
        if kind == 0 and data:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at : at + 4] = draw.randbytes(4)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + draw.randrange(1, 64)]
        elif kind == 4:
            data[at:at] = data[at : at + draw.randrange(1, 64)]
        elif kind == 5:
            data[at : at + 8] = draw.choice([b"\xff" * 8, bytes(8), (2**62).to_bytes(8, "little"), b"\x7f" * 8])
        else:
            data[at:at] = draw.choice(
                [b"[" * 3000, b"9" * 5000, b'"', b"{", b"}", b"\\ud800", b"null", b"-1", b"1e999"]
            )
    return bytes(data)


def _read_corpus(place: pathlib.Path) -> None:
    meta = folder.read_meta(str(place))
    opened = records.open_records(str(place), "validation", meta["vocab_size"])
    count = int(opened.starts[-1])
    records.read_windows(opened, np.arange(min(count, 50)))


def _read_records(place: pathlib.Path) -> None:
    opened = records.open_records(str(place), "validation", 300)
    records.read_windows(opened, np.arange(min(int(opened.starts[-1]), 50)))


READERS: dict[str, tuple[str, str, Callable[[pathlib.Path], object]]] = {
    "weights of ours": ("finetuned/best", "params.safetensors", load_weights),
    "weights of transformers": ("hf", "model.safetensors", weight_files.read_tensors),
    "config of weights": ("finetuned/best", "config.json", load_weights),
    "config of a run": ("pretrained", "config.json", lambda place: files.read_json(place / "config.json")),
    "metrics": ("pretrained", "metrics.jsonl", lambda place: metrics.read_lines(place / "metrics.jsonl")),
    "corpus.json": ("corpus", "corpus.json", _read_corpus),
    "records": ("corpus", "corpus-validation.array_record-00000", _read_records),
    "lengths": (
        "corpus",
        "validation.lengths.npy",
        lambda at: folder.read_array(at / "validation.lengths.npy", 2),
    ),
    "tokenizer": ("tokenizer", "bertlite_tokenizer.json", load_tokenizer),
}
"""Reader: the folder, the file that is damaged, and what reads it."""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads that fail are tried again, as on a network disk; here at once."""
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(retry, "ATTEMPTS", 2)


def check(reader: str, seed: int, tmp_path: pathlib.Path) -> None:
    name, file, read = READERS[reader]
    place = tmp_path / "place"
    if not place.exists():
        shutil.copytree(GOLDEN / name, place, ignore=shutil.ignore_patterns("checkpoints"))
    (place / file).write_bytes(mutated((GOLDEN / name / file).read_bytes(), seed))
    problem = ""
    try:
        read(place)
    except UserError as error:
        problem = "of several lines" if "\n" in str(error) else ""
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    assert not problem, f"{reader}, seed {seed}: {problem}"


@pytest.mark.parametrize("reader", READERS)
def test_what_was_found_once_stays_mended(reader, tmp_path):
    for seed in (*FOUND.get(reader, ()), *range(5)):
        check(reader, seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_random_damage_is_refused_in_one_line(reader, tmp_path):
    for seed in range(SEEDS):
        check(reader, seed, tmp_path)
