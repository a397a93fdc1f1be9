"""Weights as people have them: wrappers' prefixes, losses beside the model, configs that do not say what they are.

Each is read, with a line that says what was done, or refused in one line.
"""

import json

import numpy as np
import pytest
from foreign_folders import BERT, MODELS, Folder, classifier, drawn, same

from bertlite_jax.config.model import Head
from bertlite_jax.convert.huggingface import foreign_names, names
from bertlite_jax.convert.huggingface.folder import from_hf, to_hf
from bertlite_jax.convert.onnx.folder import config as onnx_config
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.errors import UserError


@pytest.fixture
def task(tmp_path) -> Folder:
    return Folder(tmp_path / "task", classifier())


# --- Prefixes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "_orig_mod.module.", "net.encoder.", "bert_model."]
)
@pytest.mark.parametrize("family", list(MODELS))
def test_a_common_prefix_is_taken_off_and_named(family, prefix, tmp_path, caplog):
    """abhishekkrthakur/bert-sentiment #1, #4; appvision-ai/fast-bert #18."""
    weights = drawn(MODELS[family])
    folder = Folder(tmp_path / "hf", weights)
    folder.tensors = {f"{prefix}{name}": value for name, value in folder.tensors.items()}
    same(from_hf(folder.write()), weights)
    assert f"begin with {prefix}, which was taken off" in caplog.text


@pytest.mark.parametrize("prefix", ["module.", "encoder."])
def test_a_prefix_before_a_base_model_is_taken_off(prefix, tmp_path):
    """A base model has no family's name in its tensors; `self.encoder = BertModel(...)` puts another before them."""
    weights = drawn(BERT)
    encoder = {name: value for name, value in weights.params.items() if name not in ("mlm", "pair")}
    folder = Folder(tmp_path / "hf", Weights(encoder, BERT))
    assert "embeddings.word_embeddings.weight" in folder.tensors
    folder.tensors = {f"{prefix}{name}": value for name, value in folder.tensors.items()}
    same(from_hf(folder.write()), Weights(encoder, BERT))


def test_a_loss_beside_a_wrapped_model_is_left_out(task, caplog):
    """Lightning saves `model.` and, beside it, whatever else the module has."""
    task.tensors = {f"model.{name}": value for name, value in task.tensors.items()}
    task.tensors["criterion.weight"] = np.ones(3, np.float32)
    same(from_hf(task.write()), classifier())
    assert "left out, since the class does not read them: criterion.weight" in caplog.text


def test_two_encoders_in_one_file_are_named(task):
    task.tensors = {f"{side}.{name}": value for name, value in task.tensors.items() for side in ("query", "text")}
    assert "several encoders: query.bert.embeddings.position_embeddings.weight" in task.refused()


def test_adapters_are_to_be_merged_first(task):
    name = "bert.encoder.layer.0.attention.self.query"
    task.tensors[f"base_model.model.{name}.lora_A.default.weight"] = np.ones((2, 8), np.float32)
    assert "save model.merge_and_unload() instead" in task.refused()


def test_brightmarts_names_in_pytorch_are_told_apart(task):
    task.tensors = {name.replace("layer.0", "layer_shared"): value for name, value in task.tensors.items()}
    assert "names are those of brightmart/albert_zh" in task.refused()


def test_nothing_is_said_where_nothing_was_done(task, caplog):
    from_hf(task.path)
    assert caplog.text == ""


# --- No model type ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", list(MODELS))
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_tensors_tell_the_family_where_the_config_does_not(family, prefix, tmp_path, caplog):
    """flairNLP/flair #3529, valuesimplex/FinBERT #13, huggingface/transformers #5475."""
    weights = drawn(MODELS[family])
    folder = Folder(tmp_path / "hf", weights)
    folder.tensors = {f"{prefix}{name}": value for name, value in folder.tensors.items()}
    del folder.config["model_type"], folder.config["architectures"]
    same(from_hf(folder.write()), weights)
    assert f"by the names of its tensors it is {family}" in caplog.text


def test_googles_config_under_its_own_name_is_read(tmp_path):
    """Folders from before transformers 2: bert_config.json, pytorch_model.bin and vocab.txt."""
    folder = Folder(tmp_path / "hf", drawn(BERT))
    del folder.config["model_type"], folder.config["architectures"]
    folder.write()
    (folder.path / "config.json").rename(folder.path / "bert_config.json")
    same(from_hf(folder.path), drawn(BERT))


