"""The Chinese ALBERT of brightmart/albert_zh: words are projected before the sum, and all layers are `layer_shared`.

The names of the variables and the mathematics are written down here once more, in numpy and from that project's
modeling.py and run_pretraining.py; nothing of the code under test makes them.
"""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from bertlite_jax.config import presets
from bertlite_jax.convert import tensorflow
from bertlite_jax.convert.huggingface.folder import from_hf, to_hf
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Weights, load_weights, save_weights
from bertlite_jax.errors import UserError
from bertlite_jax.model import int8_encoder
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.report.cost import flops

V, E, D, H, F, P, N = 37, 6, 16, 2, 24, 12, 3
CONFIG = {
    "attention_probs_dropout_prob": 0.0, "directionality": "bidi", "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
    "hidden_size": D, "embedding_size": E, "initializer_range": 0.02, "intermediate_size": F,
    "max_position_embeddings": P, "num_attention_heads": H, "num_hidden_layers": N, "pooler_fc_size": 768,
    "pooler_type": "first_token_transform", "type_vocab_size": 2, "vocab_size": V, "ln_type": "postln",
}  # fmt: skip
LAYER = "bert/encoder/layer_shared"
SHAPES = {
    "bert/embeddings/word_embeddings": (V, E),
    "bert/embeddings/word_embeddings_2": (E, D),
    "bert/embeddings/token_type_embeddings": (2, D),
    "bert/embeddings/position_embeddings": (P, D),
    "bert/embeddings/LayerNorm/gamma": (D,),
    "bert/embeddings/LayerNorm/beta": (D,),
    **{f"{LAYER}/attention/self/{part}/kernel": (D, D) for part in ("query", "key", "value")},
    **{f"{LAYER}/attention/self/{part}/bias": (D,) for part in ("query", "key", "value")},
    f"{LAYER}/attention/output/dense/kernel": (D, D),
    f"{LAYER}/attention/output/dense/bias": (D,),
    f"{LAYER}/attention/output/LayerNorm/gamma": (D,),
    f"{LAYER}/attention/output/LayerNorm/beta": (D,),
    f"{LAYER}/intermediate/dense/kernel": (D, F),
    f"{LAYER}/intermediate/dense/bias": (F,),
    f"{LAYER}/output/dense/kernel": (F, D),
    f"{LAYER}/output/dense/bias": (D,),
    f"{LAYER}/output/LayerNorm/gamma": (D,),
    f"{LAYER}/output/LayerNorm/beta": (D,),
    "bert/pooler/dense/kernel": (D, D),
    "bert/pooler/dense/bias": (D,),
    "cls/predictions/transform/dense/kernel": (D, D),
    "cls/predictions/transform/dense/bias": (D,),
    "cls/predictions/transform/LayerNorm/gamma": (D,),
    "cls/predictions/transform/LayerNorm/beta": (D,),
    "cls/predictions/output_bias": (V,),
    "cls/seq_relationship/output_weights": (2, D),
    "cls/seq_relationship/output_bias": (2,),
}


def variables() -> dict[str, np.ndarray]:
    """A checkpoint as training leaves it: weights far from their start, LAMB's slots, the counter."""
    draw = np.random.default_rng(3)
    weights = {
        name: (draw.normal(size=shape) * 0.3 + name.endswith("gamma")).astype(np.float32)
        for name, shape in SHAPES.items()
    }
    slots = {f"{name}/{slot}": value for name, value in weights.items() for slot in ("adam_m", "adam_v")}
    return weights | slots | {"global_step": np.array(489_000, np.int64)}


# --- Their model, in numpy -------------------------------------------------------------------------------------------


def norm(x, named, scope):
    """tf.contrib.layers.layer_norm: epsilon 1e-12."""
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-12) * named[f"{scope}/gamma"] + named[f"{scope}/beta"]


def dense(x, named, scope):
    return x @ named[f"{scope}/kernel"] + named[f"{scope}/bias"]


