"""The site has every page of docs/, each in its menu, and no link that leads nowhere."""

import importlib
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGES = {path.name for path in (ROOT / "docs").glob("*.md")}
LOGS = {f"results/{path.name}" for path in (ROOT / "docs/results").iterdir()}
"""What figures of RESULTS.md link to; files of the site too."""


@pytest.fixture
def site_pages(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "tools")
    import site_pages

    return site_pages


def menu() -> list[str]:
    return re.findall(r"[\w-]+\.md", str(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))


def test_the_menu_has_each_page_once(site_pages):
    assert sorted(menu()) == sorted(PAGES | set(site_pages.pages()))


def test_what_belongs_to_a_list_item_is_indented_by_four(site_pages):
    """GitHub takes three spaces under `1. ` too; MkDocs then ends the list there, and runs its next items together."""
    written = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
    for name, text in {**written, **site_pages.pages()}.items():
        outside = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        assert not re.search(r"^\n {1,3}\S", outside, re.M), name


def test_pictures_are_there_and_small():
    pictures = list((ROOT / "docs/gallery").iterdir())
    shown = re.findall(r"\]\((gallery/[^)]+)\)", (ROOT / "docs/gallery.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(f"gallery/{path.name}" for path in pictures)
    sizes = [path.stat().st_size for path in pictures]
    assert max(sizes) < 150_000
    assert sum(sizes) < 1_000_000


def test_links_of_pages_from_elsewhere_lead_to_pages_of_the_site(site_pages):
    for name, text in site_pages.pages().items():
        links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
        inside = {link for link in links if link and not link.startswith(("http", "mailto:"))}
        assert inside <= PAGES | LOGS | set(site_pages.pages()), name


def test_what_the_reference_names_exists_and_is_described(site_pages):
    for _, _, names in site_pages.REFERENCE.values():
        for name in names:
            try:
                found = importlib.import_module(name)
            except ModuleNotFoundError:
                module, _, function = name.rpartition(".")
                found = getattr(importlib.import_module(module), function)
            assert found.__doc__, name


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")),
    reason="the site's own packages are not installed; make docs installs them",
)
def test_it_builds_without_a_warning(site_pages, tmp_path):
    for name in ("docs", "tools", "bertlite_jax"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("mkdocs.yml", *(file for file in site_pages.COPIED.values() if "/" not in file)):
        shutil.copy(ROOT / name, tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/learning.html").is_file()
    assert "residual_scale" in (tmp_path / "site/reference_config.html").read_text()


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="make docs installs what runs notebooks")
    nbclient = pytest.importorskip("nbclient", reason="make docs installs what runs notebooks")
    pytest.importorskip("ipykernel", reason="make docs installs what runs notebooks")
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")  # Tests pretend to have several, which its kernel would share.
    monkeypatch.setenv("PATH", f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")
    notebook = nbformat.read(ROOT / "docs/quickstart.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "notebook-run/int8/onnx/model_quantized.onnx").is_file()
    assert (tmp_path / "notebook-run/pretrained/report.html").is_file()
    said = "".join(str(output.get("text", "")) for cell in notebook.cells for output in cell.get("outputs", []))
    assert '"label": "question"' in said
