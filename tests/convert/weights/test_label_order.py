"""A head's outputs are put into the order of the labels that are asked for, by name, or the names are asked for."""

import numpy as np
import pytest
import tiny

from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights import label_order
from bertlite_jax.convert.weights.folder import Weights


def weights(*labels: str) -> Weights:
    kernel = np.arange(2 * len(labels), dtype=np.float32).reshape(2, -1)
    return Weights(
        {"head": {"output": {"kernel": kernel, "bias": kernel[0]}}}, tiny.model(), Head("classify", tuple(labels))
    )


@pytest.mark.parametrize(
    ("old", "new", "order"),
    [
        (("contradiction", "neutral", "entailment"), ("entailment", "neutral", "contradiction"), [2, 1, 0]),
        (("CONTRADICTION", "Neutral", "entailment"), ("entailment", "neutral", "contradiction"), [2, 1, 0]),
        (("a", "A"), ("A", "a"), [1, 0]),
        (("LABEL_0",), ("score",), [0]),
    ],
)
def test_outputs_follow_their_names(old, new, order):
    """Case does not count, unless it is all that tells two labels apart; a single output has no order."""
    found = label_order.reordered(weights(*old), new)
    assert found is not None
    assert found.head is not None
    assert found.head.labels == new
    np.testing.assert_array_equal(found.params["head"]["output"]["bias"], np.array(order, np.float32))
    np.testing.assert_array_equal(found.params["head"]["output"]["kernel"][0], np.array(order, np.float32))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("LABEL_0", "LABEL_1", "LABEL_2"), ("entailment", "neutral", "contradiction")),
        (("0", "1"), ("0", "1", "2")),
        (("a", "A"), ("a", "b")),
        (("0", "1"), ("no", "yes")),
    ],
)
def test_other_names_are_not_guessed(old, new):
    """huggingface/transformers #12822, #10386; QData/TextAttack #684: a wrong order scores 7 %."""
    assert label_order.reordered(weights(*old), new) is None


def test_a_head_without_names_says_how_to_give_them():
    head = Head("classify", ("LABEL_0", "LABEL_1"))
    assert "bertlite convert from-hf mn OUT --labels" in label_order.naming_hint(head, "mn")
    assert label_order.naming_hint(Head("classify", ("LABEL_0", "yes")), "mn") == ""
    assert label_order.naming_hint(Head("choose", ()), "mn") == ""