@pytest.mark.parametrize("change", ["roberta prefix", "roberta class", "roberta positions", "other names"])
def test_models_that_only_look_like_bert_are_refused(change, tmp_path):
    folder = Folder(tmp_path / "hf", drawn(BERT))
    del folder.config["model_type"]
    if change == "roberta prefix":
        folder.tensors = {name.replace("bert.", "roberta.", 1): value for name, value in folder.tensors.items()}
    elif change == "roberta class":
        folder.config["architectures"] = ["FlaxRobertaModel"]
    elif change == "roberta positions":
        folder.tensors["bert.embeddings.position_embeddings.weight"] = np.zeros((514, 8), np.float32)
    else:
        folder.tensors = {"h.0.attn.c_attn.weight": np.zeros((8, 24), np.float32)}
    assert "no model_type" in folder.refused()


# --- Heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stated", ["nothing", "num_labels", "id2label"])
def test_fewer_labels_than_rows_are_one_line_with_both_numbers(stated, task):
    """TencentPretrain #93, huggingface/transformers #135, PR #12664."""
    del task.config["id2label"], task.config["label2id"]
    if stated == "num_labels":
        task.config["num_labels"] = 2
    if stated == "id2label":
        task.config["id2label"] = {"0": "no", "1": "yes"}
    line = task.refused()
    assert "the head has 3 rows (classifier.weight), and config.json names 2 labels" in line
    assert "--labels with 3 names" in line
    head = from_hf(task.path, labels=("no", "yes", "maybe")).head
    assert head == Head("classify", ("no", "yes", "maybe"))


def test_as_many_labels_as_rows_need_no_names(task):
    del task.config["id2label"], task.config["label2id"]
    task.config["num_labels"] = 3
    head = from_hf(task.write()).head
    assert head is not None
    assert head.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize(
    ("names_in_config", "labels"),
    [
        (["no", "yes", "maybe"], ("no", "yes", "maybe")),
        ([1, 2.5, -3], ("1", "2.5", "-3")),
        (["None", "true", "1"], ("None", "true", "1")),
        ([None, True, "a b  c"], ("None", "True", "a b  c")),
        (["", " ", "  "], ("", " ", "  ")),
    ],
)
def test_labels_are_texts_numbers_or_what_python_calls_them(names_in_config, labels, task, tmp_path):
    """huggingface/setfit #462, #587, #124, #476. What comes in goes out again, as a text and in its place."""
    task.config["id2label"] = {str(i): name for i, name in enumerate(names_in_config)}
    read = from_hf(task.write())
    assert read.head is not None
    assert read.head.labels == labels
    assert onnx_config(read)["id2label"] == {str(i): label for i, label in enumerate(labels)}
    to_hf(read, tmp_path / "again")
    written = json.loads((tmp_path / "again" / "config.json").read_text())
    assert written["id2label"] == {str(i): label for i, label in enumerate(labels)}
    assert written["label2id"] == {label: i for i, label in enumerate(labels)}


def test_weights_of_a_loss_are_left_out_with_a_line(task, caplog):
    task.tensors["loss_fct.weight"] = np.ones(3, np.float32)
    same(from_hf(task.write()), classifier())
    assert "left out, since the class does not read them: loss_fct.weight" in caplog.text


def test_inside_the_encoder_nothing_is_left_out(task):
    task.tensors["bert.encoder.layer.0.attention.self.distance_embedding.weight"] = np.ones((3, 4), np.float32)
    assert "unknown: bert.encoder.layer.0.attention.self.distance_embedding.weight" in task.refused()


@pytest.mark.parametrize("classes", [["MyBertClassifier"], [], None])
def test_a_class_of_ones_own_needs_a_word_about_its_head(classes, task):
    task.config["architectures"] = classes
    assert "--head classify" in task.refused()
    same(from_hf(task.path, head="classify"), classifier())
    assert from_hf(task.path, head="none").head is None
    tags = from_hf(task.path, head="tag")
    assert tags.head is not None
    assert (tags.head.kind, tags.model.pooler) == ("tag", False)


