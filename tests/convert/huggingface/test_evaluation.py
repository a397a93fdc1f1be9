"""Scores in the head of a model card: the YAML that programs read, by another reader of YAML."""

import pytest
import yaml

from bertlite_jax.convert.huggingface.evaluation import Scored, model_index


def read(found: Scored) -> dict:
    (result,) = yaml.safe_load(model_index(found, "mine", "text-classification"))["model-index"][0]["results"]
    return result


@pytest.mark.parametrize("value", [0.5, 1, 1e-05, -1e-17, 2.5e-08, 1e20, 0.0])
def test_a_score_is_the_number_that_it_was(value):
    """YAML 1.1 takes 1e-05, as JSON writes it, for a word."""
    (metric,) = read(Scored("own", "", {"mcc": value}))["metrics"]
    assert metric == {"type": "matthews_correlation", "value": value, "name": "mcc"}
    assert isinstance(metric["value"], type(value))


def test_a_name_with_signs_of_yaml_is_a_name():
    name = 'reviews: "old" #1\n- é'
    assert read(Scored(name, "", {"accuracy": 1.0}))["dataset"] == {"type": name, "name": name, "split": "validation"}


@pytest.mark.parametrize(
    ("suite", "task", "dataset", "config"),
    [
        ("glue", "sst2", "glue", "sst2"),
        ("superglue", "boolq", "super_glue", "boolq"),
        ("superglue", "superglue_rte", "super_glue", "rte"),
    ],
)
def test_a_task_of_a_suite_has_the_name_and_config_of_the_hub(suite, task, dataset, config):
    found = read(Scored(task, suite, {"accuracy": 0.5}))["dataset"]
    assert (found["type"], found["config"]) == (dataset, config)
