"""Fine-tuned checkpoints of google-research's scripts come in with their heads, or the encoder alone and a warning.

Reports: huggingface/transformers #1619, #2061, #3779, #676; google-research/albert #241. The variables' names are those
of run_classifier.py, run_squad.py, run_race.py and run_squad_v2.py.
"""

import numpy as np
import pytest
from tensorflow_examples import CONFIGS, D, released

from bertlite_jax.config.model import Head
from bertlite_jax.convert import tensorflow
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights, load_weights, save_weights
from bertlite_jax.errors import UserError

draw = np.random.default_rng(0)


def drawn(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def fine_tuned(family: str, head: dict[str, np.ndarray], pretraining: bool = False) -> dict[str, np.ndarray]:
    """The encoder with its pooler, a head, and what Adam and the estimator add."""
    encoder = {name: value for name, value in released(family).items() if pretraining or name.startswith("bert/")}
    slots = {f"{name}/{slot}": value for name, value in head.items() for slot in ("adam_m", "adam_v")}
    return encoder | head | slots | {"global_step": np.array(343, np.int64)}


def read(family: str, variables: dict[str, np.ndarray], **choices) -> Weights:
    return tensorflow.from_variables(variables, CONFIGS[family], "out/model.ckpt-343", **choices)


CLASSIFIER = drawn(output_weights=(3, D), output_bias=(3,))
SPANS = drawn(**{"cls/squad/output_weights": (2, D), "cls/squad/output_bias": (2,)})
CONDITIONED = drawn(
    **{
        "start_logits/dense/kernel": (D, 1), "start_logits/dense/bias": (1,),
        "end_logits/dense_0/kernel": (2 * D, D), "end_logits/dense_0/bias": (D,),
        "end_logits/LayerNorm/gamma": (D,), "end_logits/LayerNorm/beta": (D,),
        "end_logits/dense_1/kernel": (D, 1), "end_logits/dense_1/bias": (1,),
        "answer_class/dense_0/kernel": (2 * D, D), "answer_class/dense_0/bias": (D,),
        "answer_class/dense_1/kernel": (D, 1),
    }
)  # fmt: skip


@pytest.mark.parametrize("family", ["albert", "bert"])
@pytest.mark.parametrize("labels", [(), ("contradiction", "entailment", "neutral")])
def test_a_classifier_comes_with_its_head(family, labels, tmp_path):
    weights = read(family, fine_tuned(family, CLASSIFIER), labels=labels)
    assert weights.head == Head("classify", labels or ("LABEL_0", "LABEL_1", "LABEL_2"))
    np.testing.assert_array_equal(weights.params["head"]["output"]["kernel"], CLASSIFIER["output_weights"].T)
    np.testing.assert_array_equal(weights.params["head"]["output"]["bias"], CLASSIFIER["output_bias"])
    assert weights.model.pooler
    assert {"mlm", "pair"} & weights.params.keys() == set()
    save_weights(weights, tmp_path / "out")
    assert load_weights(tmp_path / "out").head == weights.head


def test_pretraining_heads_beside_a_task_head_are_not_the_models():
    """Some exports keep them: a task model has none."""
    weights = read("bert", fine_tuned("bert", CLASSIFIER, pretraining=True))
    parameters.check_shapes(parameters.flatten(weights.params), weights.model, "x", weights.head)


@pytest.mark.parametrize("family", ["albert", "bert"])
def test_a_head_for_squad_comes_without_the_pooler(family):
    weights = read(family, fine_tuned(family, SPANS))
    assert weights.head == Head("span", labels=(), dropout=0.0)
    assert "pooler" not in weights.params
    np.testing.assert_array_equal(weights.params["head"]["output"]["kernel"], SPANS["cls/squad/output_weights"].T)


def test_alberts_head_for_squad_2_is_the_conditioned_one():
    """The order of the halves of its joined kernels is that of the same source: [token, start] and [start, CLS]."""
    weights = read("albert", fine_tuned("albert", CONDITIONED))
    head = weights.head
    assert head is not None
    assert (head.conditioned, head.no_answer) == (True, True)
    found = parameters.flatten(weights.params["head"])
    np.testing.assert_array_equal(found["end_hidden/kernel"], CONDITIONED["end_logits/dense_0/kernel"])
    np.testing.assert_array_equal(found["end_norm/scale"], CONDITIONED["end_logits/LayerNorm/gamma"])
    np.testing.assert_array_equal(found["answer_hidden/kernel"], CONDITIONED["answer_class/dense_0/kernel"])
    np.testing.assert_array_equal(found["answer/kernel"], CONDITIONED["answer_class/dense_1/kernel"])
    assert sum(value.size for value in found.values()) == sum(value.size for value in CONDITIONED.values())


def test_one_output_is_a_regression_unless_it_scores_choices(caplog):
    """STS-B and RACE have the same variables."""
    one = drawn(output_weights=(1, D), output_bias=(1,))
    assert read("albert", fine_tuned("albert", one)).head == Head("classify", ("LABEL_0",), "regression")
    assert "--head choose" in caplog.text
    caplog.clear()
    assert read("albert", fine_tuned("albert", one), head="choose").head == Head("choose", labels=())
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("choice", "head"),
    [
        ("tag", Head("tag", ("O", "B", "I"))),
        ("multi_label", Head("classify", ("O", "B", "I"), "multi_label")),
        ("classify", Head("classify", ("O", "B", "I"))),
    ],
)
def test_the_user_says_what_the_head_is_for(choice, head):
    assert read("bert", fine_tuned("bert", CLASSIFIER), head=choice, labels=("O", "B", "I")).head == head


