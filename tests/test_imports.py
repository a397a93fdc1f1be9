"""Imports point down: cli and tools; jobs; convert; data, model, train and report; config. Heavy ones stay put."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "bertlite_jax"
WINGS = ("data", "model", "train", "report")
GROUND = {"config", "config_checks", "config_files", "config_finetune", "config_learn", "presets"}
MAY_IMPORT = {
    "cli": {"cli_compile", "cli_tasks", "cli_config", "cli_tables", "jobs", "data", "model", "config"},
    "cli_tasks": {"cli_config", "cli_tables", "jobs", "model", "config"},
    "cli_compile": {"cli_config", "cli_tables", "jobs", "config"},
    "cli_config": {"config"},
    "cli_tables": set(),
    "jobs": {"jobs", "convert", *WINGS},
    "convert": {"convert", *WINGS},
    **{wing: {wing} for wing in WINGS},
    "config": set(),
    "config_checks": set(),
    "config_files": set(),
    "config_finetune": set(),
    "config_learn": set(),
    "presets": set(),
    "__main__": {"cli"},
    "__init__": set(),
}
# Who may import what is heavy or belongs to one place.
ONLY_IN = {
    "flax": ("model/", "train/sharding.py"),
    "orbax": ("train/checkpoint.py",),
    "torch": ("convert/parity.py", "convert/weight_files.py", "jobs/"),
    "transformers": ("convert/parity.py", "jobs/"),
    "apache_beam": ("data/corpus_beam.py",),
    "tensorflow": ("convert/tensorflow.py",),
    "onnx": ("convert/",),
    "sklearn": ("data/metrics.py",),
    "scipy": ("data/metrics.py",),
    "onnxruntime": ("convert/onnx_session.py", "convert/ort_format.py", "convert/bundled/", "jobs/"),
}


def modules() -> list[pathlib.Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(path: pathlib.Path) -> set[str]:
    """Full names of everything that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: pathlib.Path):
    here = path.relative_to(PACKAGE)
    floor = here.parts[0].removesuffix(".py")
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "bertlite_jax" or len(parts) == 1:
            continue
        target = parts[1]
        assert target in MAY_IMPORT[floor] | GROUND | {"__version__"}, f"{here} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_stay_in_their_place(path: pathlib.Path):
    here = path.relative_to(PACKAGE).as_posix()
    for name in imported(path):
        places = ONLY_IN.get(name.split(".")[0])
        assert places is None or here.startswith(places), f"{here} imports {name}"


def test_corpus_workers_need_no_jax():
    """They are started by the dozen; none may wait for JAX. (grain, which feeds batches, imports it.)"""
    code = (
        "import sys, bertlite_jax.data.corpus, bertlite_jax.data.tokenizer; "
        "print('jax' in sys.modules, 'tensorflow' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "False"]
