"""Every JSON file that a job reads, with every kind of damage: one line that names the file."""

import pathlib

import damage
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PRETRAIN = "pretrain pretrain.py --workdir pretrained --data.corpus corpus --data.tokenizer tokenizer"
COMMANDS: dict[str, tuple[str, ...]] = {
    "pretrained/config.json": (
        "evaluate pretrained",
        "fill-mask pretrained 'a [MASK]'",
        "report pretrained",
        "convert to-hf pretrained out",
    ),
    "pretrained/summary.json": ("report pretrained",),
    "pretrained/tokenizer/bertlite_tokenizer.json": ("fill-mask pretrained 'a [MASK]'",),
    "pretrained/metrics.jsonl": ("report pretrained",),
    "corpus/corpus.json": ("evaluate pretrained --corpus corpus",),
    "corpus/build.json": ("evaluate pretrained --corpus corpus",),
    "tokenizer/bertlite_tokenizer.json": ("corpus text.txt --tokenizer tokenizer --out out",),
    "finetuned/config.json": (
        "report finetuned",
        "prune finetuned --workdir out",
        "compress finetuned --workdir out",
    ),
    "finetuned/summary.json": ("report finetuned",),
    "finetuned/best/config.json": ("predict finetuned --input text.txt", "convert onnx finetuned out"),
    "hf/config.json": ("convert from-hf hf out", "embed hf --input text.txt --out out.npy"),
    "hf/tokenizer.json": ("convert from-hf hf out", "tokenizer hf --out out"),
    "hf/tokenizer_config.json": ("convert from-hf hf out", "tokenizer hf --out out"),
}
"""File and the commands that read it."""
CASES = [(file, command) for file, commands in COMMANDS.items() for command in commands]
IDS = [f"{command.split(' -')[0]}, {file}" for file, command in CASES]


@pytest.mark.parametrize(("file", "command"), CASES, ids=IDS)
@pytest.mark.parametrize("name", damage.JSON)
def test_damage_is_told_with_the_file(file, command, name, bench):
    bench.copy(file.split("/")[0])
    bench.arguments(command)
    kinds = damage.JSON_LINES if file.endswith(".jsonl") else damage.JSON
    damage.apply(bench.here / file, kinds[name])
    bench.refuses(command, pathlib.PurePath(file).name)


# How fast a corpus was built is shown where a file says it, so a folder by that name changes nothing.
READ = [(file, command) for file, command in CASES if file != "corpus/build.json"]


@pytest.mark.parametrize(("file", "command"), READ)
def test_a_folder_in_its_place_is_told(file, command, bench):
    bench.arguments(command)
    damage.make_folder(bench.here / file)
    bench.refuses(command, pathlib.PurePath(file).name)


@pytest.mark.parametrize(("file", "command"), CASES, ids=IDS)
def test_a_file_that_may_not_be_read_is_told(file, command, bench, not_root):
    bench.arguments(command)
    (bench.here / file).chmod(0)
    bench.refuses(command, pathlib.PurePath(file).name, "Permission denied")


# --- JSON that is whole, with values that are not -------------------------------------------------------------------

