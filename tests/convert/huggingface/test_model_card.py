"""The model card describes the export with an example that runs, and states nothing that is not known."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import tiny
import yaml

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.huggingface import folder
from bertlite_jax.convert.huggingface.evaluation import Scored, model_index
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.vocabulary.tokenizer import train_tokenizer

# Lewis Carroll, Alice's Adventures in Wonderland, 1865.
TEXTS = [
    "Alice was beginning to get very tired of sitting by her sister on the bank.",
    "The rabbit-hole went straight on like a tunnel for some way.",
    "There were doors all round the hall, but they were all locked.",
    "Now I'm opening out like the largest telescope that ever was!",
]
SHARED = tiny.model(vocab_size=60, ffn_size=24, max_positions=64)
UNSHARED = dataclasses.replace(SHARED, embed_size=16, share="none")
HEADLESS = dataclasses.replace(UNSHARED, token_types=0, pooler=False, pair_classes=0)


def random_params(model: Model, head: Head | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = parameters.shapes(model, head)
    return parameters.nest({path: rng.normal(size=shape).astype(np.float32) for path, shape in shapes.items()})


def test_the_model_card_states_the_figures_of_the_run(tmp_path):
    facts = {"steps": 1200, "valid_mlm_accuracy": 0.4321, "valid_pair_accuracy": None}
    folder.to_hf(Weights(random_params(SHARED), SHARED, pair_task="sop", facts=facts), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    head, _, body = card.removeprefix("---\n").partition("---\n")
    assert "library_name: transformers" in head
    assert "pipeline_tag: fill-mask" in head
    assert "| updates | 1,200 |" in body
    assert "0.4321" in body
    assert "sentence order (0: in order, 1: swapped)" in body
    assert "sentence-pair accuracy" not in body


USAGES = {
    "mlm": (UNSHARED, None, "fill-mask"),
    "classify": (SHARED, Head(labels=("bad", "a | b")), "text-classification"),
    "multi_label": (HEADLESS, Head("classify", ("x", "y"), "multi_label", activation="relu"), "text-classification"),
    "regression": (SHARED, Head("classify", ("score",), "regression"), "text-classification"),
    "choose": (UNSHARED, Head("choose", ()), "multiple-choice"),
    "tag": (HEADLESS, Head("tag", ("O", "B-PER")), "token-classification"),
    "span": (UNSHARED, Head("span", ()), "question-answering"),
}


@pytest.mark.parametrize("name", USAGES)
def test_the_example_of_the_model_card_runs(name, tmp_path, capsys):
    pytest.importorskip("transformers", reason="the example needs torch and transformers")
    model, head, pipeline = USAGES[name]
    small = train_tokenizer(TEXTS, tmp_path / "tokenizer", 60)
    model = dataclasses.replace(model, vocab_size=small.vocab_size)
    model = dataclasses.replace(model, pooler=head.pooled, pair_classes=0) if head else model
    facts = {"steps": 100, "license": "apache-2.0"}
    weights = Weights(random_params(model, head), model, head, small, "nsp", facts)
    folder.to_hf(weights, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"pipeline_tag: {pipeline}\n" in card
    assert 'license: "apache-2.0"\n' in card
    example = card.partition("```python\n")[2].partition("```")[0].replace("FOLDER", str(tmp_path / "out"))
    found: dict = {}
    exec(example, found)
    printed = capsys.readouterr().out
    assert "logits" in found or "outputs" in found
    if head is None or name == "span":
        return
    # The answer is a list, or names one of the head's own outputs or the example's choices.
    answers = found["choices"] if name == "choose" else ["["] if name == "multi_label" else head.labels
    assert any(answer in printed for answer in answers)
    assert ("| 0 | bad |" in card and "| 1 | a \\| b |" in card) == (name == "classify")


def test_the_model_card_claims_no_training_and_no_license_that_it_does_not_know(tmp_path):
    folder.to_hf(Weights(random_params(SHARED), SHARED), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license" not in card
    assert "## Training" not in card
    assert "rained with" not in card


# --- Its scores for programs ------------------------------------------------------------------------------------------


def result_of(found: Scored) -> dict:
    """The scores in the head of a card, as another reader of YAML finds them."""
    (result,) = yaml.safe_load(model_index(found, "mine", "text-classification"))["model-index"][0]["results"]
    return result


@pytest.mark.parametrize("value", [0.5, 1, 1e-05, -1e-17, 2.5e-08, 1e20, 0.0])
def test_a_score_is_the_number_that_it_was(value):
    """YAML 1.1 takes 1e-05, as JSON writes it, for a word."""
    (metric,) = result_of(Scored("own", "", {"mcc": value}))["metrics"]
    assert metric == {"type": "matthews_correlation", "value": value, "name": "mcc"}
    assert isinstance(metric["value"], type(value))


def test_a_name_with_signs_of_yaml_is_a_name():
    name = 'reviews: "old" #1\n- é'
    assert result_of(Scored(name, "", {"accuracy": 1.0}))["dataset"] == {
        "type": name,
        "name": name,
        "split": "validation",
    }


@pytest.mark.parametrize(
    ("suite", "task", "dataset", "config", "split"),
    [
        ("glue", "sst2", "glue", "sst2", "validation"),
        ("glue", "mnli", "glue", "mnli", "validation_matched"),
        ("superglue", "boolq", "super_glue", "boolq", "validation"),
        ("superglue", "superglue_rte", "super_glue", "rte", "validation"),
    ],
)
def test_a_task_of_a_suite_has_the_name_config_and_split_of_the_hub(suite, task, dataset, config, split):
    found = result_of(Scored(task, suite, {"accuracy": 0.5}))["dataset"]
    assert (found["type"], found["config"], found["split"]) == (dataset, config, split)
