"""Checkpoints of google-research/albert and google-research/bert, by the names that their graphs give the variables.

The names come from `tensorflow_examples`, which spells them out a second time.
"""

import json
import os
import pathlib
import shutil
import sys
import types

import numpy as np
import pytest
from tensorflow_examples import ALBERT, BERT, CONFIGS, D, E, F, N, P, V, released

from bertlite_jax.convert import tensorflow
from bertlite_jax.convert.weights import parameters
from bertlite_jax.errors import UserError


def read(family: str, variables: dict[str, np.ndarray], **changes):
    return tensorflow.from_variables(variables, CONFIGS[family] | changes, "model.ckpt", config_name="config.json")


def refusal(family: str, variables: dict[str, np.ndarray], **changes) -> str:
    with pytest.raises(UserError) as caught:
        read(family, variables, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Names, without TensorFlow ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["albert", "bert"])
def test_every_variable_of_the_release_has_one_place_and_every_place_one_variable(family):
    """As many numbers come out as went in, and each parameter has the shape that our model needs."""
    weights = read(family, released(family))
    flat = parameters.flatten(weights.params)
    parameters.check_shapes(flat, weights.model, "result")
    assert parameters.missing_parts(weights.params, weights.model) == []
    written = np.concatenate([value.ravel() for value in released(family, slots=False).values()])
    found = np.concatenate([value.ravel() for value in flat.values()])
    np.testing.assert_array_equal(np.sort(written), np.sort(found))


def test_alberts_groups_are_stacked_in_order():
    variables = released("albert")
    params = read("albert", variables).params["layers"]
    for group in range(2):
        scope = f"bert/encoder/transformer/group_{group}/inner_group_0"
        pairs = {
            f"{scope}/attention_1/self/query/kernel": params["attention"]["query"]["kernel"],
            f"{scope}/attention_1/self/key/bias": params["attention"]["key"]["bias"],
            f"{scope}/attention_1/self/value/kernel": params["attention"]["value"]["kernel"],
            f"{scope}/attention_1/output/dense/kernel": params["attention"]["output"]["kernel"],
            f"{scope}/LayerNorm/gamma": params["norms"]["attention"]["scale"],
            f"{scope}/LayerNorm_1/beta": params["norms"]["ffn"]["bias"],
            f"{scope}/ffn_1/intermediate/dense/kernel": params["ffn"]["up"]["kernel"],
            f"{scope}/ffn_1/intermediate/output/dense/kernel": params["ffn"]["down"]["kernel"],
        }
        for name, value in pairs.items():
            np.testing.assert_array_equal(value[group], variables[name], err_msg=name)


def test_berts_layers_are_stacked_in_order():
    """Sorting the names would give another order: layer_10 comes before layer_2 in a sorted list."""
    variables = released("bert")
    for i in range(N, 11):
        source = {name: value for name, value in variables.items() if "/layer_0/" in name}
        variables |= {name.replace("layer_0", f"layer_{i}"): value + i for name, value in source.items()}
    params = read("bert", variables, num_hidden_layers=11).params["layers"]
    for i in range(11):
        scope = f"bert/encoder/layer_{i}"
        for name, value in {
            f"{scope}/attention/self/value/kernel": params["attention"]["value"]["kernel"],
            f"{scope}/attention/output/LayerNorm/gamma": params["norms"]["attention"]["scale"],
            f"{scope}/intermediate/dense/bias": params["ffn"]["up"]["bias"],
            f"{scope}/output/dense/kernel": params["ffn"]["down"]["kernel"],
            f"{scope}/output/LayerNorm/beta": params["norms"]["ffn"]["bias"],
        }.items():
            np.testing.assert_array_equal(value[i], variables[name], err_msg=name)