@pytest.mark.parametrize("scope", ["loss/", "my_task/"])
def test_a_head_in_a_scope_of_its_own_is_found(scope):
    scoped = {f"{scope}{name}": value for name, value in CLASSIFIER.items()}
    assert read("bert", fine_tuned("bert", scoped)).head is not None


@pytest.mark.parametrize("extra", ["dense/kernel", "Variable"])
def test_heads_of_other_forms_are_left_out_with_their_names(extra, caplog):
    weights = read("bert", fine_tuned("bert", drawn(**{extra: (D, 3)})))
    assert weights.head is None
    assert weights.model.pooler
    assert f"the encoder was read; left out: {extra}" in caplog.text


# --- Taggers ---------------------------------------------------------------------------------------------------------

DENSE = drawn(**{"dense/kernel": (D, 5), "dense/bias": (5,)})
LOGITS = drawn(**{"project/logits/W": (D, 5), "project/logits/b": (5,)})
TAGGER = drawn(output_weights=(5, D), output_bias=(5,))
BILSTM = drawn(
    **{
        "rnn_layer/bidirectional_rnn/fw/lstm_cell/kernel": (D + 4, 16),
        "project/hidden/W": (8, 4), "project/hidden/b": (4,),
        "project/logits/W": (4, 5), "project/logits/b": (5,),
    }
)  # fmt: skip
TRANSITIONS = ["crf_loss/transition", "crf_loss/transitions", "transitions", "loss/crf_loss/transitions"]


@pytest.mark.parametrize("layer", [DENSE, LOGITS, TAGGER])
@pytest.mark.parametrize("transitions", TRANSITIONS)
@pytest.mark.parametrize("choice", ["auto", "classify"])
def test_a_tagger_with_a_crf_is_refused_and_no_classifier(layer, transitions, choice):
    """kyzhouhzau/BERT-NER, macanv/BERT-BiLSTM-CRF-NER."""
    variables = fine_tuned("bert", layer | drawn(**{transitions: (5, 5)}))
    with pytest.raises(UserError) as caught:
        read("bert", variables, head=choice)
    assert f"a CRF chooses the labels ({transitions}), and our heads have none; the import with --head tag" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
    assert read("bert", variables, head="none").head is None


@pytest.mark.parametrize("layer", [DENSE, LOGITS, TAGGER])
def test_a_tagger_comes_without_its_crf_on_demand_and_a_line_says_so(layer, caplog):
    variables = fine_tuned("bert", layer | drawn(**{"crf_loss/transition": (5, 5)}))
    labels = ("O", "B-PER", "I-PER", "[CLS]", "[SEP]")
    weights = read("bert", variables, head="tag", labels=labels)
    assert weights.head == Head("tag", labels)
    kernel = next(iter(layer.values()))
    np.testing.assert_array_equal(weights.params["head"]["output"]["kernel"], kernel.T if layer is TAGGER else kernel)
    assert "without its CRF (crf_loss/transition), the tagger labels each word by itself" in caplog.text


@pytest.mark.parametrize("choice", ["auto", "tag"])
def test_a_tagger_over_a_recurrent_layer_is_refused(choice):
    """Also as a tagger: its outputs read the recurrent states."""
    variables = fine_tuned("bert", BILSTM | drawn(**{"crf_loss/transitions": (5, 5)}))
    with pytest.raises(UserError, match=r"a recurrent layer \(rnn_layer/.*/fw/lstm_cell/kernel\) stands between"):
        read("bert", variables, head=choice)
    assert read("bert", variables, head="none").head is None


def test_a_classifier_without_a_pooler_is_told_that_it_may_be_a_tagger():
    variables = {name: value for name, value in fine_tuned("bert", TAGGER).items() if "/pooler/" not in name}
    with pytest.raises(UserError, match=r"reads the pooler, and there is none .*--head tag reads a tagger's head"):
        read("bert", variables)
    assert read("bert", variables, head="tag").head == Head("tag", tuple(f"LABEL_{i}" for i in range(5)))


def test_of_several_dense_layers_none_is_guessed():
    hidden = drawn(**{"hidden/kernel": (D, D), "hidden/bias": (D,)})
    with pytest.raises(UserError, match=r"no task head that can be read.*dense/kernel.*hidden/kernel"):
        read("bert", fine_tuned("bert", DENSE | hidden), head="tag")


