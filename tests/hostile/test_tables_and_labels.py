"""Tables and lists of people's own, damaged or of another form, to train on and to answer: file and line are named."""

import json

import pytest

TRAIN = "finetune FINETUNE --data INPUT --init hf --workdir out --data.length 32 --run.steps 2"
PREDICT = "predict finetuned --input INPUT"
EMBED = "embed hf --input INPUT --out out.npy"
PAIRS = "evaluate pretrained --minimal-pairs INPUT"
ROWS = "".join(f"some text of number {number},{'ab'[number % 2]}\n" for number in range(40))
OBJECTS = [{"text": f"some text {number}", "label": "ab"[number % 2]} for number in range(40)]
LINES = "".join(json.dumps(each) + "\n" for each in OBJECTS)
TABLES: dict[str, tuple[str, str | bytes, str]] = {
    "an empty CSV": ("a.csv", "", "a.csv"),
    "a header alone": ("a.csv", "text,label\n", "a.csv"),
    "one row": ("a.csv", "text,label\na,b\n", ""),
    "one label": ("a.csv", "text,label\n" + "some text,a\n" * 40, "label"),
    "no label column": ("a.csv", "text\n" + "some text\n" * 40, "a.csv"),
    "no text column": ("a.csv", "label\n" + "a\nb\n" * 20, "a.csv"),
    "other columns": ("a.csv", "foo,bar\n" + ROWS, "a.csv"),
    "the same column twice": ("a.csv", "text,text,label\n" + "a,b,c\n" * 40, "a.csv"),
    "a row with too many cells": ("a.csv", "text,label\n" + ROWS + "a,b,c,d\n", "a.csv"),
    "a row with too few": ("a.csv", "text,label\n" + ROWS + "lonely\n", "a.csv"),
    "an open quote": ("a.csv", "text,label\n" + ROWS + '"never closed,a\n' + ROWS, "a.csv"),
    "invalid UTF-8": ("a.csv", b"text,label\ncaf\xe9,a\n" + ROWS.encode(), "a.csv"),
    "UTF-16": ("a.csv", ("text,label\n" + ROWS).encode("utf-16"), "utf-16"),
    "UTF-32": ("a.csv", ("text,label\n" + ROWS).encode("utf-32"), "a.csv"),
    "binary": ("a.csv", bytes(range(256)) * 4, "a.csv"),
    "empty JSON lines": ("a.jsonl", "", "a.jsonl"),
    "no JSON": ("a.jsonl", LINES + "text\n", "a.jsonl:41"),
    "cut JSON": ("a.jsonl", LINES + '{"text": "a', "a.jsonl:41"),
    "JSON, too deep": ("a.jsonl", LINES + "[" * 200_000 + "\n", "a.jsonl:41"),
    "JSON, digits": ("a.jsonl", LINES + '{"text": "a", "label": ' + "9" * 5000 + "}\n", "a.jsonl:41"),
    "JSON, half a pair": ("a.jsonl", LINES + '{"text": "a \\ud800", "label": "a"}\n', "a.jsonl:41"),
    "JSON, half a pair as label": ("a.jsonl", LINES + '{"text": "a", "label": "\\udc00"}\n', "a.jsonl:41"),
    "JSON, a list a line": ("a.jsonl", LINES + "[1]\n", "a.jsonl:41"),
    "JSON, a number as text": ("a.jsonl", LINES + '{"text": 5, "label": "a"}\n', "a.jsonl:41"),
    "JSON, an object as label": ("a.jsonl", LINES + '{"text": "a", "label": {"b": 1}}\n', "a.jsonl:41"),
    "JSON, no label": ("a.jsonl", LINES + '{"text": "a"}\n', "a.jsonl:41"),
    "JSON, invalid UTF-8": ("a.jsonl", LINES.encode() + b'{"text": "\xff", "label": "a"}\n', "a.jsonl:41"),
    "no Parquet": ("a.parquet", b"PAR1 not at all", "a.parquet"),
    "a broken JSON array": ("a.json", "[{", "a.json"),
    "a JSON array of numbers": ("a.json", "[1, 2]", "a.json"),
    "a JSON string": ("a.json", '"text"', "a.json"),
}
NAMES = {
    "none": ("''", "one of the label names is empty"),
    "one without a name": ("queen ' '", "one of the label names is empty"),
    "twice the same": ("queen queen", "'queen' is named twice"),
    "too few": ("queen", "unknown label 'rabbit'; known are: queen"),
    "none of the file's": ("king hare", "known are: king, hare"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_labels_that_are_not_those_of_the_file_are_told(name, bench):
    names, said = NAMES[name]
    bench.refuses(f"{TRAIN.replace('INPUT', 'task.csv')} --data.label-names {names}", said)


SHARED = {
    "text and label": "--data.label-column text",
    "label and text": "--data.text-column label --data.kind classify",
    "text and pair": "--data.pair-column TEXT",
    "pair and label": "--data.pair-column label",
    "a choice and label": "--data.kind choose --data.choice-columns text label",
}


@pytest.mark.parametrize("name", SHARED)
def test_a_column_is_one_part_of_an_example(name, bench):
    """A model that is shown its answer scores 100 % without a word."""
    bench.refuses(
        f"{TRAIN.replace('INPUT', 'task.csv')} {SHARED[name]}", "task.csv:1: the column", "is named for two things"
    )


SCORES = {
    "beyond float32": "1e39",
    "beyond float64": "1" + "0" * 400,
    "NaN": "NaN",
    "true": "true",
}


@pytest.mark.parametrize("name", SCORES)
def test_a_score_that_is_no_number_here_is_named(name, bench):
    lines = "".join(f'{{"text": "some text {number}", "label": {number}}}\n' for number in range(40))
    (bench.here / "a.jsonl").write_text(f'{lines}{{"text": "a", "label": {SCORES[name]}}}\n')
    bench.refuses(f"{TRAIN.replace('INPUT', 'a.jsonl')} --data.kind regression", "a.jsonl:41: ")


LABELS = {
    "NaN in a list": ("a.jsonl", '{"text": "a", "label": [NaN, 1]}\n' * 40, "a.jsonl:1: "),
    "NaN": ("a.jsonl", LINES + '{"text": "a", "label": NaN}\n', "a.jsonl:41"),
    "infinity": ("a.jsonl", LINES + '{"text": "a", "label": Infinity}\n', "a.jsonl:41"),
}


@pytest.mark.parametrize("name", [*TABLES, *LABELS])
def test_a_table_that_cannot_be_learnt_from_is_named(name, bench):
    file, content, said = (TABLES | LABELS)[name]
    (bench.here / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    bench.refuses(TRAIN.replace("INPUT", file), said)


ANSWERED: dict[str, tuple[str, str | bytes, str]] = {
    "invalid UTF-8": ("a.txt", b"one\ncaf\xe9\n", "a.txt:2"),
    "UTF-16": ("a.txt", "one\n".encode("utf-16"), "utf-16"),
    "cut JSON": ("a.jsonl", '{"text": "a"}\n{"text": "b', "2"),
    "JSON, too deep": ("a.jsonl", '{"text": "a"}\n' + '{"text": ' + "[" * 100_000 + "\n", "2"),
    "JSON, digits": ("a.jsonl", '{"text": "a", "id": ' + "9" * 5000 + "}\n", "1"),
    "JSON, a number as text": ("a.jsonl", '{"text": 5}\n', "1"),
    "JSON, no text": ("a.jsonl", '{"body": "a"}\n', "1"),
    "JSON, null as text": ("a.jsonl", '{"text": null}\n', "1"),
}


@pytest.mark.parametrize("command", [PREDICT, EMBED], ids=["predict", "embed"])
@pytest.mark.parametrize("name", ANSWERED)
def test_a_line_that_cannot_be_answered_is_named(name, command, bench):
    file, content, said = ANSWERED[name]
    (bench.here / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    bench.refuses(command.replace("INPUT", file), said)


@pytest.mark.parametrize("command", [PREDICT, EMBED, TRAIN, PAIRS], ids=["predict", "embed", "finetune", "evaluate"])
@pytest.mark.parametrize("made", ["missing", "folder", "dead link"])
def test_an_input_that_is_no_file_is_named(made, command, bench):
    path = bench.here / "in.csv"
    if made == "folder":
        path.mkdir()
    elif made == "dead link":
        path.symlink_to("/unmounted/in.csv")
    bench.refuses(command.replace("INPUT", "in.csv"), "in.csv")


@pytest.mark.parametrize("command", [PREDICT, EMBED, TRAIN, PAIRS], ids=["predict", "embed", "finetune", "evaluate"])
def test_an_input_that_may_not_be_read_is_named(command, bench, not_root):
    (bench.here / "in.csv").write_text("text,label\n")
    (bench.here / "in.csv").chmod(0)
    bench.refuses(command.replace("INPUT", "in.csv"), "in.csv", "Permission denied")


NAMED = {
    "predict, text": f"{PREDICT} --text-column boddy",
    "predict, label": f"{PREDICT} --label-column lable",
    "predict, id": f"{PREDICT} --id-column nr",
    "predict, one of two labels": f"{PREDICT} --label-column label,lable",
    "embed, text": f"{EMBED} --text-column boddy",
    "embed, pair": f"{EMBED} --pair-column boddy",
}


@pytest.mark.parametrize("name", NAMED)
def test_a_column_that_is_named_has_to_be_there(name, bench):
    """Instead of a column with a usual name, whose answers look as good."""
    bench.refuses(NAMED[name].replace("INPUT", "task.csv"), "task.csv:1: no column or field", "it has: text, label")


def test_a_field_that_is_named_has_to_be_in_each_object(bench):
    (bench.here / "a.jsonl").write_text('{"text": "a", "body": "b"}\n{"text": "a"}\n')
    said = bench.refuses(f"{EMBED.replace('INPUT', 'a.jsonl')} --text-column body", "a.jsonl:2: no column or field")
    assert said.startswith("embed: ")


NUMBERS = {
    "predict": [
        *(("--batch", value) for value in ("0", "-1", str(10**20))),
        *(("--n-best", value) for value in ("0", "-1", str(10**20))),
        *(("--null-threshold", value) for value in ("nan", "inf")),
    ],
    "embed": [
        *(("--batch", value) for value in ("0", "-1", str(10**20))),
        *(("--length", value) for value in ("-1", "1", str(10**20))),
        *(("--layers", value) for value in ("99", "x", "1,,2", "mean:", str(10**20))),
    ],
}


@pytest.mark.parametrize(
    ("job", "option", "value"), [(job, *each) for job, options in NUMBERS.items() for each in options]
)
def test_a_number_that_cannot_be_is_named(job, option, value, bench):
    command = {"predict": PREDICT, "embed": EMBED}[job].replace("INPUT", "text.txt")
    bench.refuses(f"{command} {option}={value}", option.strip("-").replace("-", "_").split("_")[0])


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("evaluate pretrained --rows=-1", "rows = -1"),
        (f"evaluate pretrained --rows={10**20}", "rows = 1"),
        ("evaluate pretrained --corpus nowhere", "nowhere"),
        ("fill-mask pretrained 'a [MASK]' --top 0", "top = 0"),
        ("fill-mask pretrained 'no mask'", "no [MASK]"),
        ("fill-mask pretrained ''", "no [MASK]"),
        ("convert int8 finetuned out --calibrate text.txt --rows 1", "rows"),
        ("convert int8 finetuned out --calibrate text.txt --length 5", "length"),
        ("convert int8 finetuned out --calibrate text.txt --max-drop nan", "max_drop"),
        ("convert int8 finetuned out --calibrate text.txt --auto=-1", "auto"),
        ("convert int8 finetuned out --calibrate nowhere.txt", "nowhere.txt"),
        ("convert trim finetuned out --text nowhere.txt", "nowhere.txt"),
        ("convert trim finetuned out --text text.txt --pieces=-1", "pieces"),
        ("convert int8 finetuned out --calibrate text.txt --leave-out nowhere", "nowhere"),
        ("convert ort finetuned out.ort --text text.txt --max-mb nan", "max_mb"),
        ("convert ort finetuned out.ort --text text.txt --max-mb=-1", "max_mb"),
        ("convert ort finetuned out.ort --text text.txt --min-agreement nan", "min_agreement"),
        ("convert bundle finetuned out --examples nowhere.jsonl", "nowhere.jsonl"),
        ("quickstart --workdir q --seed=-1", "run.seed = -1"),
        ("predict finetuned --input task.csv --split train", "--split"),
    ],
)
def test_an_option_of_another_job_that_cannot_be_is_named(command, said, bench):
    line = bench.refuses(command)
    assert said in line or said.replace("_", "-") in line, line
