"""GLUE's tasks, each from a small file in the layout that GLUE hands out."""

import pytest
from task_files import counted, examples, label_of, put, refusal, tsv

from bertlite_jax.data import tasks


def test_cola_has_no_header_in_training_and_validation_and_one_in_its_test_file(tmp_path):
    put(tmp_path, "CoLA/train.tsv", tsv("gj04", "1", "", "One is here."), tsv("gj04", "0", "*", "They is here."))
    put(tmp_path, "CoLA/dev.tsv", tsv("gj04", "1", "", "Sing."))
    put(tmp_path, "CoLA/test.tsv", tsv("index", "sentence"), tsv("0", "Bill sings."))
    good, bad = examples("cola", tmp_path)
    assert (good.text, good.label, bad.text, bad.label) == ("One is here.", 1, "They is here.", 0)
    assert [example.id for example in (good, bad)] == ["1", "2"]
    assert examples("cola", tmp_path, "validation")[0].text == "Sing."
    (test,) = examples("cola", tmp_path, "test")
    assert (test.id, test.text, test.label) == ("0", "Bill sings.", None)


def test_sst2_has_a_sentence_and_its_label(tmp_path):
    put(tmp_path, "SST-2/train.tsv", tsv("sentence", "label"), tsv("hide new secretions ", "0"))
    put(tmp_path, "SST-2/test.tsv", tsv("index", "sentence"), tsv("7", "a gem"))
    (example,) = examples("sst2", tmp_path)
    assert (example.text, example.pair, example.label) == ("hide new secretions", None, 0)
    assert examples("sst2", tmp_path, "test")[0].id == "7"


MRPC = tsv("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")


def test_mrpc_as_glue_splits_it(tmp_path):
    put(tmp_path, "MRPC/train.tsv", "\ufeff" + MRPC, tsv("1", "11", "12", 'He said " yes', "Yes , he said"))
    put(
        tmp_path,
        "MRPC/test.tsv",
        tsv("index", "#1 ID", "#2 ID", "#1 String", "#2 String"),
        tsv("0", "1", "2", "A", "B"),
    )
    (example,) = examples("mrpc", tmp_path)
    assert (example.text, example.pair, example.label) == ('He said " yes', "Yes , he said", 1)
    (test,) = examples("mrpc", tmp_path, "test")
    assert (test.id, test.text, test.pair, test.label) == ("0", "A", "B", None)


def test_mrpc_as_its_authors_hand_it_out_is_split_by_the_ids_of_glue(tmp_path):
    rows = [tsv(str(n % 2), f"{n}1", f"{n}2", f"left {n}", f"right {n}") for n in range(1, 5)]
    put(tmp_path, "msr_paraphrase_train.txt", "\ufeff" + MRPC, *rows, end="\r\n")
    put(tmp_path, "msr_paraphrase_test.txt", "\ufeff" + MRPC, tsv("1", "5", "6", "t", "u"), end="\r\n")
    assert len(examples("mrpc", tmp_path)) == 4
    assert "dev_ids.tsv" in refusal("mrpc", tmp_path, "validation")
    put(tmp_path, "dev_ids.tsv", tsv("21", "22"), tsv("41", "42"))
    assert [example.text for example in examples("mrpc", tmp_path)] == ["left 1", "left 3"]
    assert [example.text for example in examples("mrpc", tmp_path, "validation")] == ["left 2", "left 4"]
    assert counted("mrpc", tmp_path) == {"examples": 2, "other_split": 2}
    (test,) = examples("mrpc", tmp_path, "test")
    assert (test.id, test.label) == ("0", 1)


def test_stsb_is_a_number_from_0_to_5(tmp_path):
    header = tsv("index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2")
    row = tsv("3", "main-news", "headlines", "2013", "0001", "none", "none", "A cat", "A dog")
    put(tmp_path, "STS-B/dev.tsv", header + "\tscore", row + "\t3.800")
    put(tmp_path, "STS-B/test.tsv", header, row)
    (example,) = examples("stsb", tmp_path, "validation")
    assert (example.id, example.text, example.pair, example.label) == ("3", "A cat", "A dog", 3.8)
    assert examples("stsb", tmp_path, "test")[0].label is None
    path = put(tmp_path, "STS-B/train.tsv", header + "\tscore", row + "\tnan")
    assert f"{path}:2: the label 'nan' is not a finite number" in refusal("stsb", tmp_path)
    for score in ("6", "-0.5"):
        put(tmp_path, "STS-B/train.tsv", header + "\tscore", row + f"\t{score}")
        assert f"{path}:2: the label {score} is not on stsb's scale, 0 to 5" in refusal("stsb", tmp_path)


