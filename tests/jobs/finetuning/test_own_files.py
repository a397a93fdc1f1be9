"""Fine-tuning on people's own files: what was taken is shown, scores are guarded, runs of older versions resume."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from toy_task import losses_of, recipe, sentences

from bertlite_jax.config import files
from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.finetune import Finetune, Finetuned
from bertlite_jax.convert import sources
from bertlite_jax.convert.weights.folder import load_weights
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.finetuning import own_data
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.jobs.finetuning.prepare import class_weights, prepare
from bertlite_jax.jobs.finetuning.setup import Setup

pytestmark = pytest.mark.usefixtures("compiled_once")
NAMES = ("rabbit", "queen")


def table(path: pathlib.Path, rows: list[tuple[str, str]], header: str = "text,label") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in (header, *(f"{text},{label}" for text, label in rows))))
    return str(path)


def rows(count: int, seed: int = 3) -> list[tuple[str, str]]:
    return [(text, NAMES[label]) for text, label in sentences(count, seed)]


def own(path: str, **groups) -> Finetune:
    return recipe(path, task="", **groups)


def prepared(config: Finetune, encoder: str) -> Setup:
    """What is known of a run before its first step."""
    return prepare(own_data.decided(config, "nowhere"), sources.load(encoder), encoder)


def test_what_was_taken_is_shown_before_the_model_is_opened(tmp_path, capsys):
    path = table(tmp_path / "tea" / "train.csv", [(text, label.title()) for text, label in rows(40)], "Text,Label")
    (tmp_path / "no-model").mkdir()
    with pytest.raises(UserError):
        finetune(own(path), str(tmp_path / "run"), str(tmp_path / "no-model"))
    said = capsys.readouterr().out
    assert f"finetune: {path}: 40 examples, kind classify, text in 'Text', label in 'Label'" in said
    queens = sum(label == "queen" for _, label in rows(40))
    for name, count in (("Queen", queens), ("Rabbit", 40 - queens)):
        assert f"{name} ({count})" in said
    held_out = "validation: 10% of each label are held out, at least one text of each that has two"
    assert f"{held_out}; the best model is the one with the best accuracy" in said


def test_an_encoder_that_is_not_there_is_refused_before_the_data_are_read(tmp_path, capsys):
    with pytest.raises(UserError, match=r"^finetune: .*encc does not exist; name a run, a folder of transformers"):
        finetune(own(table(tmp_path / "train.csv", rows(40))), str(tmp_path / "run"), str(tmp_path / "encc"))
    assert capsys.readouterr().out == ""


@pytest.mark.thorough
def test_the_task_has_the_name_of_its_folder_and_the_config_what_was_found(encoder, tmp_path, capsys):
    path = table(tmp_path / "tea" / "train.csv", rows(40))
    summary = finetune(own(path, run={"steps": 1}), str(tmp_path / "run"), encoder)
    assert summary["task"] == "tea"
    stored = files.read_json(tmp_path / "run" / "config.json", Finetuned).data
    assert (stored.kind, stored.held_out, stored.metric) == ("classify", "stratified", "accuracy")
    assert "only 4 examples are scored: each moves accuracy by 25.0%" in capsys.readouterr().out
    again = finetune(own(path, run={"steps": 1}), str(tmp_path / "run"), encoder)
    assert again["accuracy"] == summary["accuracy"]


@pytest.mark.thorough
def test_99_to_1_is_scored_by_macro_f1_beside_the_commonest_label(encoder, tmp_path, capsys):
    made = [(text, "common" if place % 25 else "rare") for place, (text, _) in enumerate(rows(200, 5))]
    path = table(tmp_path / "own.csv", made)
    summary = finetune(own(path, rate=1e-9, run={"steps": 1}), str(tmp_path / "run"), encoder)
    assert (summary["metric"], summary["majority_label"]) == ("f1_macro", "common")
    # All answers "common": F1 of common is 2 n / (2 n + r), of rare 0.
    rare = round(summary["validation_examples"] * (1 - summary["majority_share"]))
    common = summary["validation_examples"] - rare
    assert summary["majority_score"] == pytest.approx(common / (2 * common + rare))
    said = capsys.readouterr().out
    assert f"best f1_macro {summary['f1_macro']:.4f} (always common: {summary['majority_score']:.4f})" in said


def test_a_rare_label_is_scored_and_one_of_a_single_text_says_how(encoder, tmp_path, capsys):
    made = [
        (text, "common" if place > 5 else "rare" if place else "single") for place, (text, _) in enumerate(rows(200))
    ]
    setup = prepared(own(table(tmp_path / "own.csv", made)), encoder)
    assert set(np.unique(setup.valid.encoded.labels).tolist()) == {0, 1}
    said = capsys.readouterr().out
    assert (
        "validation has no example of single, which is never scored; name a file that has some with "
        "--data.validation-file" in said
    )
    # The metric is the macro F1, so no example has a fixed share of it.
    assert f"only {len(setup.valid.examples)} examples are scored\n" in said


def test_a_metric_may_be_chosen(encoder, tmp_path):
    path = table(tmp_path / "own.csv", rows(40))
    assert prepared(own(path, data={"metric": "mcc"}), encoder).task.metrics == ("mcc", "accuracy", "f1_macro")
    with pytest.raises(UserError, match=r"data\.metric = pearson is none of this task's: accuracy, f1_macro"):
        finetune(own(path, data={"metric": "pearson"}), str(tmp_path / "other"), encoder)


@pytest.mark.thorough
def test_labels_that_training_lacks_are_named_once_and_count_as_errors(encoder, tmp_path, capsys):
    path = table(tmp_path / "own.csv", rows(40))
    valid = table(tmp_path / "dev.csv", [*rows(10, 4), ("the door", "duchess"), ("the time", "duchess")])
    config = own(path, run={"steps": 2, "eval_every": 1}, data={"validation_file": valid})
    summary = finetune(config, str(tmp_path / "run"), encoder)
    assert summary["accuracy"] <= 10 / 12
    assert summary["validation_examples"] == 12
    assert (summary["validation_unlabelled"], summary["validation_unknown_labels"]) == (0, 2)
    said = capsys.readouterr().out
    assert said.count("validation has labels that the training file lacks: duchess (2); each counts as an error") == 1
    head = load_weights(tmp_path / "run" / "best").head
    assert head
    assert head.labels == ("queen", "rabbit")


def test_a_validation_file_with_none_of_the_training_labels_is_refused(encoder, tmp_path):
    """Numbers for names, or 0 to 2 for 1 to 3: ThilinaRajapakse/simpletransformers #25, #551."""
    path = table(tmp_path / "own.csv", rows(40))
    valid = table(tmp_path / "dev.csv", [(text, str(int(label == "queen"))) for text, label in rows(10, 4)])
    config = own(path, data={"validation_file": valid})
    with pytest.raises(
        UserError, match=r"none of its labels .*: [01] \(\d\), [01] \(\d\); known are: queen, rabbit; if"
    ):
        finetune(config, str(tmp_path / "run"), encoder)


