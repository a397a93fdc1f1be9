"""Questions about texts that a tiny encoder learns to answer in seconds, in SQuAD 2.0's files."""

import dataclasses
import json
import pathlib

import numpy as np
from toy_task import FILLER, recipe

from bertlite_jax.config.finetune import Finetune

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