def test_qqp_leaves_out_rows_of_another_width_and_counts_them(tmp_path):
    header = tsv("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
    put(
        tmp_path,
        "QQP/train.tsv",
        header,
        tsv("9", "1", "2", "How?", "Why?", "0"),
        tsv("8", "3", "4", "Broken"),
        "rest\t1",
    )
    put(tmp_path, "QQP/test.tsv", tsv("id", "question1", "question2"), tsv("0", "Who?", "What?"))
    (example,) = examples("qqp", tmp_path)
    assert (example.id, example.text, example.pair, example.label) == ("9", "How?", "Why?", 0)
    assert counted("qqp", tmp_path) == {"examples": 1, "wrong_fields": 2}
    assert examples("qqp", tmp_path, "test")[0].id == "0"


PARSES = ("sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse")


def mnli(*labels: str) -> str:
    return tsv("index", "promptID", "pairID", "genre", *PARSES, "sentence1", "sentence2", *labels)


def test_mnli_has_a_matched_and_a_mismatched_half(tmp_path):
    row = tsv("5", "6", "6e", "fiction", "( a )", "( b )", "(ROOT a)", "(ROOT b)", "It rains.", "It is dry.")
    put(tmp_path, "MNLI/train.tsv", mnli("label1", "gold_label"), row + "\tneutral\tcontradiction")
    five = mnli(*(f"label{n}" for n in range(1, 6)), "gold_label")
    for half, gold in (("matched", "entailment"), ("mismatched", "neutral")):
        put(tmp_path, f"MNLI/dev_{half}.tsv", five, tsv(row, *["neutral"] * 5, gold))
        put(tmp_path, f"MNLI/test_{half}.tsv", mnli(), row)
    (example,) = examples("mnli", tmp_path)
    assert (example.id, example.text, example.pair) == ("5", "It rains.", "It is dry.")
    assert label_of("mnli", example) == "contradiction"
    assert label_of("mnli", examples("mnli", tmp_path, "validation")[0]) == "entailment"
    assert label_of("mnli", examples("mnli", tmp_path, "validation_mismatched")[0]) == "neutral"
    assert examples("mnli", tmp_path, "test")[0].label is examples("mnli", tmp_path, "test_mismatched")[0].label is None


def test_labels_stand_in_the_order_of_alberts_scripts():
    assert tasks.TASKS["mnli"].head.labels == ("contradiction", "entailment", "neutral")
    for name in ("rte", "qnli"):
        assert tasks.TASKS[name].head.labels == ("entailment", "not_entailment")


@pytest.mark.parametrize(
    ("name", "folder", "columns", "label"),
    [
        ("qnli", "QNLI", ("question", "sentence"), "entailment"),
        ("rte", "RTE", ("sentence1", "sentence2"), "not_entailment"),
        ("wnli", "WNLI", ("sentence1", "sentence2"), "1"),
    ],
)
def test_pairs_with_an_index(tmp_path, name, folder, columns, label):
    put(tmp_path, f"{folder}/dev.tsv", tsv("index", *columns, "label"), tsv("4", "Who?", "She.", label))
    put(tmp_path, f"{folder}/test.tsv", tsv("index", *columns), tsv("0", "Who?", "She."))
    (example,) = examples(name, tmp_path, "validation")
    assert (example.id, example.text, example.pair, label_of(name, example)) == ("4", "Who?", "She.", label)
    assert examples(name, tmp_path / folder, "test")[0].label is None


def test_ax_has_a_test_file_and_a_full_one_with_labels(tmp_path):
    put(
        tmp_path, "diagnostic/diagnostic.tsv", tsv("index", "sentence1", "sentence2"), tsv("0", "A cat sat.", "It sat.")
    )
    header = tsv("Lexical Semantics", "Predicate-Argument Structure", "Logic", "Knowledge", "Domain", "Premise")
    row = tsv("", "", "Negation", "", "Artificial", "A cat sat.", "No cat sat.", "contradiction")
    put(tmp_path, "diagnostic/diagnostic-full.tsv", tsv(header, "Hypothesis", "Label"), row)
    (test,) = examples("ax", tmp_path, "test")
    assert (test.id, test.text, test.pair, test.label) == ("0", "A cat sat.", "It sat.", None)
    (known,) = examples("ax", tmp_path, "validation")
    assert (known.text, known.pair, label_of("ax", known)) == ("A cat sat.", "No cat sat.", "contradiction")
    assert "no split 'train'; it has: test, validation" in refusal("ax", tmp_path)


def test_the_folder_may_be_the_tasks_own_or_the_suites(tmp_path):
    put(tmp_path, "glue/SST-2/train.tsv", tsv("sentence", "label"), tsv("good", "1"))
    assert examples("sst2", tmp_path / "glue") == examples("sst2", tmp_path / "glue" / "SST-2")
    assert "train.tsv is expected in it or a folder SST-2 in it" in refusal("sst2", tmp_path)


def test_a_count_that_is_not_the_official_one_is_told(tmp_path, caplog):
    put(tmp_path, "WNLI/dev.tsv", tsv("index", "sentence1", "sentence2", "label"), tsv("0", "a", "b", "1"))
    examples("wnli", tmp_path, "validation")
    assert caplog.messages == ["task: wnli: validation has 1 examples; the official split has 71"]