@pytest.mark.parametrize("family", ["albert", "bert"])
def test_heads_and_tables_are_read(family):
    """Kernels are [in, out] in TensorFlow as in Flax; the pair head alone is [classes, D]."""
    variables = released(family)
    params = read(family, variables).params
    np.testing.assert_array_equal(params["pair"]["kernel"], variables["cls/seq_relationship/output_weights"].T)
    np.testing.assert_array_equal(params["mlm"]["bias"], variables["cls/predictions/output_bias"])
    np.testing.assert_array_equal(params["mlm"]["dense"]["kernel"], variables["cls/predictions/transform/dense/kernel"])
    np.testing.assert_array_equal(params["pooler"]["kernel"], variables["bert/pooler/dense/kernel"])
    for ours, theirs in (("word", "word_embeddings"), ("token_type", "token_type_embeddings")):
        np.testing.assert_array_equal(params["embeddings"][ours]["embedding"], variables[f"bert/embeddings/{theirs}"])


def test_the_config_becomes_our_shape():
    model = read("albert", released("albert")).model
    assert (model.vocab_size, model.embed_size, model.hidden_size, model.ffn_size) == (V, E, D, F)
    assert (model.num_layers, model.num_heads, model.share, model.share_groups) == (N, 2, "all", 2)
    assert (model.hidden_dropout, model.attention_dropout, model.max_positions, model.token_types) == (0.1, 0.2, P, 2)
    assert (model.norm_epsilon, model.pooler, model.pair_classes) == (1e-12, True, 2)
    assert read("albert", released("albert")).pair_task == "sop"
    assert read("bert", released("bert")).pair_task == "nsp"


@pytest.mark.parametrize(
    ("family", "wanted", "found"),
    [("albert", "auto", "gelu_tanh"), ("bert", "auto", "gelu_erf"), ("bert", "gelu_tanh", "gelu_tanh")],
)
def test_gelu_is_the_form_that_the_weights_were_trained_with(family, wanted, found):
    """albert/modeling.py has the tanh form; BERT's weights of 2018 precede bert@bee6030, which brought it there."""
    weights = tensorflow.from_variables(released(family), CONFIGS[family], "x", activation=wanted)
    assert weights.model.activation == found


def test_equal_widths_have_no_projection():
    """`modeling.py` makes embedding_hidden_mapping_in only where the widths differ."""
    variables = released("albert")
    projection = [name for name in variables if "embedding_hidden_mapping_in" in name]
    for name in projection:
        del variables[name]
    draw = np.random.default_rng(1)
    for name in [name for name in variables if "embeddings/" in name or "predictions/transform" in name]:
        shape = tuple(D if size == E else size for size in variables[name].shape)
        variables[name] = draw.normal(size=shape).astype(np.float32)
    weights = read("albert", variables, embedding_size=D)
    assert "projection" not in weights.params
    assert weights.model.embed_size == D


def test_names_of_tf_hub_and_the_slots_of_other_optimisers_are_understood():
    variables = {f"module/{name}": value for name, value in released("albert", slots=False).items()}
    first = "module/bert/embeddings/word_embeddings"
    variables |= {f"{first}/{slot}": variables[first] for slot in ("lamb_m", "Adam", "Adam_1", "LAMB/adam_v")}
    variables |= {"beta1_power": np.array(0.9), "beta2_power": np.array(0.999)}
    assert parameters.missing_parts((read("albert", variables)).params, read("albert", variables).model) == []


def test_a_checkpoint_without_heads_gives_an_encoder():
    """export_checkpoints.py and many published files hold the encoder alone."""
    variables = {name: value for name, value in released("bert").items() if name.startswith("bert/")}
    weights = read("bert", variables)
    assert {"mlm", "pair"} & weights.params.keys() == set()
    assert weights.model.pooler
    assert weights.model.pair_classes == 0
    assert weights.pair_task == "none"


def test_everything_that_does_not_fit_is_listed_in_one_error():
    variables = released("albert")
    del variables["bert/encoder/transformer/group_1/inner_group_0/LayerNorm_1/gamma"]
    del variables["cls/predictions/output_bias"]
    variables["bert/encoder/transformer/group_2/inner_group_0/LayerNorm/beta"] = np.zeros(D, np.float32)
    variables["bert/pooler/dense/kernel"] = np.zeros((D, D + 1), np.float32)
    line = refusal("albert", variables)
    assert "missing: " in line
    assert "unknown: " in line
    assert "wrong shape: " in line
    assert "group_1/inner_group_0/LayerNorm_1/gamma" in line
    assert "cls/predictions/output_bias" in line
    assert "group_2/inner_group_0/LayerNorm/beta" in line
    assert f"bert/pooler/dense/kernel is {(D, D + 1)}, wanted {(D, D)}" in line


