"""`hf:OWNER/NAME` wherever a folder of weights is read, against a stand-in of the hub: see `hub_stand_in`."""

import json
import pathlib
import sys

import pytest
from hub_stand_in import Hub, Repository
from huggingface_hub import constants

from bertlite_jax.cli.main import main
from bertlite_jax.convert import adoption, sources
from bertlite_jax.convert.huggingface.hub import snapshot
from bertlite_jax.errors import UserError
from bertlite_jax.host.places import final_place

ROOT = pathlib.Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests/golden/0.1.0"
HF = GOLDEN / "hf"
"""A pretrained model as transformers has it, with its tokenizer."""


def files_of(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(hub: Hub, name: str, folder: pathlib.Path = HF, **more: bytes) -> Repository:
    hub.repositories[name] = Repository(private=True, files=files_of(folder) | more)
    return hub.repositories[name]


# --- What is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [HF, GOLDEN / "finetuned/best"], ids=["of transformers", "of ours"])
def test_a_model_of_the_hub_is_the_folder_that_was_put_there(folder, hub):
    put(hub, "alice/small", folder)
    with adoption.open_weights("hf:alice/small") as theirs, adoption.open_weights(folder) as ours:
        assert theirs.model == ours.model
        assert theirs.head == ours.head
        assert theirs.tokenizer is not None
        assert ours.tokenizer is not None
        assert theirs.tokenizer.hash == ours.tokenizer.hash
        assert theirs.digest() == ours.digest()


def test_a_process_reads_one_commit_and_asks_for_it_once(hub):
    repository = put(hub, "alice/small")
    before = sources.folder_of("hf:alice/small", "finetune")
    assert before.name == repository.sha
    repository.commits += 1
    asked = len(hub.asked)
    assert sources.folder_of("hf:alice/small", "finetune") == before
    assert len(hub.asked) == asked
    snapshot.cache_clear()  # As another process would begin.
    assert sources.folder_of("hf:alice/small", "finetune").name == repository.sha != before.name
    snapshot.cache_clear()
    assert sources.folder_of(f"hf:alice/small@{before.name}", "finetune") == before


def test_only_the_weights_that_are_read_are_downloaded(hub):
    """Repositories have the same weights in five formats, and files of training beside them."""
    others = {"pytorch_model.bin": b"p", "tf_model.h5": b"t", "flax_model.msgpack": b"f", "onnx/model.onnx": b"o"}
    others["optimizer.pt"] = b"a"
    put(hub, "alice/all", HF, **others)
    folder = sources.folder_of("hf:alice/all", "finetune")
    assert (folder / "model.safetensors").is_file()
    assert not [name for name in others if (folder / name).exists()]
    old = put(hub, "alice/old", HF, **others)
    del old.files["model.safetensors"]
    folder = sources.folder_of("hf:alice/old", "finetune")
    assert (folder / "pytorch_model.bin").is_file()
    assert not [name for name in others if name != "pytorch_model.bin" and (folder / name).exists()]


def test_the_cache_answers_where_there_is_no_network(hub, monkeypatch):
    put(hub, "alice/small")
    folder = sources.folder_of("hf:alice/small", "finetune")
    snapshot.cache_clear()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert sources.folder_of("hf:alice/small", "finetune") == folder
    snapshot.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert sources.folder_of("hf:alice/small", "finetune") == folder
    with pytest.raises(UserError, match=r"^finetune: hf:alice/other: HF_HUB_OFFLINE is set, and the cache"):
        sources.folder_of("hf:alice/other", "finetune")


def test_jobs_start_from_it_and_answer_with_it(hub, tmp_path, capsys):
    """And the run says which commit it started from."""
    encoder = put(hub, "alice/encoder")
    run = tmp_path / "run"
    recipe = str(ROOT / "tests/golden/recipe_finetune.py")
    options = ["--data", str(GOLDEN / "task.csv"), "--init", "hf:alice/encoder", "--workdir", str(run)]
    assert main(["finetune", recipe, *options, "--run.steps", "2"]) == 0
    assert json.loads((run / "environment.json").read_text())["hub"] == {"hf:alice/encoder": encoder.sha}
    assert json.loads((run / "config.json").read_text())["init"] == "hf:alice/encoder"
    put(hub, "alice/task", GOLDEN / "finetuned/best")
    answers = []
    for model in ("hf:alice/task", str(GOLDEN / "finetuned")):
        capsys.readouterr()
        assert main(["predict", model, "--input", str(GOLDEN / "texts.txt")]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1] != ""


# --- What goes wrong -------------------------------------------------------------------------------------------------

REFUSED = {
    "no owner": ("hf:albert", r"hf:albert: a repository is named OWNER/NAME"),
    "a path": ("hf:a/b/c", "a repository is named OWNER/NAME"),
    "nothing": ("hf:", "a repository is named OWNER/NAME"),
    "no such model": ("hf:alice/nothing", "hf:alice/nothing: no such repository that this token may read; check the n"),
    "another's": ("hf:bob/secret", "hf:bob/secret: no such repository that this token may read"),
    "no such revision": ("hf:alice/small@v9", "hf:alice/small@v9: there is no such revision; name a branch, a tag or"),
    "gated": ("hf:bob/gated", "hf:bob/gated is gated: accept its terms on its page, then log in"),
    "no model": ("hf:alice/data", "hf:alice/data has no config.json, so it holds no model that can be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_one_line(case, hub, tmp_path, capsys):
    put(hub, "alice/small")
    put(hub, "bob/secret")
    put(hub, "bob/gated").gated = True
    hub.repositories["bob/gated"].private = False
    hub.repositories["alice/data"] = Repository(False, {"README.md": b"# Rows", "train.parquet": b"rows"})
    place, message = REFUSED[case]
    assert main(["convert", "from-hf", place, str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().split("\n")
    assert line.startswith("convert: ")
    assert message in line
    assert not (tmp_path / "out").exists()


BROKEN = {
    "a token that is none": (
        {},
        "hf_nobody",
        "the hub does not accept this token; log in with `hf auth login`, or",
    ),
    "no right": (
        {"/revision/": (403, "blocked")},
        "hf_alice",
        "the hub refuses it (blocked); use a token that may",
    ),
    "too often": ({"/revision/": (429, "slow down")}, "hf_alice", "the hub answers 429 (slow down); try again later"),
    "a failure": (
        {"/revision/": (503, "maintenance")},
        "hf_alice",
        "the hub answers 503 (maintenance); try again",
    ),
    "half a download": ({"GET /alice/small/resolve": (500, "disk")}, "hf_alice", "the hub answers 500 (disk); try"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_the_hub_refuses_is_one_line(case, hub, monkeypatch):
    """And once it works, so does the same name."""
    put(hub, "alice/small")
    hub.broken, token, message = BROKEN[case]
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError) as refused:
        sources.check_there("hf:alice/small", "finetune")
    assert str(refused.value).startswith(f"finetune: hf:alice/small: {message}")
    assert "\n" not in str(refused.value)
    hub.broken = {}
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    sources.check_there("hf:alice/small", "finetune")


def test_without_a_network_or_the_library_it_says_so(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"^finetune: hf:alice/small: the hub cannot be reached \(.*\); check the netw"):
        sources.check_there("hf:alice/small", "finetune")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"the hub needs huggingface_hub; pip install 'bertlite_jax\[hub\]'$"):
        sources.check_there("hf:alice/small", "finetune")


def test_the_hub_is_no_place_for_an_output_and_no_bucket(capsys):
    with pytest.raises(UserError, match=r"^convert: hf:alice/small is a place on the hub; bertlite convert push RUN"):
        final_place("convert", "hf:alice/small")
    assert main(["finetune", "finetune_glue", "--workdir", "w", "--init", "hf://alice/small"]) == 2
    assert capsys.readouterr().err == (
        "init: hf://alice/small: a model of the hub is named hf:OWNER/NAME, without a slash behind the colon\n"
    )
