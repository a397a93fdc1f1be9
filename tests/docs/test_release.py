"""What is stated in several files is the same in all of them: version, requirements, supported Pythons."""

import pathlib
import re
import subprocess
import tomllib
import typing

import pytest
import yaml

import bertlite_jax
from bertlite_jax.config.pretrain import Tracker

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / ".github/workflows").glob("*.yml")}
SUPPORTED = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))


def requirements(name: str) -> list[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-r"))]


def test_the_version_is_written_in_one_place():
    """`bertlite_jax/__init__.py`; the build reads it there."""
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT
    assert "\nversion:" not in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_changelog_begins_with_this_version():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert re.fullmatch(rf"{re.escape(bertlite_jax.__version__)} \((unreleased|20\d\d-\d\d-\d\d)\)", headings[0])
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \(20\d\d-\d\d-\d\d\)", heading) for heading in headings[1:])


@pytest.mark.parametrize("page", ["README.md", "docs/tpu.md"])
def test_the_wheels_that_pages_name_are_of_this_version(page):
    named = re.findall(r"bertlite_jax-([\d.]+)-py3-none-any.whl", (ROOT / page).read_text(encoding="utf-8"))
    assert set(named) == {bertlite_jax.__version__}


def test_users_get_the_same_packages_from_the_wheel_and_from_a_clone():
    assert requirements("requirements.txt") == PROJECT["dependencies"]


def test_an_extra_that_tests_use_has_the_same_bound():
    bounds = {
        re.split("[><=!]", each)[0]: each for extra in PROJECT["optional-dependencies"].values() for each in extra
    }
    of_tests = {re.split("[><=!]", each)[0]: each for each in requirements("requirements-dev.txt")}
    shared = bounds.keys() & of_tests.keys() - {"torch"}  # One version, since its other builds want a GPU.
    assert {"transformers", "pyarrow", "jieba"} <= shared
    assert {name: of_tests[name] for name in shared} == {name: bounds[name] for name in shared}


UNTRIED_EXTRAS = {
    "tensorflow": "large; tests begin with the variables that it reads from a checkpoint",
    "gcs": "needs a bucket and an account; tests read object storage through fsspec's file system in memory",
    "tpu": "needs a TPU; tests compile for one that is described",
}
"""Extras that no test installs, and why not."""


def test_every_extra_has_a_test_that_installs_it_or_a_reason():
    """With `requirements-dev.txt`, in a job of the nightly workflow, or in a test of its own."""
    extras = PROJECT["optional-dependencies"]
    of_tests = {re.split("[><=!]", each)[0] for each in requirements("requirements-dev.txt")}
    by_tests = {
        name
        for name, packages in extras.items()
        if of_tests.issuperset(re.split("[><=!]", package)[0] for package in packages)
    }
    commands = " ".join(step.get("run", "") for step in WORKFLOWS["nightly"]["jobs"]["trackers"]["steps"])
    by_job = set(re.findall(r"\w+", re.findall(r"-e \"\.\[(.*?)\]", commands)[0]))
    assert by_job == set(typing.get_args(Tracker))
    by_itself = {"beam"}  # tests/data/corpus/test_beam.py
    assert by_tests | by_job | by_itself | UNTRIED_EXTRAS.keys() == extras.keys()
    assert not UNTRIED_EXTRAS.keys() & (by_tests | by_job)


def test_every_python_that_is_supported_is_tested():
    jobs = WORKFLOWS["tests"]["jobs"]
    assert jobs["newest"]["strategy"]["matrix"]["python"] == SUPPORTED
    assert PROJECT["requires-python"] == f">={SUPPORTED[0]}"
    (lowest,) = [
        step["with"]["python-version"] for step in jobs["lowest"]["steps"] if "python-version" in step.get("with", {})
    ]
    assert lowest == SUPPORTED[0]
    nightly = WORKFLOWS["nightly"]["jobs"]["all"]["strategy"]["matrix"]["python"]
    assert nightly == [SUPPORTED[0], SUPPORTED[-1]]


def test_every_make_target_of_the_workflows_exists():
    steps = [step for each in WORKFLOWS.values() for job in each["jobs"].values() for step in job["steps"]]
    targets = {name for step in steps for name in re.findall(r"make ([\w-]+)", step.get("run", ""))}
    assert targets == {"test-thorough", "test-lowest", "test-all", "test-hosts", "wheel"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


def test_the_lowest_packages_are_those_of_the_bounds(tmp_path):
    """`sentencepiece>=0.2.2` is 0.2.2; none is forgotten."""
    made = tmp_path / "lowest.txt"
    subprocess.run(["make", "-s", f"LOWEST={tmp_path}", str(made)], cwd=ROOT, check=True)
    pinned = made.read_text(encoding="utf-8").splitlines()
    assert [line.replace("==", ">=") for line in pinned] == [
        line.split(",")[0] for line in requirements("requirements.txt")
    ]
    assert "sentencepiece==0.2.2" in pinned