def test_a_config_of_another_model_is_refused():
    assert "bert/encoder/layer_4/output/dense/kernel" in refusal("bert", released("bert"), num_hidden_layers=5)
    assert "bert/encoder/layer_3/output/dense/kernel" in refusal("bert", released("bert"), num_hidden_layers=3)
    assert f"word_embeddings is {(V, D)}, wanted {(V + 1, D)}" in refusal("bert", released("bert"), vocab_size=V + 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner_group_num": 2}, "config.json: inner_group_num is 2"),
        ({"ln_type": "preln"}, "ln_type is preln"),
        ({"hidden_act": "tanh"}, "hidden_act is tanh"),
        ({"num_hidden_groups": 3}, "share_groups"),
        ({"hidden_size": "8"}, "config.json: hidden_size is '8'; it should be a value such as 4096"),
        ({"vocab_size": None}, "config.json: vocab_size is None"),
    ],
)
def test_models_that_ours_cannot_be_are_refused_by_name(change, message):
    assert message in refusal("albert", released("albert"), **change)


def test_checkpoints_of_other_programs_are_refused():
    assert "no checkpoint of google-research" in refusal("albert", {"dense/kernel": np.zeros((2, 2))})
    graph = {"_CHECKPOINTABLE_OBJECT_GRAPH": np.zeros(1), "model/layer-0/.ATTRIBUTES/VARIABLE_VALUE": np.zeros(1)}
    assert "TensorFlow 2 object checkpoint" in refusal("bert", graph)


# --- Which files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def two_checkpoints(tmp_path) -> pathlib.Path:
    for step in (5000, 10_000):
        for ending in ("index", "data-00000-of-00001", "meta"):
            (tmp_path / f"model.ckpt-{step}.{ending}").touch()
    return tmp_path


@pytest.mark.parametrize("ending", ["", ".index", ".meta", ".data-00000-of-00001"])
def test_a_checkpoint_is_named_by_its_prefix_or_any_of_its_files(ending, two_checkpoints):
    named = two_checkpoints / f"model.ckpt-5000{ending}"
    assert tensorflow.checkpoint_prefix(named) == two_checkpoints / "model.ckpt-5000"


def test_of_several_checkpoints_the_state_file_names_the_newest(two_checkpoints):
    """TensorFlow writes the path that the checkpoint had where it was trained."""
    with pytest.raises(UserError, match=r"several checkpoints: model.ckpt-10000, model.ckpt-5000; name one"):
        tensorflow.checkpoint_prefix(two_checkpoints)
    (two_checkpoints / "checkpoint").write_text(
        'model_checkpoint_path: "/gone/run/model.ckpt-10000"\nall_model_checkpoint_paths: "model.ckpt-5000"\n'
    )
    assert tensorflow.checkpoint_prefix(two_checkpoints) == two_checkpoints / "model.ckpt-10000"


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match="has no TensorFlow checkpoint"):
        tensorflow.checkpoint_prefix(tmp_path)
    with pytest.raises(UserError, match=r"nothing.index does not exist"):
        tensorflow.checkpoint_prefix(tmp_path / "nothing")
    (tmp_path / "model.ckpt.index").touch()
    with pytest.raises(UserError, match=r"neither albert_config.json nor bert_config.json; pass --config"):
        tensorflow.from_tf(tmp_path)


def test_without_tensorflow_the_install_command_is_given(tmp_path, monkeypatch):
    (tmp_path / "model.ckpt.index").touch()
    (tmp_path / "bert_config.json").write_text(json.dumps(BERT))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match=r'pip install "bertlite_jax\[tensorflow\]"$'):
        tensorflow.from_tf(tmp_path)


