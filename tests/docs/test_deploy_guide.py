"""The commands of docs/deploy.md work in the order of the page, and so does its Python."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import zstandard

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"^```bash\n(.*?)^```", GUIDE, re.M | re.S) for line in block.splitlines()]
(PYTHON,) = re.findall(r"^```python\n(.*?)^```", GUIDE, re.M | re.S)
PREPARE = (
    "bertlite tokenizer my_text.txt --out tok --vocab-size 400",
    "bertlite corpus my_text.txt --tokenizer tok --out corpus --length 64 --workers 1",
    "bertlite pretrain configs/debug_cpu.py --workdir runs/mine --data.corpus corpus --data.tokenizer tok "
    "--run.steps 2 --run.eval-rows 8 --optim.warmup-steps 1 --model.num-layers 2",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """A folder like a clone, with a text of the user's and a run trained on it."""
    folder = tmp_path_factory.mktemp("deploy")
    for name in ("configs", "tools"):
        shutil.copytree(ROOT / name, folder / name)
    novel = ROOT / "bertlite_jax/quickstart_text/alice_in_wonderland.txt.zst"
    text = zstandard.ZstdDecompressor().decompressobj().decompress(novel.read_bytes())
    (folder / "my_text.txt").write_bytes(text)
    for command in PREPARE:
        run(command, folder)
    return folder


def run(command: str, folder: pathlib.Path) -> str:
    env = os.environ | {"PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"}
    env |= {"JAX_NUM_CPU_DEVICES": "1", "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    env["JAX_ENABLE_COMPILATION_CACHE"] = "true"
    done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_commands_and_the_code_run_in_order(place: pathlib.Path):
    assert len(COMMANDS) >= 8
    for command in COMMANDS:
        run(command, place)
    (place / "answers.py").write_text(PYTHON)
    answers = run("python answers.py", place).split()
    assert len(answers) == 2


def test_the_code_needs_two_packages_only():
    imported = set(re.findall(r"^(?:import|from) (\w+)", PYTHON, re.M))
    assert imported == {"json", "pathlib", "numpy", "onnxruntime", "tokenizers"}
