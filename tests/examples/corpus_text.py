"""Text of random words, corpora made of it, and what stands in them."""

import hashlib
import pathlib
import random

from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.data.corpus import splits
from bertlite_jax.data.corpus.folder import read_meta
from bertlite_jax.data.text import sentences
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.jobs.text.corpus import build_corpus

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def some_text(documents: int, seed: int = 0) -> list[str]:
    """Documents of one to thirty sentences in paragraphs of a few, all different."""
    draw = random.Random(seed)
    made = []
    for _ in range(documents):
        lines = []
        for _ in range(draw.randint(1, 6)):
            line = []
            for _ in range(draw.randint(1, 5)):
                words = ["".join(draw.choices(LETTERS, k=draw.randint(4, 7))) for _ in range(draw.randint(2, 15))]
                line.append(" ".join(["The", *words]) + ".")
            lines.append(" ".join(line))
        made.append("\n".join(lines))
    return made


def build_text(tmp_path, vocabulary, text: list[str], name: str = "out", **options) -> tuple[str, dict]:
    path, out = tmp_path / f"{name}.txt", str(tmp_path / name)
    path.write_text("\n\n".join(text), encoding="utf-8")
    return out, build_corpus([str(path)], vocabulary.folder, out, CorpusOptions(**options), workers=1)


def digests(folder: str) -> dict[str, str]:
    """Of every file but the one that holds the time."""
    paths = [path for path in pathlib.Path(folder).iterdir() if path.name != "build.json"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def records(folder: str, split: str) -> list[dict]:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    return list(builder.as_data_source(split))  # pyright: ignore[reportCallIssue]  # Its decorator has no types.


def split_of_documents(folder: str, text: list[str], vocabulary: Tokenizer) -> dict[str, str]:
    """Which split holds each of the texts, found by their tokens."""
    known = {b"".join(vocabulary.encode(one).astype("<u2").tobytes() for one in lines_of(t)): t for t in text}
    found = {}
    for split in splits.SPLITS:
        if read_meta(folder)["splits"][split]["windows"]:
            whole: dict[int, bytes] = {}
            for record in records(folder, split):
                whole[int(record["document"])] = whole.get(int(record["document"]), b"") + record["tokens"]
            found |= {known[tokens]: split for tokens in whole.values()}
    return found


def lines_of(document: str) -> list[str]:
    return sentences.split_document(document.split("\n"))
