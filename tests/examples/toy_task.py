"""Tasks that a tiny encoder learns in seconds, in the files of SST-2 and SQuAD 2.0, and the encoder."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np
import tiny
from huggingface_examples import random_params

from bertlite_jax.config.finetune import Adapt, Examples, Finetune, TuneRun
from bertlite_jax.config.model import Head, Model
from bertlite_jax.config.pretrain import Optim
from bertlite_jax.convert.weights.folder import Weights, save_weights
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.jobs.finetuning.start import draw_params
from bertlite_jax.model.task_heads import TaskModel

MODEL = tiny.trained_model(share="none", pair_classes=0, init_std=0.1)
TAGGER = Head(kind="tag", labels=("O", "B-X"))
CHOOSER = Head(kind="choose", labels=())
PRETRAINED = dataclasses.replace(MODEL, pair_classes=2, vocab_multiple=16)
FILLER = [
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


def sentences(count: int, seed: int) -> list[tuple[str, int]]:
    """Three to nine words, among them the queen (label 1) or the rabbit (label 0)."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        words = list(rng.choice(FILLER, rng.integers(2, 9)))
        label = int(rng.integers(2))
        words.insert(int(rng.integers(len(words) + 1)), ("rabbit", "queen")[label])
        made.append((" ".join(words), label))
    return made


def write_sst2(folder: pathlib.Path, train: int = 96, dev: int = 29, test: int = 7) -> str:
    """29 and 7 divide by no number of devices. Returns the folder."""
    place = folder / "SST-2"
    place.mkdir(parents=True)
    for name, count, seed in (("train", train, 0), ("dev", dev, 1)):
        rows = [f"{text}\t{label}\n" for text, label in sentences(count, seed)]
        (place / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(rows))
    rows = [f"{number}\t{text}\n" for number, (text, _) in enumerate(sentences(test, 2))]
    (place / "test.tsv").write_text("index\tsentence\n" + "".join(rows))
    return str(folder)


def write_csv(path: pathlib.Path, count: int = 60) -> str:
    rows = [f'"{text}",{("rabbit", "queen")[label]}\n' for text, label in sentences(count, 3)]
    path.write_text("text,label\n" + "".join(rows))
    return str(path)


def write_jsonl(path: pathlib.Path, rows: list[dict]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def own_data(folder: pathlib.Path, kind: str) -> tuple[str, Head, str]:
    """A file of examples, the head of its task, and a file of unlabelled texts."""
    made = sentences(40, 6)
    texts = [{"text": text} for text, _ in sentences(24, 8)]
    if kind == "choose":
        rows = [{"text": "who?", "choices": [text, "the rabbit", "so"], "label": label} for text, label in made]
        texts = [{"text": "who?", "choices": [text["text"], "a queen"]} for text in texts]
        head = CHOOSER
    elif kind == "multi_label":
        rows = [
            {"text": text, "label": [["queen", "so"], ["queen"], []][label + (len(text) % 2)]} for text, label in made
        ]
        head = Head(labels=("queen", "so"), problem="multi_label")
    elif kind == "regression":
        rows = [{"text": text, "label": label + len(text) / 100} for text, label in made]
        head = Head(labels=("score",), problem="regression")
    else:
        rows = [
            {"tokens": text.split(), "tags": ["B-X" if w == "queen" else "O" for w in text.split()]} for text, _ in made
        ]
        head = TAGGER
    return write_jsonl(folder / f"{kind}.jsonl", rows), head, write_jsonl(folder / f"{kind}-texts.jsonl", texts)


def write_encoder(folder: pathlib.Path, tokenizer: str | None, model: Model = MODEL, head: Head | None = None) -> str:
    """Random weights as a folder of our own: an encoder with a pooler, or a task model."""
    of_head = head or Head(labels=("a", "b"))
    model = model if of_head.pooled else dataclasses.replace(model, pooler=False)
    params: Any = jax.device_get(jax.jit(lambda: draw_params(TaskModel(model, of_head), jax.random.key(7)))())
    if head is None:
        del params["head"]
    reader = load_tokenizer(tokenizer) if tokenizer else None
    save_weights(Weights(params, model, head, reader), folder)
    return str(folder)


def write_pretrained(folder: pathlib.Path, tokenizer: str, model: Model = PRETRAINED) -> str:
    """A pretrained model with a masked-LM head, of random weights."""
    save_weights(Weights(random_params(model), model, None, load_tokenizer(tokenizer)), folder)
    return str(folder)


def recipe(place: str, task: str = "sst2", rate: float = 2e-3, batch: int = 16, **groups: dict[str, Any]) -> Finetune:
    """On one device, in float32, without a step that is not asked for."""
    values: dict[str, dict[str, Any]] = {
        "data": {"task": task, "folder": place, "length": 32, "batch_examples": batch},
        "adapt": {"compute": "float32"},
        "head": {"dropout": 0.1},
        "optim": {"name": "adamw", "learning_rate": rate, "warmup_steps": 0, "bias_correction": True},
        "run": {"steps": 4, "devices": 1, "log_every": 1, "warmup_fraction": 0.1},
    }
    kinds = {"data": Examples, "adapt": Adapt, "head": Head, "optim": Optim, "run": TuneRun}
    return Finetune(**{name: kind(**values[name] | groups.get(name, {})) for name, kind in kinds.items()})


def lines_of(run: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses_of(run: pathlib.Path) -> list[float]:
    return [line["loss"] for line in lines_of(run) if "loss" in line]


# --- Questions about texts -------------------------------------------------------------------------------------------

NAMES = ("the queen", "a rabbit")


def paragraphs(count: int, seed: int) -> list[dict]:
    """One question each. Texts of 4 to 24 words, so that the long ones take several windows; a third names nobody."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        words, answers = list(rng.choice(FILLER, rng.integers(4, 25))), []
        if rng.integers(3):
            place, name = int(rng.integers(len(words) + 1)), NAMES[int(rng.integers(2))]
            answers = [{"text": name, "answer_start": len(" ".join(words[:place])) + (place > 0)}]
            words.insert(place, name)
        qa = {"id": f"q{number}", "question": "Who was it?", "answers": answers, "is_impossible": not answers}
        made.append({"context": " ".join(words), "qas": [qa]})
    return made


def write_questions(path: pathlib.Path, made: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "x", "paragraphs": made}]}))


def write_squad(folder: pathlib.Path) -> pathlib.Path:
    """160 questions to learn from, and 37."""
    for name, count, seed in (("train", 160, 0), ("dev", 37, 1)):
        write_questions(folder / f"{name}-v2.0.json", paragraphs(count, seed))
    return folder


def recipe_for(squad: pathlib.Path, span: str, pack: bool = True) -> Finetune:
    groups = {"adapt": {"dropout": 0.0}, "head": {"span": span, "dropout": 0.0}}
    config = recipe(str(squad), "squad2", rate=5e-3, batch=32, run={"steps": 80, "eval_every": 80}, **groups)
    data = dataclasses.replace(config.data, window_step=12, question_length=8, pack=pack)
    return dataclasses.replace(config, data=data)