def test_slots_and_counters_are_not_even_read(tmp_path, monkeypatch):
    """Two thirds of most files are the optimiser's."""
    variables = released("bert")
    asked = []

    class Reader:
        def get_variable_to_shape_map(self):
            return {name: list(value.shape) for name, value in variables.items()}

        def get_tensor(self, name):
            asked.append(name)
            return variables[name]

    stub = types.SimpleNamespace(
        train=types.SimpleNamespace(load_checkpoint=lambda prefix: Reader()),
        errors=types.SimpleNamespace(OpError=ZeroDivisionError),
    )
    monkeypatch.setitem(sys.modules, "tensorflow", stub)
    (tmp_path / "model.ckpt.index").touch()
    (tmp_path / "bert_config.json").write_text(json.dumps(BERT))
    found = parameters.flatten(tensorflow.from_tf(tmp_path).params)
    np.testing.assert_array_equal(found["mlm/bias"], variables["cls/predictions/output_bias"])
    assert sorted(asked) == sorted(released("bert", slots=False))


# --- Real files, with TensorFlow -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tf():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return pytest.importorskip("tensorflow", reason="TensorFlow is not installed")


def write_checkpoint(tf, prefix: pathlib.Path, variables: dict[str, np.ndarray]) -> None:
    names = sorted(variables)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(variables[name]) for name in names],
    )


@pytest.mark.parametrize("family", ["albert", "bert"])
@pytest.mark.parametrize("named", ["", "model.ckpt-best", "model.ckpt-best.index"])
def test_a_written_checkpoint_is_read_back_exactly(tf, family, named, tmp_path):
    write_checkpoint(tf, tmp_path / "model.ckpt-best", released(family))
    (tmp_path / f"{family}_config.json").write_text(json.dumps(CONFIGS[family]))
    read_back = tensorflow.from_tf(tmp_path / named)
    wanted = read(family, released(family))
    assert read_back.model == wanted.model
    found = parameters.flatten(read_back.params)
    for path, value in parameters.flatten(wanted.params).items():
        np.testing.assert_array_equal(found[path], value)
        assert found[path].dtype == np.float32


def test_a_checkpoint_that_a_session_saved_is_read(tf, tmp_path):
    """The reference trains with TensorFlow 1 sessions, whose saver this is."""
    variables = released("albert")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = [tf.compat.v1.get_variable(name, initializer=value) for name, value in variables.items()]
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(made).save(session, str(tmp_path / "model.ckpt"), global_step=3)
    (tmp_path / "albert_config.json").write_text(json.dumps(ALBERT))
    flat = parameters.flatten(tensorflow.from_tf(tmp_path).params)
    np.testing.assert_array_equal(flat["mlm/bias"], variables["cls/predictions/output_bias"])


def test_half_precision_becomes_float32(tf, tmp_path):
    variables = {name: value.astype(np.float16) for name, value in released("bert", slots=False).items()}
    write_checkpoint(tf, tmp_path / "model.ckpt", variables)
    (tmp_path / "given.json").write_text(json.dumps(BERT))
    bias = tensorflow.from_tf(tmp_path, tmp_path / "given.json").params["mlm"]["bias"]
    assert bias.dtype == np.float32
    np.testing.assert_array_equal(bias, variables["cls/predictions/output_bias"].astype(np.float32))


@pytest.mark.parametrize("damage", ["index", "data", "no data"])
def test_damaged_files_are_one_line(tf, damage, tmp_path):
    write_checkpoint(tf, tmp_path / "model.ckpt", released("bert"))
    (tmp_path / "bert_config.json").write_text(json.dumps(BERT))
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    path = tmp_path / "model.ckpt.index" if damage == "index" else data
    if damage == "no data":
        shutil.move(data, tmp_path / "elsewhere")
    else:
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"model.ckpt is damaged or incomplete: ") as caught:
        tensorflow.from_tf(tmp_path)
    assert "\n" not in str(caught.value)
