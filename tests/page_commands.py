"""Commands on a page of the docs, run the way its reader runs them: in a clone, with a text of their own."""

import os
import pathlib
import shutil
import subprocess
import sys

import zstandard

ROOT = pathlib.Path(__file__).resolve().parents[1]


def like_a_clone(folder: pathlib.Path, *names: str) -> pathlib.Path:
    """Copies these folders of the project into `folder`, and a novel as `my_text.txt`; returns `folder`."""
    for name in names:
        shutil.copytree(ROOT / name, folder / name)
    novel = ROOT / "bertlite_jax/quickstart_text/alice_in_wonderland.txt.zst"
    (folder / "my_text.txt").write_bytes(zstandard.ZstdDecompressor().decompressobj().decompress(novel.read_bytes()))
    return folder


def run_in(folder: pathlib.Path, command: str) -> str:
    """What a command prints, which may be a script of several lines; fails where its exit code is not 0.

    Programs that one command compiled are there for the next.
    """
    env = os.environ | {"PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    env |= {"JAX_NUM_CPU_DEVICES": "1", "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    env["JAX_ENABLE_COMPILATION_CACHE"] = "true"
    done = subprocess.run(["bash", "-ec", command], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