# --- What is left out ------------------------------------------------------------------------------------------------


def test_a_head_is_left_out_on_demand(caplog):
    assert read("bert", fine_tuned("bert", CLASSIFIER), head="none").head is None
    assert "the encoder was read; left out: output_weights, output_bias" in caplog.text


def test_no_line_where_nothing_was_left_out(caplog):
    read("bert", fine_tuned("bert", CLASSIFIER))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("head", "choices", "message"),
    [
        (CLASSIFIER, {"labels": ("a", "b")}, "--labels has 2 names, and the head has 3 rows"),
        (CLASSIFIER, {"labels": ("a", "b", "a")}, "--labels has a name twice"),
        (CLASSIFIER, {"head": "span"}, "a head for span has 2 rows, and output_weights has 3"),
        (SPANS, {"labels": ("a", "b")}, "the outputs of a head for span have no names"),
        ({}, {"head": "classify"}, "no task head that can be read"),
        ({}, {"labels": ("a", "b")}, "no task head that can be read"),
    ],
)
def test_what_does_not_fit_is_one_line(head, choices, message):
    with pytest.raises(UserError) as caught:
        read("bert", fine_tuned("bert", head), **choices)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# --- Names of other versions -----------------------------------------------------------------------------------------


def keras_names(family: str) -> dict[str, np.ndarray]:
    """LayerNorms as Keras layers name them: counted through the whole graph."""
    renamed, count = {}, -1
    for name, value in released(family, slots=False).items():
        if "/LayerNorm" in name:
            scope, leaf = name.rsplit("/", 1)
            count += leaf == "gamma"
            number = f"_{count}" if count else ""
            name = f"{scope.rsplit('/', 1)[0]}/layer_normalization{number}/{leaf}"
        renamed[name] = value
    return renamed


@pytest.mark.parametrize("family", ["albert", "bert"])
def test_norms_of_keras_layers_are_those_of_the_release(family):
    """google-research/albert #241, huggingface/transformers #10774."""
    wanted = parameters.flatten(read(family, released(family)).params)
    found = parameters.flatten(read(family, keras_names(family)).params)
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


def test_norms_of_each_layer_beside_shared_kernels_are_named():
    """The graph of that report: group_0 has the kernels, group_0_2/layer_2 two norms of its own."""
    variables = keras_names("albert")
    scope = "bert/encoder/transformer/group_0_2/layer_2/inner_group_0/layer_normalization_5"
    variables |= {f"{scope}/gamma": np.ones(D, np.float32), f"{scope}/beta": np.zeros(D, np.float32)}
    with pytest.raises(UserError, match="written through Keras layers: every layer has LayerNorms of its own"):
        read("albert", variables)


def test_both_spellings_of_a_norm_are_one_or_refused_with_both():
    scope = "bert/encoder/layer_0/output"
    variables = released("bert")
    variables |= {
        f"{scope}/layer_normalization_2/{leaf}": variables[f"{scope}/LayerNorm/{leaf}"] for leaf in ("gamma", "beta")
    }
    read("bert", variables)
    variables[f"{scope}/layer_normalization_2/beta"] = variables[f"{scope}/LayerNorm/beta"] + 1
    with pytest.raises(UserError, match=f"layer_normalization_2/beta.*two spellings of {scope}/LayerNorm/beta"):
        read("bert", variables)


def test_a_scope_around_the_model_is_taken_off():
    scoped = {f"tower_0/{name}": value for name, value in released("bert").items()}
    assert (
        parameters.flatten(read("bert", scoped).params).keys()
        == parameters.flatten(read("bert", released("bert")).params).keys()
    )


def test_slots_of_any_optimiser_and_counters_of_any_name_are_no_weights():
    variables = fine_tuned("bert", CLASSIFIER)
    variables |= {f"{name}/ExponentialMovingAverage": value for name, value in CLASSIFIER.items()}
    variables |= {"loss_scale/good_steps": np.array(3), "learning_rate": np.array(1e-5)}
    # A caller that has no TensorFlow may hold the step as a plain number.
    variables["global_step"] = 5  # pyright: ignore[reportArgumentType]
    assert read("bert", variables).head is not None


def test_values_that_are_no_numbers_are_refused():
    variables = released("bert")
    variables["bert/pooler/dense/bias"] = np.full(D, np.nan, np.float32)
    with pytest.raises(UserError, match="NaN or infinity in pooler/bias"):
        read("bert", variables)
    variables["bert/pooler/dense/bias"] = np.zeros(D, np.int64)
    with pytest.raises(UserError, match=r"weights must be floats, and these are not: bert/pooler/dense/bias \(int64\)"):
        read("bert", variables)
    with pytest.raises(UserError, match="weights must be floats, and these are not: output_weights"):
        read("bert", fine_tuned("bert", CLASSIFIER | {"output_weights": np.ones((3, D), np.int32)}))