def test_more_labels_may_be_named_than_the_files_have(encoder, tmp_path):
    path = table(tmp_path / "own.csv", rows(40))
    config = own(path, data={"label_names": ("rabbit", "queen", "duchess")})
    assert prepared(config, encoder).start.config.head.labels == ("rabbit", "queen", "duchess")


def test_texts_on_both_sides_and_labels_that_are_never_scored_are_said(encoder, tmp_path, capsys):
    path = table(tmp_path / "own.csv", rows(40))
    queens = [row for row in rows(40) if row[1] == "queen"][:3]
    prepared(own(path, data={"validation_file": table(tmp_path / "dev.csv", queens)}), encoder)
    said = capsys.readouterr().out
    assert "validation has no example of rabbit, which is never scored" in said
    assert f"{len({text for text, _ in queens})} texts of validation are training texts too" in said


def test_held_out_texts_that_are_only_cut_to_the_same_tokens_are_said_so(encoder, tmp_path, capsys):
    path = table(tmp_path / "own.csv", [(f"{'the queen ' * 200}{place}", "ab"[place % 2]) for place in range(20)])
    prepared(own(path), encoder)
    said = capsys.readouterr().out
    assert "1 text of validation is to the model the same as a training text" in said
    assert "--data.length cuts to the same tokens" in said


@pytest.mark.parametrize("broken", ["one label", "one text"])
def test_a_file_that_teaches_nothing_is_refused_before_anything_is_written(broken, encoder, tmp_path):
    made = (
        [(text, "queen") for text, _ in rows(12)] if broken == "one label" else [("the queen", "a"), ("the queen", "b")]
    )
    with pytest.raises(UserError, match=r"nothing to learn|all texts are the same"):
        finetune(own(table(tmp_path / "own.csv", made)), str(tmp_path / "run"), encoder)
    assert not (tmp_path / "run").exists()