def gelu(x):
    return x * 0.5 * (1.0 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    raised = np.exp(x - x.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def heads(x):
    return x.reshape(*x.shape[:2], H, D // H).transpose(0, 2, 1, 3)


def their_states(named, ids, mask, types):
    """`BertModel`: embedding_lookup_factorized, embedding_postprocessor, transformer_model."""
    x = named["bert/embeddings/word_embeddings"][ids] @ named["bert/embeddings/word_embeddings_2"]
    x = x + named["bert/embeddings/token_type_embeddings"][types]
    x = x + named["bert/embeddings/position_embeddings"][None, : ids.shape[1]]
    x = norm(x, named, "bert/embeddings/LayerNorm")
    adder = (1.0 - mask[:, None, None, :]) * -10_000.0
    for _ in range(N):
        q, k, v = (heads(dense(x, named, f"{LAYER}/attention/self/{part}")) for part in ("query", "key", "value"))
        mixed = softmax(q @ k.transpose(0, 1, 3, 2) / math.sqrt(D // H) + adder) @ v
        mixed = dense(mixed.transpose(0, 2, 1, 3).reshape(x.shape), named, f"{LAYER}/attention/output/dense")
        x = norm(mixed + x, named, f"{LAYER}/attention/output/LayerNorm")
        between = gelu(dense(x, named, f"{LAYER}/intermediate/dense"))
        x = norm(dense(between, named, f"{LAYER}/output/dense") + x, named, f"{LAYER}/output/LayerNorm")
    return x


def their_logits(named, ids, mask, types):
    """Of `get_masked_lm_output` at every position, and of `get_next_sentence_output`."""
    states = their_states(named, ids, mask, types)
    x = gelu(dense(states, named, "cls/predictions/transform/dense"))
    x = norm(x, named, "cls/predictions/transform/LayerNorm")
    x = x @ named["bert/embeddings/word_embeddings_2"].T @ named["bert/embeddings/word_embeddings"].T
    pooled = np.tanh(dense(states[:, 0], named, "bert/pooler/dense"))
    pair = pooled @ named["cls/seq_relationship/output_weights"].T + named["cls/seq_relationship/output_bias"]
    return states, x + named["cls/predictions/output_bias"], pair


# --- The tests -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights() -> Weights:
    return tensorflow.from_variables(variables(), CONFIG, "albert_tiny/albert_model.ckpt")


@pytest.fixture(scope="module")
def batch() -> dict[str, np.ndarray]:
    """Two pairs of texts; the second row has three places of padding."""
    draw = np.random.default_rng(4)
    mask = np.ones((2, 9), np.int32)
    mask[1, 6:] = 0
    ids = draw.integers(1, V, (2, 9)).astype(np.int32) * mask
    types = (np.arange(9)[None] >= 4) * mask
    return {"ids": ids, "mask": mask, "types": types.astype(np.int32)}


def our_logits(weights: Weights, batch: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, mask, types = batch["ids"], batch["mask"], batch["types"]
    places = np.tile(np.arange(ids.shape[1], dtype=np.int32), (len(ids), 1))
    model = PretrainingModel(weights.model, "float32")
    inputs = {"params": weights.params}, ids, mask, places, types
    states = model.apply(*inputs, method="hidden_states")[-1]
    mlm, pair = model.apply(*inputs, 0 * ids[:, :1], places)
    return np.asarray(states), np.asarray(mlm)[..., : weights.model.vocab_size], np.asarray(pair)[:, 0]


def close(ours, theirs, mask):
    for found, wanted in zip(ours[:2], theirs[:2], strict=True):
        np.testing.assert_allclose(found[mask > 0], wanted[mask > 0], atol=2e-5)
    np.testing.assert_allclose(ours[2], theirs[2], atol=2e-5)


def test_every_number_of_the_checkpoint_is_read_once(weights):
    flat = parameters.flatten(weights.params)
    written = np.concatenate([value.ravel() for name, value in variables().items() if name in SHAPES])
    found = np.concatenate([value.ravel() for value in flat.values()])
    np.testing.assert_array_equal(np.sort(written), np.sort(found))
    assert (weights.model.embedding_order, weights.model.share) == ("project_then_sum", "all")
    assert (weights.model.activation, weights.pair_task) == ("gelu_tanh", "sop")


def test_our_model_computes_what_theirs_computes(weights, batch):
    """Hidden states, masked-LM logits and pair logits. The padding's own states differ and are read by nobody."""
    close(our_logits(weights, batch), their_logits(variables(), **batch), batch["mask"])


def test_transformers_computes_it_too_with_the_projection_in_the_table(weights, batch, tmp_path, caplog):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    assert to_hf(weights, tmp_path / "hf") == "albert"
    assert "written as its product with the projection" in caplog.text
    # The pair head's labels are those of transformers: 0 for two parts in their order.
    assert "sentence order (0: in order, 1: swapped)" in (tmp_path / "hf" / "README.md").read_text()
    model = transformers.AlbertForPreTraining.from_pretrained(tmp_path / "hf", attn_implementation="eager").eval()
    ids, mask, types = (torch.tensor(batch[name], dtype=torch.long) for name in ("ids", "mask", "types"))
    with torch.no_grad():
        out = model(ids, attention_mask=mask, token_type_ids=types, output_hidden_states=True)
    found = out.hidden_states[-1].numpy(), out.prediction_logits.numpy(), out.sop_logits.numpy()
    close(found, their_logits(variables(), **batch), batch["mask"])
    # And back: the same function, with words as wide as the hidden states.
    again = from_hf(tmp_path / "hf")
    assert (again.model.embed_size, again.model.projected) == (D, False)
    close(our_logits(again, batch), found, batch["mask"])


def test_a_folder_of_ours_keeps_the_order(weights, tmp_path):
    save_weights(weights, tmp_path / "ours")
    assert load_weights(tmp_path / "ours").model == weights.model


def test_the_eight_bit_encoder_has_the_same_order(weights, batch):
    """The projection stays float, so with everything left out the answers are those of float32."""
    for parts, tolerance in ((("embeddings", "layers", "pooler", "mlm", "pair"), 2e-5), ((), 0.6)):
        container = quantized.quantize(weights, leave_out=parts)
        assert "projection/kernel" in container.floats
        found = int8_encoder.answer(
            quantized.jax_params(container), container.model, None, batch["ids"], batch["mask"], batch["types"]
        )
        real = batch["mask"] > 0
        wanted = their_logits(variables(), **batch)[1]
        np.testing.assert_allclose(np.asarray(found["logits"])[real], wanted[real], atol=tolerance)


@pytest.mark.thorough
def test_training_reaches_the_projection_from_both_ends(weights, batch):
    """The gradient of the masked-LM loss by the kernel equals a finite difference of their loss in float64."""
    ids, mask, types = batch["ids"], batch["mask"], batch["types"]
    places = np.tile(np.arange(ids.shape[1], dtype=np.int32), (len(ids), 1))
    model = PretrainingModel(weights.model, "float32")
    labels = np.random.default_rng(5).integers(0, V, ids.shape)

    def loss(params):
        mlm, _ = model.apply({"params": params}, ids, mask, places, types, 0 * ids[:, :1], places)
        picked = np.arange(len(ids))[:, None], np.arange(ids.shape[1])[None], labels
        return -(jax.nn.log_softmax(mlm)[picked] * mask.astype(np.float32)).sum()

    gradient = np.asarray(jax.grad(loss)(weights.params)["projection"]["kernel"])
    draw = np.random.default_rng(6)
    direction = draw.normal(size=(E, D))
    exact = {name: value.astype(np.float64) for name, value in variables().items() if name in SHAPES}

    def their_loss(step):
        moved = exact | {"bert/embeddings/word_embeddings_2": exact["bert/embeddings/word_embeddings_2"] + step}
        logits = their_logits(moved, ids, mask, types)[1]
        logits = logits - logits.max(-1, keepdims=True)
        chosen = np.take_along_axis(logits, labels[..., None], -1)[..., 0] - np.log(np.exp(logits).sum(-1))
        return -(chosen * mask).sum()

    slope = (their_loss(1e-5 * direction) - their_loss(-1e-5 * direction)) / 2e-5
    np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-3)


def test_a_base_checkpoint_and_one_with_equal_widths_are_read():
    """Without the pretraining heads; and as the first commits wrote it, with words as wide as the hidden states."""
    encoder = {name: value for name, value in variables().items() if name.startswith("bert/")}
    assert "mlm" not in tensorflow.from_variables(encoder, CONFIG, "x").params
    draw = np.random.default_rng(0)
    wide = variables()
    for name, shape in (("word_embeddings", (V, D)), ("word_embeddings_2", (D, D))):
        wide[f"bert/embeddings/{name}"] = draw.normal(size=shape).astype(np.float32)
    without = {key: value for key, value in CONFIG.items() if key != "embedding_size"}
    model = tensorflow.from_variables(wide, without, "x").model
    assert (model.embed_size, model.projection, model.projects_words) == (D, "always", True)


def test_shared_layers_without_a_projection_are_read():
    """`layer_shared` over a plain table: ALBERT with equal widths."""
    plain = variables()
    del plain["bert/embeddings/word_embeddings_2"]
    plain["bert/embeddings/word_embeddings"] = np.ones((V, D), np.float32)
    model = tensorflow.from_variables(plain, CONFIG, "x").model
    assert (model.share, model.projected, model.embed_size) == ("all", False, D)


def test_numbered_layers_with_a_projection_are_read():
    """`share_parameter_across_layers` off: BERT's layers on projected words."""
    numbered = {}
    for name, value in variables().items():
        for i in range(N) if LAYER in name else [0]:
            numbered[name.replace("layer_shared", f"layer_{i}")] = value
    model = tensorflow.from_variables(numbered, CONFIG, "x").model
    assert (model.share, model.embed_size, model.embedding_order) == ("none", E, "project_then_sum")


def test_what_is_missing_is_named_as_in_the_checkpoint():
    short = variables()
    del short[f"{LAYER}/output/dense/kernel"]
    with pytest.raises(UserError, match=rf"missing: {LAYER}/output/dense/kernel$"):
        tensorflow.from_variables(short, CONFIG, "x")


def test_layer_norms_before_are_refused_by_name():
    with pytest.raises(UserError, match="ln_type is preln"):
        tensorflow.from_variables(variables(), CONFIG | {"ln_type": "preln"}, "x")


def test_the_config_may_have_the_projects_own_name(tmp_path):
    """The archives hold albert_config_tiny.json and the like."""
    (tmp_path / "albert_model.ckpt.index").touch()
    (tmp_path / "albert_config_tiny.json").write_text(json.dumps(CONFIG))
    assert tensorflow.config_beside(tmp_path / "albert_model.ckpt").name == "albert_config_tiny.json"


@pytest.mark.parametrize("preset", [presets.ALBERT_TINY_ZH, presets.ALBERT_BASE_ZH, presets.ALBERT_LARGE_ZH])
def test_parameters_are_counted_as_the_model_has_them(preset):
    """Words [V, 128], kernel [128, D] without a bias, everything else of width D."""
    d, f = preset.hidden_size, preset.ffn_size
    assert preset.vocab_size == 21_128
    layer = 4 * (d * d + d) + d * f + f + f * d + d + 4 * d
    encoder = 21_128 * 128 + 128 * d + (512 + 2) * d + 2 * d + layer
    heads = d * d + d + 2 * d + 21_128 + 2 * (d + 1)
    count = flops.parameters(preset)
    assert (count["encoder"], count["heads"]) == (encoder, heads)
    assert sum(math.prod(shape) for shape in parameters.shapes(preset).values()) == count["total"]
    once = flops.forward_flops_per_row(preset, 128, 20, 1)
    google = dataclasses.replace(preset, embedding_order="sum_then_project")
    # The head's dense layer is D x D and not D x E, and the way back through the projection comes on top.
    assert once - flops.forward_flops_per_row(google, 128, 20, 1) == 2 * 20 * d * d
