"""The commands of docs/deploy.md work in the order of the page, and so does its Python."""

import pathlib
import re

import hub_stand_in
import pytest
from page_commands import like_a_clone, run_in

ROOT = pathlib.Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"^```bash\n(.*?)^```", GUIDE, re.M | re.S) for line in block.splitlines()]
(PYTHON,) = re.findall(r"^```python\n(.*?)^```", GUIDE, re.M | re.S)
PREPARE = (
    "bertlite tokenizer my_text.txt --out tok --vocab-size 400",
    "bertlite corpus my_text.txt --tokenizer tok --out corpus --length 64 --workers 1",
    "bertlite pretrain debug_cpu --workdir runs/mine --data.corpus corpus --data.tokenizer tok "
    "--run.steps 2 --run.eval-rows 8 --optim.warmup-steps 1 --model.num-layers 2",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """A folder like a clone, with a run trained on a text of the user's."""
    folder = like_a_clone(tmp_path_factory.mktemp("deploy"), "configs", "tools")
    for command in PREPARE:
        run_in(folder, command)
    return folder


@pytest.mark.thorough
def test_the_commands_and_the_code_run_in_order(place: pathlib.Path, monkeypatch):
    """With a hub on this machine, of which alice has the token."""
    assert len(COMMANDS) >= 11
    with hub_stand_in.running() as hub:
        settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(place / "hub_home"), "HF_TOKEN": "hf_alice"}
        for name, value in (settings | {"HF_HUB_DISABLE_XET": "1"}).items():
            monkeypatch.setenv(name, value)
        for command in COMMANDS:
            run_in(place, command)
    assert hub.repositories["alice/my-albert"].private
    assert hub.repositories["alice/my-albert"].commits == 1
    (place / "answers.py").write_text(PYTHON)
    answers = run_in(place, "python answers.py").split()
    assert len(answers) == 2


def test_the_code_needs_two_packages_only():
    imported = set(re.findall(r"^(?:import|from) (\w+)", PYTHON, re.M))
    assert imported == {"json", "pathlib", "numpy", "onnxruntime", "tokenizers"}
