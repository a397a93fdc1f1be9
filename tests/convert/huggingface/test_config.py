"""What a config.json says of a task head, and what it means where it is silent."""

import pytest

from bertlite_jax.convert.huggingface import heads
from bertlite_jax.errors import UserError


@pytest.mark.parametrize("family", ["albert", "bert", "distilbert"])
@pytest.mark.parametrize("kind", ["classify", "choose", "tag", "span"])
def test_a_config_that_is_silent_about_the_head_means_what_the_class_would_do(family, kind):
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
    head = heads.read_head(values, family, [module], "test")
    labels = ("LABEL_0", "LABEL_1") if kind in ("classify", "tag") else ()
    dropouts = {
        "albert": {"span": 0.0},
        "bert": {"span": 0.0, "classify": 0.3, "choose": 0.3, "tag": 0.3},
        "distilbert": {"classify": 0.2, "choose": 0.2, "tag": 0.3, "span": 0.1},
    }
    assert (head.kind, head.labels, head.problem) == (kind, labels, "single_label")
    assert head.dropout == dropouts[family].get(kind, 0.1)


def test_one_label_without_a_problem_is_a_regression():
    """BertForSequenceClassification.forward: num_labels == 1 means a regression."""
    values = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "score"}}
    head = heads.read_head(values, "bert", ["classifier.weight"], "test")
    assert (head.problem, head.labels) == ("regression", ("score",))
    with pytest.raises(UserError, match="problem_type is ranking"):
        heads.read_head(values | {"problem_type": "ranking"}, "bert", ["classifier.weight"], "test")
