"""A bundle of a run reads as much of a text as `bertlite predict` does, and gives the same answers."""

import io
import json
import runpy

import pytest
from toy_task import recipe, sentences, write_sst2

from bertlite_jax.convert import adoption
from bertlite_jax.convert.bundle import write_bundle
from bertlite_jax.convert.weights.folder import answer_length
from bertlite_jax.jobs.answering import predict
from bertlite_jax.jobs.finetuning.finetune import finetune

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.mark.thorough
def test_texts_that_are_longer_than_in_training_get_the_answers_of_predict(encoder, tmp_path):
    run, file = tmp_path / "run", tmp_path / "texts"
    made = recipe(write_sst2(tmp_path / "glue"), run={"steps": 2, "eval_every": 2})
    finetune(made, str(run), encoder)
    rows = [text for text, _ in sentences(12, seed=3)]
    texts = [" ".join(rows), " ".join(reversed(rows)), rows[0]]
    file.write_text("".join(f"{text}\n" for text in texts))
    out = io.StringIO()
    predict.predict(str(run), str(file), out)
    with adoption.open_weights(run) as weights:
        assert answer_length(weights) == made.data.length < weights.model.max_positions
        write_bundle(weights, tmp_path / "bundle")
    script = runpy.run_path(str(tmp_path / "bundle" / "predict.py"), run_name="predict")
    model = script["load"]("float32")
    found = [script["predict"](model, {"text": text}) for text in texts]
    assert [answer.get("cut", False) for answer in found] == [True, True, False]
    for line, answer in zip(out.getvalue().splitlines(), found, strict=True):
        probabilities = json.loads(line)["probabilities"]
        assert answer["scores"] == pytest.approx(probabilities, abs=1e-4)
