"""`bertlite convert push` against a stand-in of the hub: what arrives, what is refused, and that no half is left."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml
from hub_stand_in import Repository
from huggingface_hub import constants
from huggingface_hub.repocard_data import model_index_to_eval_results

from bertlite_jax.cli.main import main
from bertlite_jax.convert import adoption

# huggingface_hub passes a file on to httpx in a way that httpx wants to give up.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden/0.1.0"
RUN = str(GOLDEN / "finetuned")
SUMMARY = json.loads((GOLDEN / "finetuned/summary.json").read_text())


def pushed(*arguments: str, run: str = RUN) -> int:
    return main(["convert", "push", run, *arguments])


def head_of(card: bytes) -> dict:
    return yaml.safe_load(card.decode().split("---\n")[1])


# --- What arrives ----------------------------------------------------------------------------------------------------


def test_what_to_hf_writes_arrives_in_one_commit(hub, tmp_path, capsys):
    assert pushed("alice/reviews") == 0
    found = hub.repositories["alice/reviews"]
    assert found.private
    assert found.commits == 1
    assert main(["convert", "to-hf", RUN, str(tmp_path / "out")]) == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    arrived = {name: content for name, content in found.files.items() if name != ".gitattributes"}
    assert arrived.keys() == written.keys()
    assert {name for name in written if arrived[name] != written[name]} == {"README.md"}
    assert b'from_pretrained("alice/reviews")' in arrived["README.md"]
    assert f"alice/reviews, private: {len(written)} files, " in capsys.readouterr().out


def test_a_pushed_model_is_the_one_to_start_from(hub, tmp_path):
    assert pushed("alice/reviews", "--public") == 0
    assert not hub.repositories["alice/reviews"].private
    assert main(["convert", "to-hf", RUN, str(tmp_path / "out")]) == 0
    with adoption.open_weights("hf:alice/reviews") as there, adoption.open_weights(tmp_path / "out") as here:
        assert there.digest() == here.digest()
        assert there.head == here.head
        assert there.reading == here.reading is not None


def test_programs_find_the_scores_in_the_card(hub):
    """As huggingface_hub reads them; a reader finds them in a table."""
    assert pushed("alice/reviews") == 0
    card = hub.repositories["alice/reviews"].files["README.md"]
    name, results = model_index_to_eval_results(head_of(card)["model-index"])
    assert name == "reviews"
    assert [(each.metric_type, each.metric_name, each.metric_value) for each in results] == [
        ("accuracy", "accuracy", SUMMARY["accuracy"]),
        ("f1", "f1_macro", SUMMARY["f1_macro"]),
    ]
    assert {(each.task_type, each.dataset_name, each.dataset_split) for each in results} == {
        ("text-classification", SUMMARY["task"], "validation")
    }
    assert b"| accuracy | 1.0000 |" in card


def test_the_scores_of_pretraining_too(hub):
    assert pushed("alice/encoder", run=str(GOLDEN / "pretrained")) == 0
    summary = json.loads((GOLDEN / "pretrained/summary.json").read_text())
    _, results = model_index_to_eval_results(
        head_of(hub.repositories["alice/encoder"].files["README.md"])["model-index"]
    )
    assert {each.metric_name: each.metric_value for each in results} == {
        name: summary[name] for name in ("valid_mlm_loss", "valid_mlm_accuracy")
    }


# --- A dry run -------------------------------------------------------------------------------------------------------


def test_a_dry_run_needs_neither_token_nor_network_nor_library(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert pushed("alice/reviews", "--dry-run") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert hub.asked == []
    shown = {name: int(size.replace(",", "")) for size, name in (line.split() for line in lines)}
    assert main(["convert", "to-hf", RUN, str(tmp_path / "out")]) == 0
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert shown.keys() == sizes.keys()
    assert shown["model.safetensors"] == sizes["model.safetensors"]
    total = sum(shown.values()) / 1e6
    assert last == (f"alice/reviews, private: {len(sizes)} files, {total:.2f} MB would be sent; this was a dry run")


# --- A repository that is there --------------------------------------------------------------------------------------


def test_files_that_are_there_are_replaced_only_if_asked_and_others_stay(hub, capsys):
    hub.repositories["alice/reviews"] = Repository(True, {"README.md": b"mine", "LICENSE": b"mine"})
    assert pushed("alice/reviews") == 2
    assert capsys.readouterr().err == (
        "convert: alice/reviews exists and has 2 files; pass --overwrite to commit on top of them, or name another\n"
    )
    assert hub.repositories["alice/reviews"].files["README.md"] == b"mine"
    assert pushed("alice/reviews", "--overwrite", "--message", "second") == 0
    assert "1 other files of the repository stay: LICENSE" in capsys.readouterr().out
    assert hub.repositories["alice/reviews"].files["LICENSE"] == b"mine"
    assert hub.repositories["alice/reviews"].files["README.md"] != b"mine"


@pytest.mark.parametrize("private", [True, False])
def test_visibility_is_never_changed(private, hub, capsys):
    """A model that is private by default must not go where everybody sees it."""
    hub.repositories["alice/reviews"] = Repository(private, {})
    assert pushed("alice/reviews", *(["--public"] if private else [])) == 2
    line = capsys.readouterr().err
    assert ("alice/reviews is private; leave out --public" if private else "is public; pass --public") in line
    assert hub.repositories["alice/reviews"] == Repository(private, {})


# --- What is refused -------------------------------------------------------------------------------------------------

REFUSED = {
    "no token": ("alice/m", "", "push needs a token that may write: log in with `hf auth login`, or set HF_TOKEN"),
    "a token that is none": ("alice/m", "hf_nobody", "alice/m: the hub does not accept this token; log in"),
    "a token that reads only": ("alice/m", "hf_reader", "alice/m: the hub refuses it (You don't have the rights"),
    "another owner": ("bob/m", "hf_alice", "bob/m: the hub refuses it (You don't have the rights to create a model"),
    "a name that is taken": ("bob/public", "hf_alice", "bob/public exists and has 1 files"),
    "no owner": ("m", "hf_alice", "m: a repository is named OWNER/NAME"),
    "as it is read": ("hf:alice/m", "hf_alice", "hf:alice/m: a repository is named OWNER/NAME, of letters, digits"),
    "a bad name": (
        "alice/my model",
        "hf_alice",
        "alice/my model: a repository is named OWNER/NAME, of letters, digits",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_one_line_and_changes_nothing(case, hub, monkeypatch, capsys):
    name, token, message = REFUSED[case]
    hub.repositories["bob/public"] = Repository(False, {"README.md": b"his"})
    monkeypatch.setenv("HF_TOKEN", token)
    assert pushed(name, "--public") == 2
    (line,) = capsys.readouterr().err.strip().split("\n")
    assert line.startswith("convert: ")
    assert message in line
    assert list(hub.repositories) == ["bob/public"]
    assert hub.repositories["bob/public"].files == {"README.md": b"his"}


def test_a_repository_of_others_is_not_written(hub, capsys):
    hub.repositories["bob/public"] = Repository(False, {"README.md": b"his"})
    assert pushed("bob/public", "--public", "--overwrite") == 2
    assert "bob/public: the hub refuses it (You do not have the right to write" in capsys.readouterr().err
    assert hub.repositories["bob/public"].files == {"README.md": b"his"}
    assert hub.large == {}


def test_a_hidden_repository_of_the_same_name_is_told(hub, capsys):
    hub.broken = {"GET /api/models/alice/hidden": (404, "Repository not found")}
    hub.repositories["alice/hidden"] = Repository(True, {})
    assert pushed("alice/hidden") == 2
    assert "alice/hidden exists already, and this token may not read it" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["POST /api/models/alice/reviews/preupload", "POST /api/models/alice/reviews/commit"])
def test_a_commit_that_fails_leaves_an_empty_repository_and_the_same_command_fills_it(part, hub, capsys):
    hub.broken = {part: (400, "quota")}
    assert pushed("alice/reviews") == 2
    line = capsys.readouterr().err
    assert "alice/reviews: the hub answers 400 (quota); alice/reviews was made, and is empty: the same command" in line
    assert list(hub.repositories["alice/reviews"].files) == [".gitattributes"]
    hub.broken = {}
    assert pushed("alice/reviews") == 0
    assert "model.safetensors" in hub.repositories["alice/reviews"].files


def test_without_a_network_nothing_is_begun(hub, monkeypatch, capsys):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert pushed("alice/reviews") == 2
    assert "convert: alice/reviews: the hub cannot be reached (" in capsys.readouterr().err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pushed("alice/reviews") == 2
    assert capsys.readouterr().err == (
        "convert: alice/reviews: HF_HUB_OFFLINE is set, so nothing can be sent; unset it\n"
    )


def test_the_command_finds_hub_and_token_in_the_environment(hub, tmp_path):
    """In a process of its own, as a user types it."""
    env = os.environ | {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_alice",
        "HF_HUB_DISABLE_XET": "1",
    }
    command = [sys.executable, "-m", "bertlite_jax", "convert"]
    done = subprocess.run([*command, "push", RUN, "alice/reviews"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("alice/reviews, private: ")
    done = subprocess.run(
        [*command, "from-hf", "hf:alice/reviews", str(tmp_path / "back")], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back/params.safetensors").is_file()