# --- Runs of older versions ------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_run_of_an_older_version_resumes_with_its_own_split_and_metric(encoder, tmp_path):
    """Its config knows neither, and its texts were held out by hash."""
    made = [(text, "common" if place % 25 else "rare") for place, (text, _) in enumerate(rows(100, 5))]
    path, run = table(tmp_path / "own.csv", made), tmp_path / "run"
    old = own(path, run={"steps": 2}, data={"held_out": "by_hash", "metric": "accuracy", "kind": "classify"})
    before = finetune(old, str(run), encoder)
    values = json.loads((run / "config.json").read_text())
    new = ("held_out", "metric", "label_names", "id_column", "choice_columns", "separator", "delimiter", "decimal")
    values["data"] = {name: value for name, value in values["data"].items() if name not in new}
    del values["learn"]["class_weights"]
    (run / "config.json").write_text(json.dumps(values))
    (run / "summary.json").unlink()
    again = finetune(own(path, run={"steps": 2}), str(run), encoder)
    assert {name: again[name] for name in ("accuracy", "validation_examples", "metric")} == {
        name: before[name] for name in ("accuracy", "validation_examples", "metric")
    }
    fresh = own_data.decided(own(path), str(run), overwrite=True).data
    assert (fresh.held_out, fresh.metric) == ("stratified", "f1_macro")


# --- Class weights, options without an effect ------------------------------------------------------------------------


@pytest.mark.thorough
def test_balanced_weights_are_those_of_the_formula_and_change_the_loss(encoder, tmp_path):
    """With N of n and m: the loss is the mean of N / (2 n) and N / (2 m) times each cross-entropy."""
    made = [(text, "common" if place % 4 else "rare") for place, (text, _) in enumerate(rows(40, 6))]
    path = table(tmp_path / "own.csv", made)
    quiet = {"adapt": {"dropout": 0.0}, "head": {"dropout": 0.0}}
    plain = own(path, rate=1e-9, run={"steps": 1}, **quiet)
    weighted = dataclasses.replace(plain, learn=Learn(class_weights="balanced"))
    finetune(plain, str(tmp_path / "plain"), encoder)
    finetune(weighted, str(tmp_path / "weighted"), encoder)
    assert losses_of(tmp_path / "plain") != losses_of(tmp_path / "weighted")
    setup = prepared(weighted, encoder)
    counts = np.bincount(setup.train.encoded.labels)
    np.testing.assert_allclose(class_weights(setup), counts.sum() / (2 * counts))


@pytest.mark.thorough
def test_consistency_that_no_text_passes_says_so(encoder, tmp_path, capsys):
    path = table(tmp_path / "own.csv", rows(40))
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(text + "\n" for text, _ in sentences(20, 8)))
    vain = Learn(unlabelled=str(texts), consistency=1.0, confidence=0.9999, unlabelled_batch=8, augment="edits")
    config = dataclasses.replace(own(path, rate=1e-9, run={"steps": 2}, data={"length": 8}), learn=vain)
    summary = finetune(config, str(tmp_path / "vain"), encoder)
    assert summary["consistency_share"] == 0
    said = capsys.readouterr().out
    assert "learn.consistency had no effect: the model was never as sure" in said
    assert said.count("finetune: train: ") == said.count("were longer than data.length and lost their end") - (
        "finetune: validation: " in said
    )


def lines_of(tmp_path, *objects: dict) -> str:
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(each) + "\n" for each in objects))
    return str(tmp_path / "own.jsonl")


@pytest.mark.parametrize(
    ("objects", "kind", "said"),
    [
        ([{"text": "a", "label": "x"}] * 2, "auto", "all training examples have the label x"),
        (
            [{"text": "a", "score": 1}, {"text": "b", "score": 1.0}],
            "regression",
            "all training examples have the number 1",
        ),
        ([{"tokens": ["a", "b"], "tags": ["O", "O"]}], "auto", "all words have the tag O"),
        ([{"text": "a", "label": [0, 0]}] * 2, "auto", "no training example has a label"),
        ([{"text": "a", "label": [1, 1]}] * 2, "auto", "all training examples have all labels (0, 1)"),
        ([{"text": "a", "label": ["x"]}] * 2, "auto", "all training examples have all labels (x)"),
    ],
    ids=["classify", "regression", "tag", "no label", "all labels", "one name"],
)
def test_where_all_examples_are_the_same_there_is_nothing_to_learn(tmp_path, objects, kind, said):
    config = own(lines_of(tmp_path, *objects), data={"kind": kind})
    with pytest.raises(UserError) as caught:
        own_data.decided(config, "nowhere")
    assert str(caught.value) == f"finetune: {said}, so there is nothing to learn"