def test_a_head_of_another_name_is_found_where_it_is_the_only_one(task):
    task.config["architectures"] = ["MyBertClassifier"]
    task.tensors = {name.replace("classifier.", "fc_out."): value for name, value in task.tensors.items()}
    assert from_hf(task.write()).head is None
    same(from_hf(task.path, head="classify"), classifier())
    task.tensors |= {"second.weight": np.ones((2, 8), np.float32), "second.bias": np.ones(2, np.float32)}
    assert "several could be it: fc_out, second" in task.refused(head="classify")


def test_the_stated_class_tells_what_an_only_head_of_another_name_is(task, caplog):
    """`nn.Sequential` makes classifier.1 of classifier."""
    task.tensors = {name.replace("classifier.", "classifier.1."): value for name, value in task.tensors.items()}
    same(from_hf(task.write()), classifier())
    assert "classifier.1 was read as the head, as nothing else could be it" in caplog.text


@pytest.mark.parametrize("mark", ["Flax", "TF"])
def test_the_mark_of_a_framework_is_no_part_of_the_class(mark, task):
    task.config["architectures"] = [f"{mark}BertForSequenceClassification"]
    same(from_hf(task.write()), classifier())


def test_a_head_that_the_choice_does_not_fit_is_one_line(task):
    task.config["architectures"] = None
    assert "a head for choose has 1 rows, and classifier.weight has 3" in task.refused(head="choose")
    assert "--head span, but no tensor beside the encoder could be it" in task.refused(head="span")
    task.tensors["classifier.weight"] = task.tensors["classifier.weight"][:1]
    task.tensors["classifier.bias"] = task.tensors["classifier.bias"][:1]
    assert "the outputs of a head for choose have no names" in task.refused(head="choose", labels=("a",))


@pytest.mark.parametrize("classes", [["BertForTokenClassification"], ["BertCrfForNer"], None])
def test_a_tagger_with_a_crf_is_refused_unless_asked_for_without_it(classes, task, caplog):
    """kmkurn/pytorch-crf beside a linear layer: without its transitions it gives other labels."""
    task.config["architectures"] = classes
    rows = {"transitions": (3, 3), "start_transitions": (3,), "end_transitions": (3,)}
    task.tensors |= {f"crf.{name}": np.ones(shape, np.float32) for name, shape in rows.items()}
    assert (
        "a CRF chooses the labels (crf.transitions), and our heads have none; the import with --head tag"
        in task.refused()
    )
    tagger = from_hf(task.path, head="tag")
    assert tagger.head is not None
    assert tagger.head.kind == "tag"
    assert "without its CRF (crf.transitions), the tagger labels each word by itself" in caplog.text
    assert from_hf(task.path, head="none").head is None


def test_the_encoder_below_layers_of_ones_own_is_read_where_no_head_is(task, caplog):
    task.config["architectures"] = ["BertLstmCrf"]
    task.tensors = {name.replace("classifier.", "hidden2tag."): value for name, value in task.tensors.items()}
    task.tensors |= {"crf.transitions": np.ones((3, 3), np.float32), "lstm.weight_ih_l0": np.ones((16, 8), np.float32)}
    assert from_hf(task.write()).head is None
    assert "left out, since the class does not read them" in caplog.text
    assert "a recurrent layer (lstm.weight_ih_l0)" in task.refused(head="tag")


@pytest.mark.parametrize("name", ["lstm.weight_ih_l0", "bilstm.weight_hh_l0_reverse", "rnn.weight_ih_l0"])
def test_outputs_over_a_recurrent_layer_are_refused(name, task):
    """With half as many units each way as the encoder is wide, its outputs would fit the encoder as well."""
    task.tensors[name] = np.ones((16, 8), np.float32)
    for choice in ("auto", "tag"):
        assert f"a recurrent layer ({name}) stands between" in task.refused(head=choice)
    assert from_hf(task.path, head="none").head is None


def test_labels_without_a_head_are_refused(tmp_path):
    folder = Folder(tmp_path / "hf", drawn(BERT))
    assert "--labels, and there is no task head" in folder.refused(labels=("a", "b"))


# --- Names -----------------------------------------------------------------------------------------------------------


