"""A config.json holds the model and its task head; keys that it lacks have the defaults of transformers."""

import dataclasses

import numpy as np
import pytest
from huggingface_examples import HEADLESS, SHARED, UNSHARED

from bertlite_jax.convert.huggingface import heads
from bertlite_jax.convert.huggingface.config import check_family, choose_family, to_config
from bertlite_jax.errors import UserError


@pytest.mark.parametrize("family", ["albert", "bert", "distilbert"])
@pytest.mark.parametrize("kind", ["classify", "choose", "tag", "span"])
def test_keys_of_the_head_that_a_config_lacks_have_the_defaults_of_the_class(family, kind):
    """Defaults of transformers 5.23: two labels, LABEL_0 and LABEL_1; dropout by class, as in modeling_*.py."""
    suffix = {
        "classify": "ForSequenceClassification",
        "choose": "ForMultipleChoice",
        "tag": "ForTokenClassification",
        "span": "ForQuestionAnswering",
    }[kind]
    stem = {"albert": "Albert", "bert": "Bert", "distilbert": "DistilBert"}[family]
    module = "qa_outputs.weight" if kind == "span" else "classifier.weight"
    values = {"architectures": [stem + suffix], "hidden_dropout_prob": 0.3, "dropout": 0.3}
    head = heads.read_head(values, family, {module: np.zeros((1 if kind == "choose" else 2, 8))}, "test")
    labels = ("LABEL_0", "LABEL_1") if kind in ("classify", "tag") else ()
    dropouts = {
        "albert": {"span": 0.0},
        "bert": {"span": 0.0, "classify": 0.3, "choose": 0.3, "tag": 0.3},
        "distilbert": {"classify": 0.2, "choose": 0.2, "tag": 0.3, "span": 0.1},
    }
    assert head is not None
    assert (head.kind, head.labels, head.problem) == (kind, labels, "single_label")
    assert head.dropout == dropouts[family].get(kind, 0.1)


def test_one_label_without_a_problem_is_a_regression():
    """BertForSequenceClassification.forward: num_labels == 1 means a regression."""
    values = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "score"}}
    tensors = {"classifier.weight": np.zeros((1, 8))}
    head = heads.read_head(values, "bert", tensors, "test")
    assert head is not None
    assert (head.problem, head.labels) == ("regression", ("score",))
    with pytest.raises(UserError, match="problem_type is ranking"):
        heads.read_head(values | {"problem_type": "ranking"}, "bert", tensors, "test")


def test_the_config_uses_their_names():
    """Google's tanh form is `gelu_new` there; plain `gelu` is the erf form."""
    written = to_config(SHARED, "albert", {"pad": 0, "cls": 2, "sep": 3}, "sop")
    wanted = {
        "model_type": "albert",
        "hidden_act": "gelu_new",
        "embedding_size": 16,
        "num_hidden_groups": 1,
        "layer_norm_eps": 1e-12,
        "architectures": ["AlbertForPreTraining"],
    }
    assert {key: written[key] for key in wanted} == wanted
    assert to_config(UNSHARED, "bert", {"pad": 0, "cls": 2, "sep": 3}, "nsp")["hidden_act"] == "gelu"


def test_what_no_class_holds_is_refused_in_one_line():
    refused = {
        "attention": dataclasses.replace(SHARED, share="attention"),
        "ffn": dataclasses.replace(SHARED, share="ffn"),
        "unshared layers with a projection": dataclasses.replace(SHARED, share="none"),
        "norm": dataclasses.replace(SHARED, norm="pre"),
        "pair head of 2 classes": dataclasses.replace(UNSHARED, pair_classes=3),
    }
    for part, model in refused.items():
        with pytest.raises(UserError, match=part) as caught:
            choose_family(model)
        assert "\n" not in str(caught.value)


def test_a_family_that_cannot_hold_the_model_is_refused():
    with pytest.raises(UserError, match="epsilon"):
        check_family(dataclasses.replace(HEADLESS, norm_epsilon=1e-5), "distilbert")
    with pytest.raises(UserError, match="cannot be exported as bert"):
        check_family(SHARED, "bert")
    check_family(HEADLESS, "bert")