EDITS: list[tuple[str, str, damage.Damage, str]] = [
    ("corpus/corpus.json", "evaluate pretrained", damage.edit_json("sizes", to=...), "damaged: sizes"),
    ("corpus/corpus.json", "evaluate pretrained", damage.edit_json("splits", to=...), "damaged: splits"),
    ("corpus/corpus.json", "evaluate pretrained", damage.edit_json("splits", "train", to=5), "damaged: splits.train"),
    (
        "corpus/corpus.json",
        "evaluate pretrained",
        damage.edit_json("length", to="64"),
        "damaged: length",
    ),
    ("corpus/corpus.json", "evaluate pretrained", damage.edit_json("vocab_size", to=None), "damaged: vocab_size"),
    ("corpus/corpus.json", "evaluate pretrained", damage.edit_json("special_ids", to=[0, 1]), "damaged: special_ids"),
    ("corpus/corpus.json", "evaluate pretrained", damage.edit_json("format", to=2), "format 2, but this version"),
    ("corpus/corpus.json", "evaluate pretrained", damage.edit_json("format", to="1"), "format 1, but this version"),
    ("pretrained/config.json", "evaluate pretrained", damage.edit_json("model", to=None), "model = None should be"),
    ("pretrained/config.json", "evaluate pretrained", damage.edit_json("model", to=[1]), "model = [1] should be"),
    (
        "pretrained/config.json",
        "report pretrained",
        damage.edit_json("run", "steps", to="30"),
        "steps = '30' should be",
    ),
    ("pretrained/config.json", "report pretrained", damage.edit_json("run", "steps", to=10**30), "steps = 1000"),
    ("pretrained/config.json", "report pretrained", damage.edit_json("run", "step", to=3), "unknown field step"),
    ("pretrained/config.json", "report pretrained", damage.edit_json("model", "num_heads", to=0), "num_heads = 0"),
    ("pretrained/config.json", "report pretrained", damage.edit_json("data", "length", to=0), "data.length = 0"),
    (
        "pretrained/config.json",
        "report pretrained",
        damage.edit_json("data", "corpus", to="corpus"),
        "should be a list",
    ),
    ("pretrained/config.json", "report pretrained", damage.edit_json("data", "corpus", to=["a\0b"]), "null byte"),
    ("pretrained/config.json", "report pretrained", damage.edit_json("optim", "name", to=["lamb"]), "name = ['lamb']"),
    (
        "pretrained/summary.json",
        "report pretrained",
        damage.edit_json("wall_seconds", to="long"),
        "wall_seconds should",
    ),
    (
        "pretrained/summary.json",
        "report pretrained",
        damage.edit_json("valid_mlm_loss", to=[1]),
        "valid_mlm_loss should",
    ),
    (
        "pretrained/summary.json",
        "report pretrained",
        damage.edit_json("time_shares", to=[1]),
        "time_shares should be an",
    ),
    ("pretrained/summary.json", "report pretrained", damage.edit_json("time_shares", to={"a": "b"}), "time_shares.a"),
    (
        "pretrained/summary.json",
        "report pretrained",
        damage.edit_json("steps", to=float("nan")),
        "steps should be a fin",
    ),
    ("finetuned/summary.json", "report finetuned", damage.edit_json("accuracy", to="high"), "accuracy should be"),
    (
        "finetuned/summary.json",
        "report finetuned",
        damage.edit_json("train_examples", to="200"),
        "train_examples should",
    ),
    ("finetuned/summary.json", "report finetuned", damage.edit_json("task", to=5), "task should be a string"),
    ("finetuned/config.json", "report finetuned", damage.edit_json("head", to=None), "head = None should be"),
    ("finetuned/config.json", "report finetuned", damage.edit_json("adapt", "dropout", to="x"), "dropout = 'x' should"),
]


@pytest.mark.parametrize(("file", "command", "change", "said"), EDITS, ids=[f"{e[0]}, {e[3]}" for e in EDITS])
def test_a_value_of_another_kind_is_named_with_its_key(file, command, change, said, bench):
    bench.copy("corpus", file.split("/")[0])
    damage.apply(bench.here / file, change)
    bench.refuses(command, file, said)


REPORTED = {
    "samples.json": [
        ("{}", "it should be a list"),
        ("[1]", "[0] should be an object"),
        ('[{"text": 1, "truth": "a", "predictions": []}]', "[0].text should be a string"),
        ('[{"text": "a", "predictions": []}]', "[0].truth is missing"),
        ('[{"text": "a", "truth": "a", "predictions": [["x"]]}]', "predictions[0] should be a list of 2"),
        ('[{"text": "a", "truth": "a", "predictions": [["x", "y"]]}]', "predictions[0][1] should be"),
    ],
    "environment.json": [("[]", "it should be an object"), ('{"a": NaN}', "a should be a finite number")],
    "inference.json": [
        ("[]", "it should be an object"),
        ('{"model": "a"}', "is missing"),
        ('{"model": 5}', "is missing"),
    ],
    "metrics.jsonl": [
        ('{"loss": 1.0}\n', "metrics.jsonl:1: step is missing"),
        ('{"step": 1}\n{"step": "2"}\n', "metrics.jsonl:2: step should be a whole number"),
        ('{"step": 1}\n{"step": 1.5}\n', "metrics.jsonl:2: step should be a whole number"),
        ('{"step": 1, "loss": "high"}\n', "metrics.jsonl:1: loss should be"),
        ('{"step": 1, "loss": [1]}\n', "metrics.jsonl:1: loss should be"),
        ('{"step": 1, "loss": 1' + "0" * 400 + "}\n", "metrics.jsonl:1: loss should be a finite number"),
        ('{"step": 1, "not_finite": ["loss"]}\n', "metrics.jsonl:1: not_finite should be an object"),
        ("[1]\n", "metrics.jsonl:1: a JSON object is expected"),
    ],
}


@pytest.mark.parametrize(
    ("name", "content", "said"), [(name, *each) for name, cases in REPORTED.items() for each in cases]
)
def test_a_report_names_what_it_cannot_show(name, content, said, bench):
    (bench.copy("pretrained") / name).write_text(content)
    bench.refuses("report pretrained", name, said)


# --- Any JSON ---------------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", ["summary.json", "samples.json", "inference.json", "environment.json"])
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_a_report_of_any_json_is_written_or_refused(name, value, bench):
    import json

    run = bench.copy("pretrained")
    (run / name).write_text(json.dumps(value))
    code, _, err = bench.run("report pretrained")
    assert code == 0 or (code == 2 and err.count("\n") == 1 and name in err), err
