"""What a config.json states of its model, where reading on in silence would give other answers or other names.

From public trackers: huggingface/transformers #38219, PR #10417, PR #35848 (one output), #12822 (names of outputs),
#217 (prefixes); huggingface/sentence-transformers #1058, #1004, #702 (scores of cross-encoders).
"""

from __future__ import annotations

import dataclasses

import pytest
from foreign_folders import BERT, Folder, classifier, drawn, same

from bertlite_jax.config.model import Head
from bertlite_jax.convert.huggingface.folder import from_hf

NAMES = {"neg": 0, "neu": 1, "pos": 2}


@pytest.fixture
def task(tmp_path) -> Folder:
    return Folder(tmp_path / "task", classifier())


def head_of(folder: Folder, **choices) -> Head:
    head = from_hf(folder.write(), **choices).head
    assert head
    return head


# --- Names of the outputs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id2label", [None, {}, {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}])
@pytest.mark.parametrize("label2id", [NAMES, {name: str(number) for name, number in NAMES.items()}])
def test_names_that_only_label2id_has_are_taken(id2label, label2id, task):
    task.config |= {"id2label": id2label, "label2id": label2id}
    assert head_of(task).labels == ("neg", "neu", "pos")


@pytest.mark.parametrize("label2id", [{"neg": 0, "pos": 1}, {"neg": 1, "neu": 2, "pos": 3}, {"LABEL_0": 0}, "neg"])
def test_a_label2id_of_other_numbers_names_nothing(label2id, task):
    task.config |= {"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, "label2id": label2id}
    assert head_of(task).labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_two_tables_that_contradict_each_other_are_named(task, caplog):
    assert head_of(task).labels == ("no", "yes", "maybe")
    assert "label2id" not in caplog.text
    task.config |= {"label2id": {"yes": 0, "no": 1, "maybe": 2}}
    assert head_of(task).labels == ("no", "yes", "maybe")
    assert "label2id in config.json is not the inverse of id2label, which was taken" in caplog.text


# --- One output ------------------------------------------------------------------------------------------------------


@pytest.fixture
def single(tmp_path) -> Folder:
    model = dataclasses.replace(BERT, pair_classes=0)
    folder = Folder(tmp_path / "single", drawn(model, Head("classify", ("score",), "regression")))
    del folder.config["problem_type"]
    return folder


def test_a_choice_among_one_output_is_refused(single):
    """Its probability would be 1 for every text."""
    single.config["problem_type"] = "single_label_classification"
    assert "there is one output, of which nothing can be chosen; from-hf --head multi_label" in single.refused()
    assert head_of(single, head="multi_label").problem == "multi_label"
    assert head_of(single, head="regression").problem == "regression"


@pytest.mark.parametrize(
    ("stated", "noted"),
    [
        ({}, True),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, True),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, False),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, False),
        ({"problem_type": "regression"}, False),
    ],
)
def test_a_number_that_others_put_a_sigmoid_on_is_named(stated, noted, single, caplog):
    single.config |= stated
    assert head_of(single).problem == "regression"
    assert ("its number is given as it is, while CrossEncoder" in caplog.text) == noted


# --- Another model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["roberta.", "model.roberta.", "camembert.", "nezha."])
def test_names_of_another_kind_of_model_are_refused_although_the_config_says_bert(prefix, task):
    task.tensors = {name.replace("bert.", prefix, 1): value for name, value in task.tensors.items()}
    assert f"model_type is bert, and the names of the tensors begin with {prefix}" in task.refused()


def test_code_of_the_folders_own_is_named_and_not_run(task, caplog):
    task.config["auto_map"] = {"AutoModel": "modeling_other.OtherModel"}
    same(from_hf(task.write()), classifier())
    assert "auto_map in config.json names code of the folder's own, which is not run" in caplog.text


def test_pruned_heads_are_refused(task):
    task.config["pruned_heads"] = {"0": [1]}
    assert "pruned_heads: our model has all heads" in task.refused()
    task.config["pruned_heads"] = {}
    same(from_hf(task.write()), classifier())
