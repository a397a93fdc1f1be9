"""Makes a generation of fixtures: one of everything that a release reads back, by the code as it is now.

    python tests/golden/make.py FOLDER

Each command is one that a user types, in FOLDER, with relative names. README.md says when to run this.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import asking
import numpy as np
import zstandard

ROOT = asking.HERE.parents[1]
NOVEL = ROOT / "bertlite_jax/quickstart_text/alice_in_wonderland.txt.zst"
LOST = {"pretrained": 30, "finetuned": 40}
"""The last checkpoint of each run, which is taken away: what is left is a run that was killed before it was saved, and
metrics.jsonl has the losses that have to come again."""

BERTLITE = (sys.executable, "-m", "bertlite_jax")
CONVERT = (*BERTLITE, "convert")
TOKENIZER = ("tokenizer", "text.txt", "--vocab-size", "300", "--language", "en")
PRETRAIN = ("pretrain", str(asking.HERE / "recipe_pretrain.py"))
FINETUNE = ("finetune", str(asking.HERE / "recipe_finetune.py"), "--data", "task.csv", "--init", "pretrained")
INT8 = ("int8", "finetuned", "int8", "--calibrate", "text.txt", "--length", "64", "--rows", "64")
COMMANDS = (
    (*BERTLITE, *TOKENIZER, "--out", "tokenizer", "--kind", "wordpiece"),
    (*BERTLITE, *TOKENIZER, "--out", "sentencepiece"),
    (*BERTLITE, *asking.CORPUS, "--out", "corpus", "--tokenizer", "tokenizer"),
    (*BERTLITE, *PRETRAIN, "--workdir", "pretrained"),
    (*BERTLITE, *FINETUNE, "--workdir", "finetuned"),
    (*CONVERT, "to-hf", "finetuned", "hf"),
    (*CONVERT, *INT8, "--max-drop", "0.1"),
)


def make(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True)
    os.chdir(folder)
    write_text(pathlib.Path("text.txt"))
    write_task(pathlib.Path("task.csv"), pathlib.Path("texts.txt"))
    for command in COMMANDS:
        subprocess.run(command, check=True)
    for run, step in LOST.items():
        shutil.rmtree(pathlib.Path(run, "checkpoints", str(step)))
    write_answers(pathlib.Path("answers"))


def chapters() -> list[list[str]]:
    """The paragraphs of each."""
    with zstandard.open(NOVEL, "rt", encoding="utf-8") as stream:
        return [chapter.split("\n") for chapter in stream.read().strip().split("\n\n")]


def write_text(path: pathlib.Path) -> None:
    """Three chapters, in documents of eight paragraphs."""
    documents = ["\n".join(lines[i : i + 8]) for lines in chapters()[:3] for i in range(0, len(lines), 8)]
    path.write_text("\n\n".join(documents) + "\n", encoding="utf-8")


def write_task(table: pathlib.Path, asked: pathlib.Path) -> None:
    """Sentences to learn from; six others of their kind and six of the novel to be answered."""
    learnt, others = sentences(200, seed=0), sentences(6, seed=1)
    table.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in learnt), encoding="utf-8")
    told = [line for line in chapters()[-1] if len(line) < 120][:6]
    asked.write_text("".join(f"{text}\n" for text in [*(text for text, _ in others), *told]), encoding="utf-8")


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """Three to nine words, among them the queen or the rabbit."""
    filler = [
        "she",
        "said",
        "that",
        "it",
        "was",
        "not",
        "the",
        "time",
        "to",
        "go",
        "on",
        "and",
        "so",
        "they",
        "went",
        "down",
        "again",
        "by",
        "the",
        "door",
    ]
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        words, label = list(rng.choice(filler, rng.integers(2, 9))), ("rabbit", "queen")[rng.integers(2)]
        words.insert(int(rng.integers(len(words) + 1)), label)
        made.append((" ".join(words), label))
    return made


def write_answers(folder: pathlib.Path) -> None:
    folder.mkdir()
    save_arrays(folder / "rows.npz", asking.rows("corpus", "tokenizer"))
    asking.bertlite(*asking.CORPUS, "--out", "spare", "--tokenizer", "sentencepiece")
    save_arrays(folder / "sentencepiece_rows.npz", asking.rows("spare", "sentencepiece"))
    shutil.rmtree("spare")
    for model in ("pretrained", "finetuned"):
        np.save(folder / f"{model}.npy", asking.states(model))
    for model in ("finetuned", "int8"):
        lines = [json.dumps(answer) + "\n" for answer in asking.answers(model)]
        (folder / f"{model}.jsonl").write_text("".join(lines), encoding="utf-8")
    np.save(folder / "int8_runtime.npy", asking.runtime_logits("int8"))


def save_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Compressed; named arrays go past the type of `savez_compressed`, which has a parameter of its own."""
    named: dict[str, Any] = {**arrays}
    np.savez_compressed(path, **named)


if __name__ == "__main__":
    make(pathlib.Path(sys.argv[1]).resolve())
