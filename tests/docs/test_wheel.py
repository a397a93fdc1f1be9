"""The wheel is whole: it has the package, the quickstart's text and the recipes, and runs outside a clone."""

import os
import pathlib
import subprocess
import sys
import tarfile
import zipfile

import pytest
from hatchling.build import build_editable, build_sdist

import bertlite_jax

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    """Built as `make wheel` builds it, without an environment of its own: a second or two."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    (made,) = folder.glob("*.whl")
    return made


def test_it_has_every_file_of_the_package_and_every_recipe(wheel: pathlib.Path):
    assert wheel.name == f"bertlite_jax-{bertlite_jax.__version__}-py3-none-any.whl"
    inside = zipfile.ZipFile(wheel)
    expected = {
        path.relative_to(ROOT).as_posix(): path
        for path in (ROOT / "bertlite_jax").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {f"bertlite_jax/recipes/{path.name}": path for path in (ROOT / "configs").glob("*.py")}
    assert {name for name in inside.namelist() if ".dist-info/" not in name} == set(expected)
    for name, path in expected.items():
        assert inside.read(name) == path.read_bytes(), name


def test_the_source_archive_has_what_its_tests_read(tmp_path, monkeypatch):
    """Also the workflows, which `tests/docs/test_release.py` compares with the requirements."""
    monkeypatch.chdir(ROOT)
    with tarfile.open(tmp_path / build_sdist(str(tmp_path))) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    folders = (".github", "bertlite_jax", "configs", "docs", "tests", "tools")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    expected = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    assert len(expected) > 900
    assert expected | {"Makefile", "CHANGELOG.md", "CITATION.cff", "requirements-dev.txt", "PKG-INFO"} <= inside


def test_an_editable_install_is_the_clone_itself(tmp_path, monkeypatch):
    """No second copy of a recipe that would stay as it was."""
    monkeypatch.chdir(ROOT)
    inside = zipfile.ZipFile(tmp_path / build_editable(str(tmp_path)))
    assert [name for name in inside.namelist() if ".dist-info/" not in name] == ["_bertlite_jax.pth"]
    assert inside.read("_bertlite_jax.pth").decode().strip() == str(ROOT)


def test_it_says_what_it_needs_and_how_it_may_be_used(wheel: pathlib.Path):
    inside = zipfile.ZipFile(wheel)
    described = f"bertlite_jax-{bertlite_jax.__version__}.dist-info"
    metadata = inside.read(f"{described}/METADATA").decode()
    assert "Requires-Python: >=3.11\n" in metadata
    assert "Requires-Dist: onnxruntime>=1.20\n" in metadata
    assert "bertlite = bertlite_jax.__main__:run\n" in inside.read(f"{described}/entry_points.txt").decode()
    assert inside.read(f"{described}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


@pytest.mark.thorough
def test_recipes_are_found_by_name_where_it_is_installed(wheel: pathlib.Path, tmp_path):
    """In a folder with nothing of the repository; of its own `configs` nothing is taken."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    (tmp_path / "installed/configs").mkdir()
    (tmp_path / "installed/configs/theirs.py").write_text("")
    (tmp_path / "here").mkdir()

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "bertlite_jax", *arguments]
        env = os.environ | {"PYTHONPATH": str(tmp_path / "installed"), "PYTHONSAFEPATH": "1"}
        return subprocess.run(
            command, cwd=tmp_path / "here", env=env, check=True, capture_output=True, text=True
        ).stdout

    listed = run("recipes")
    assert "bertlite pretrain albert_base " in listed
    assert "theirs" not in listed
    run("recipes", "copy", "albert_base", "my.py")
    assert "bertlite pretrain my.py [-h]" in run("pretrain", "my.py", "--help")
    assert "bertlite pretrain albert_base [-h]" in run("pretrain", "albert_base", "--help")