def test_what_a_task_class_does_not_read_is_dropped_by_name():
    full = names.to_theirs(parameters.flatten(drawn(BERT).params), "bert", BERT)
    extra = {"classifier.weight": np.zeros((3, 8)), "classifier.bias": np.zeros(3), "extra": np.zeros(1)}
    kept, dropped = foreign_names.drop_unread(full | extra, "bert", Head("tag", ("a", "b", "c")))
    assert set(dropped) == {name for name in full if name.startswith(("cls.", "bert.pooler."))} | {"extra"}
    assert len(dropped) == 10
    assert {"classifier.weight", "classifier.bias", "bert.embeddings.LayerNorm.weight"} <= kept.keys()
    pooled = foreign_names.drop_unread(full, "bert", Head("classify"))[1]
    assert not any("pooler" in name for name in pooled)


def test_names_of_base_models_and_of_old_checkpoints_are_understood():
    """A base model has no prefix, the first checkpoints said gamma and beta and stored position_ids."""
    old = {
        "embeddings.LayerNorm.gamma": np.ones(3),
        "embeddings.position_ids": np.arange(4),
        "encoder.layer.0.output.LayerNorm.beta": np.zeros(3),
        "pooler.dense.bias": np.zeros(3),
    }
    assert set(foreign_names.canonical_names(old, "bert", "test")) == {
        "bert.embeddings.LayerNorm.weight",
        "bert.encoder.layer.0.output.LayerNorm.bias",
        "bert.pooler.dense.bias",
    }


def test_repeated_tied_tensors_are_dropped_and_an_untied_decoder_is_refused():
    table = np.arange(6.0).reshape(3, 2)
    tied = {"bert.embeddings.word_embeddings.weight": table, "cls.predictions.decoder.weight": table.copy()}
    assert set(foreign_names.canonical_names(tied, "bert", "test")) == {"bert.embeddings.word_embeddings.weight"}
    tied["cls.predictions.decoder.weight"] = table + 1
    with pytest.raises(UserError, match="our model ties them"):
        foreign_names.canonical_names(tied, "bert", "test")


@pytest.mark.parametrize(("old", "new"), [("gamma", "weight"), ("beta", "bias")])
def test_two_spellings_of_one_tensor_are_one_or_refused_with_both(old, new, task):
    """Tools that rename without removing leave both; only one of two that differ was trained."""
    norm = "bert.encoder.layer.1.output.LayerNorm"
    task.tensors[f"{norm}.{old}"] = task.tensors[f"{norm}.{new}"].copy()
    same(from_hf(task.write()), classifier())
    task.tensors[f"{norm}.{old}"] += 1
    line = task.refused()
    assert f"are two spellings of {norm}.{new}, and they differ" in line
    assert f"{norm}.{old}" in line


@pytest.mark.parametrize("prefix", ["bert.", "module."])
def test_a_tensor_with_and_without_its_prefix_is_one_or_refused_with_both(prefix, tmp_path):
    """Of a base model, and of one in a wrapper."""
    weights = drawn(BERT)
    encoder = Weights({name: value for name, value in weights.params.items() if name not in ("mlm", "pair")}, BERT)
    folder = Folder(tmp_path / "hf", encoder)
    name = "pooler.dense.bias"
    if prefix == "module.":
        folder.tensors = {f"{prefix}{name}": value for name, value in folder.tensors.items()}
        folder.tensors[name] = folder.tensors[f"{prefix}{name}"].copy()
    else:
        folder.tensors[f"{prefix}{name}"] = folder.tensors[name].copy()
    same(from_hf(folder.write()), encoder)
    folder.tensors[name] += 1
    assert f"{prefix}{name}" in folder.refused()
    assert "two spellings" in folder.refused()


@pytest.mark.parametrize("family", ["bert", "albert", "distilbert"])
def test_a_word_table_that_only_the_decoder_has_is_the_words(family, tmp_path):
    """safetensors/safetensors #265: of two tied tensors one is stored, and not always under the name of the first."""
    weights = drawn(MODELS[family])
    folder = Folder(tmp_path / "hf", weights)
    copy, original = foreign_names.TIED[family][0]
    folder.tensors[copy] = folder.tensors.pop(original)
    same(from_hf(folder.write()), weights)


def test_a_bias_that_only_the_decoder_has_is_the_output_bias():
    tensors = {"cls.predictions.decoder.bias": np.ones(3)}
    assert set(foreign_names.canonical_names(tensors, "bert", "test")) == {"cls.predictions.bias"}
