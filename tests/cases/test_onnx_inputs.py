"""What an exported ONNX model wants to be fed, and that it takes any batch and any length.

Users report missing or unexpected `token_type_ids` and exports that are fixed to one shape: huggingface/optimum #1500,
#1758, #2062; microsoft/onnxruntime #4980; vespa-engine/sample-apps #1381; pytorch/pytorch #122321;
huggingface/transformers #19238, #18082.
"""

import dataclasses

import numpy as np
import pytest
from onnx_examples import TINY, batch_of, drawn, flax_answer

from bertlite_jax.config.model import Head
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.model import build_onnx
from bertlite_jax.convert.onnx.session import open_session, run_session

ALBERT = dataclasses.replace(TINY, num_layers=2, share_groups=1, max_positions=64)
BERT = dataclasses.replace(ALBERT, share="none", embed_size=32, activation="gelu_erf")
DISTILBERT = dataclasses.replace(BERT, token_types=0, pooler=False, pair_classes=0)
BORT = dataclasses.replace(BERT, token_types=1, pooler=False, pair_classes=0)
"""RoBERTa's kind: one token type, which every token has."""

THREE = ["input_ids", "attention_mask", "token_type_ids"]


@pytest.mark.parametrize(
    ("model", "inputs"),
    [(ALBERT, THREE), (BERT, THREE), (DISTILBERT, THREE[:2]), (BORT, THREE)],
    ids=["albert", "bert", "distilbert", "bort"],
)
@pytest.mark.parametrize("head", [None, Head()], ids=["pretrained", "classifier"])
def test_the_inputs_are_those_of_the_class_and_all_are_needed(model, inputs, head):
    if head:
        model = dataclasses.replace(model, pooler=True, pair_classes=0)
    weights = drawn(model, head)
    session = open_session(build_onnx(weights, float32(weights)).SerializeToString(), threads=1)
    assert [each.name for each in session.get_inputs()] == inputs
    assert {each.type for each in session.get_inputs()} == {"tensor(int64)"}
    # Fed by name, as optimum and transformers.js do: whatever a tokenizer gives, what the model does not name is left.
    batch = batch_of(model, [5, 9])
    (answer,) = session.run(["logits"], {name: batch[name] for name in inputs})
    np.testing.assert_array_equal(np.asarray(answer), run_session(session, batch)["logits"])


def test_any_batch_and_any_length_give_the_logits_of_flax():
    """Batches of one to five texts and lengths from two to all positions, with padding in between."""
    weights = drawn(dataclasses.replace(ALBERT, pair_classes=0, pooler=True), Head())
    session = open_session(build_onnx(weights, float32(weights)).SerializeToString(), threads=1)
    longest = batch_of(weights.model, [64, 2, 17, 33, 50], pair=True)
    wanted = flax_answer(weights, longest)["logits"][:, 0]
    lengths = longest["attention_mask"].sum(axis=1)
    for count in range(1, 6):
        for wide in sorted({2, 3, 17, 31, 33, 50, 63, 64}):
            fits = np.flatnonzero(lengths <= wide)[:count]
            if fits.size:
                batch = {name: value[fits, :wide] for name, value in longest.items()}
                np.testing.assert_allclose(run_session(session, batch)["logits"], wanted[fits], atol=1e-5)
