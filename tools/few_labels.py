"""Measures `learn` on splits with few, wrong or foreign labels; prints the tables of docs/finetune_few_labels.md.

    python tools/few_labels.py few --glue GLUE --init FOLDER --workdir runs/few
    python tools/few_labels.py noisy --glue GLUE --init FOLDER --workdir runs/noisy
    python tools/few_labels.py domains --glue GLUE --init FOLDER --workdir runs/domains
    python tools/few_labels.py adapted --glue GLUE --init FOLDER --workdir runs/adapted

few: SST-2 with 50 labels, and 2,000 other training sentences without. noisy: SST-2 with 400 labels, 40 % of them turned
to the other one. domains: QQP with 500 labels for MRPC, of which only texts are known. adapted: SST-2 with 50 labels,
from the encoder as it is, and after 200 steps of masked-language modelling on 8,000 other training sentences. Every
model is the last one of its run, not the best by the validation examples, which are used once. A run that is there
already is not made again.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import pathlib
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.finetune import Examples, Finetune, TuneRun
from bertlite_jax.config.pretrain import Data, Optim, Pretrain, Run
from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.convert import sources
from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.jobs.pretraining.pretrain import pretrain
from bertlite_jax.jobs.text.corpus import build_corpus

Row = dict[str, str | int]
Cases = dict[str, tuple[Learn, bool]]
"""Name of a case: what is switched on, and whether texts share rows."""
ADAPTED = "after masked-language modelling on texts of the task"


def read_tsv(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def write(path: pathlib.Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def sst2(glue: pathlib.Path, split: str) -> list[Row]:
    return [
        {"text": row["sentence"].strip(), "label": int(row["label"])}
        for row in read_tsv(glue / "SST-2" / f"{split}.tsv")
    ]


def drawn(rows: list[Row], count: int) -> list[Row]:
    """So many, half of each label, always the same; the rest of the shuffled rows follows."""
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = [rows[i] for i in order]
    halves = [[row for row in shuffled if row["label"] == label][: count // 2] for label in (0, 1)]
    taken = {id(row) for half in halves for row in half}
    mixed = [row for pair in zip(*halves, strict=True) for row in pair]
    return mixed + [row for row in shuffled if id(row) not in taken]


# --- Splits ----------------------------------------------------------------------------------------------------------


def few(glue: pathlib.Path, folder: pathlib.Path, init: str) -> tuple[Finetune, Cases]:
    rows = [row for row in sst2(glue, "train") if len(str(row["text"]).split()) >= 8]  # of the phrases, the sentences
    rows = drawn(rows, 50)
    train, valid = write(folder / "train.jsonl", rows[:50]), write(folder / "valid.jsonl", sst2(glue, "dev"))
    unlabelled = write(folder / "unlabelled.jsonl", [{"text": row["text"]} for row in rows[50:2050]])
    base = recipe(train, valid, steps=50, batch=16)
    teacher = str(folder / "teacher")
    others = write(folder / "teacher.jsonl", rows[2050:5050])
    finetune(recipe(others, valid, steps=120, batch=32), teacher, init)
    texts: dict[str, Any] = {"unlabelled": unlabelled, "unlabelled_batch": 24}
    return base, {
        "cross-entropy": (Learn(), True),
        "FGM": (Learn(fgm=1.0), True),
        "FGM of 0.2": (Learn(fgm=0.2), True),
        "mixup of pooled vectors": (Learn(mix="pooled"), True),
        "mixup of word embeddings": (Learn(mix="hidden", mix_layer=0), False),
        "TMix behind layer 4": (Learn(mix="hidden", mix_layer=4), False),
        "teacher (3,000 labels), unlabelled texts too": (Learn(teacher=teacher, **texts), True),
        "UDA, tf-idf": (Learn(consistency=1.0, annealing="linear", **texts), True),
        "UDA, edits": (Learn(consistency=1.0, annealing="linear", augment="edits", **texts), True),
        "MixText (pooled vectors)": (Learn(mix="pooled", mix_guessed=1.0, **texts), True),
        "temporal ensembling, unlabelled texts too": (Learn(temporal=10.0, unlabelled=unlabelled), True),
    }


def noisy(glue: pathlib.Path, folder: pathlib.Path, init: str) -> tuple[Finetune, Cases]:
    rows = drawn([row for row in sst2(glue, "train") if len(str(row["text"]).split()) >= 8], 400)[:400]
    turned = np.random.default_rng(1).permutation(400)[:160]
    for number in turned:
        rows[number] = rows[number] | {"label": 1 - int(rows[number]["label"])}
    train, valid = write(folder / "train.jsonl", rows), write(folder / "valid.jsonl", sst2(glue, "dev"))
    return recipe(train, valid, steps=100, batch=32), {
        "cross-entropy": (Learn(), True),
        "generalised cross-entropy": (Learn(loss="gce"), True),
        "symmetric cross-entropy": (Learn(loss="sce"), True),
        "bootstrapping, soft 0.8": (Learn(loss="bootstrap_soft", bootstrap_beta=0.8), True),
        "bootstrapping, hard 0.8": (Learn(loss="bootstrap_hard", bootstrap_beta=0.8), True),
        "peer loss": (Learn(loss="peer"), True),
        "focal": (Learn(loss="focal"), True),
    }


def domains(glue: pathlib.Path, folder: pathlib.Path, init: str) -> tuple[Finetune, Cases]:
    def pairs(path: str, first: str, second: str, label: str) -> list[Row]:
        rows = read_tsv(glue / path)
        return [{"text": row[first].strip(), "pair": row[second].strip(), "label": int(row[label])} for row in rows]

    questions = drawn(pairs("QQP/train.tsv", "question1", "question2", "is_duplicate"), 500)[:500]
    names = ("#1 String", "#2 String", "Quality")
    target = pairs("MRPC/train.tsv", *names)[:1000]
    train = write(folder / "train.jsonl", questions)
    valid = write(folder / "valid.jsonl", pairs("MRPC/dev.tsv", *names))
    texts = folder / "target.txt"
    write(texts, [{"text": row["text"], "pair": row["pair"]} for row in target])
    base = recipe(train, valid, steps=62, batch=16)
    told = Learn(domains=(str(texts),), domain_weight=0.3)
    return base, {
        "cross-entropy": (Learn(), True),
        "gradient reversal": (told, True),
        "the same, private encoders of 1 layer": (dataclasses.replace(told, private_layers=1), True),
    }


def adapted(glue: pathlib.Path, folder: pathlib.Path, init: str) -> tuple[Finetune, Cases]:
    rows = drawn([row for row in sst2(glue, "train") if len(str(row["text"]).split()) >= 8], 50)
    train, valid = write(folder / "train.jsonl", rows[:50]), write(folder / "valid.jsonl", sst2(glue, "dev"))
    continued(init, [str(row["text"]) for row in rows[50:8050]], folder)
    return recipe(train, valid, steps=50, batch=16), {"cross-entropy": (Learn(), True), ADAPTED: (Learn(), True)}


def continued(init: str, texts: list[str], folder: pathlib.Path) -> None:
    """Pretrains the encoder on these texts, each a document; `pretrained` in the folder is the run."""
    corpus, words = str(folder / "corpus"), str(folder / "tokenizer")
    if not pathlib.Path(corpus).is_dir():
        adopt_vocabulary(init, words, overwrite=True)
        (folder / "texts.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
        build_corpus([str(folder / "texts.txt")], words, corpus, CorpusOptions(length=128))
    model = dataclasses.replace(sources.load(init).model, pair_classes=0)
    config = Pretrain(
        model=model,
        data=Data(corpus=(corpus,), tokenizer=words, length=128, batch_rows=32, pair_task="none"),
        optim=Optim(name="adamw", learning_rate=5e-5, warmup_steps=20),
        run=Run(steps=200, eval_every=0, checkpoint_every=200),
    )
    pretrain(config, str(folder / "pretrained"), init)


SPLITS: dict[str, Callable[[pathlib.Path, pathlib.Path, str], tuple[Finetune, Cases]]]
SPLITS = {"few": few, "noisy": noisy, "domains": domains, "adapted": adapted}


# --- Runs ------------------------------------------------------------------------------------------------------------


def recipe(train: str, valid: str, steps: int, batch: int) -> Finetune:
    return Finetune(
        data=Examples(folder=train, validation_file=valid, length=64, batch_examples=batch),
        optim=Optim(name="adamw", learning_rate=1e-4, warmup_steps=0, bias_correction=True),
        run=TuneRun(steps=steps, eval_every=steps, warmup_fraction=0.1),
    )


def with_learn(base: Finetune, learn: Learn, pack: bool, seed: int) -> Finetune:
    run, data = base.run, dataclasses.replace(base.data, pack=pack)
    if learn.domains:  # As many labelled examples in a step and in all as without the further domain.
        data = dataclasses.replace(data, batch_examples=3 * data.batch_examples)
    return dataclasses.replace(base, learn=learn, data=data, run=dataclasses.replace(run, seed=seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", choices=SPLITS)
    parser.add_argument("--glue", type=pathlib.Path, required=True)
    parser.add_argument("--init", required=True)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--done", action="store_true", help="only print the table of the runs that are there")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    base, cases = SPLITS[options.split](options.glue, options.workdir, options.init)
    found: dict[str, list[dict]] = {}
    for seed in range(options.seeds):
        for name, (learn, pack) in cases.items():
            if options.only in name:
                place = options.workdir / f"{name.replace(' ', '_').replace(',', '')}-{seed}"
                summary = place / "summary.json"
                if not summary.is_file():
                    if options.done:
                        continue
                    init = str(options.workdir / "pretrained") if name == ADAPTED else options.init
                    finetune(with_learn(base, learn, pack, seed), str(place), init)
                found.setdefault(name, []).append(json.loads(summary.read_text()))
        if not options.done:
            print(table(found), flush=True)
    if options.done:
        print(table(found))


def table(found: dict[str, list[dict]]) -> str:
    """Accuracy in per cent: median, least and greatest of the seeds; seconds a step against the first row's."""
    lines = ["| method | seeds | accuracy | least to greatest | time a step |", "|---|---|---|---|---|"]
    first = None
    for name, summaries in found.items():
        scores = [100 * summary["accuracy"] for summary in summaries]
        pace = statistics.median(summary["train_seconds"] / (summary["steps"] - 1) for summary in summaries)
        first = first or pace
        spread = f"{min(scores):.1f} to {max(scores):.1f}"
        lines.append(f"| {name} | {len(scores)} | {statistics.median(scores):.1f} | {spread} | {pace / first:.1f} × |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
