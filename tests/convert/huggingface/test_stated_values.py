"""Values of other types and sizes than transformers writes, and weights that are no numbers: one line each."""

import numpy as np
import pytest
from foreign_folders import ALBERT, Folder, classifier, drawn


@pytest.fixture
def task(tmp_path) -> Folder:
    return Folder(tmp_path / "task", classifier())


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("architectures", 5, 'architectures is 5; it should be a list of names such as ["BertForMaskedLM"]'),
        ("architectures", "BertForMaskedLM", "it should be a list"),
        ("architectures", [5], "it should be a list"),
        ("pair_task", ["sop"], "pair_task is ['sop']; it should be a text"),
        ("num_labels", "3", "num_labels is '3'; it should be a whole number"),
        ("num_labels", 3.0, "num_labels is 3.0; it should be a whole number"),
        ("num_labels", True, "num_labels is True"),
        ("num_labels", 10**9, "num_labels is 1000000000; it can be 10,000,000 at most"),
        ("num_labels", 1000, "and config.json names 1000 labels"),
        ("problem_type", ["x"], "problem_type is ['x']; it should be a text"),
        ("problem_type", "x", "problem_type is x; known:"),
        ("classifier_dropout", "0.1", "classifier_dropout is '0.1'; it should be a number"),
        ("id2label", ["a", "b", "c"], "id2label is ['a', 'b', 'c']; it should be a table"),
        ("id2label", {"0": ["a"], "1": "b", "2": "c"}, "a label is a name or a number"),
        ("id2label", {"x": "a", "y": "b", "z": "c"}, "not a table from numbers to names"),
        ("id2label", {"1": "a", "2": "b", "3": "c"}, "does not count from 0"),
        ("id2label", {"0": "a", "1": "a", "2": "c"}, "has a name twice"),
        ("num_hidden_layers", 10**9, "num_hidden_layers is 1000000000; it can be 1,000 at most"),
        ("hidden_size", 1_000_000_007, "hidden_size is 1000000007; it can be 10,000,000 at most"),
        ("hidden_size", 8.0, "hidden_size is 8.0"),
        ("hidden_act", ["gelu"], "hidden_act is ['gelu']"),
        ("model_type", 5, "model_type is 5"),
    ],
)
def test_a_config_of_other_types_and_sizes_is_one_line(key, value, said, task):
    task.config[key] = value
    if key == "num_labels":
        del task.config["id2label"]
    assert said in task.refused()


def test_alberts_layers_are_counted_before_they_are_believed(tmp_path):
    """Its tensors are the same for any number of layers."""
    folder = Folder(tmp_path / "hf", drawn(ALBERT))
    folder.config["num_hidden_layers"] = 10**9
    assert "num_hidden_layers is 1000000000" in folder.refused()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(value, task):
    task.tensors["bert.embeddings.word_embeddings.weight"][3, 1] = value
    assert "NaN or infinity in embeddings/word/embedding" in task.refused()


@pytest.mark.parametrize("kind", ["int64", "int32", "bool"])
def test_whole_numbers_in_place_of_weights_are_refused(kind, task):
    name = "bert.encoder.layer.1.output.dense.weight"
    task.tensors[name] = task.tensors[name].astype(kind)
    assert f"weights must be floats, and these are not: {name} ({kind})" in task.refused()
