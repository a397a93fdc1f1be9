"""Where a recipe is found: a path goes before a name, and a name before nothing but advice."""

import pathlib

import pytest

from bertlite_jax.config import files
from bertlite_jax.config.pretrain import Pretrain, Run
from bertlite_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_a_clone_has_the_recipes_of_configs():
    assert files.shipped() == {path.stem: path for path in (ROOT / "configs").glob("*.py")}
    assert len(files.shipped()) >= 25


def test_an_installed_package_has_its_own_whatever_lies_beside_it(tmp_path):
    """The folder `configs` beside it would be someone else's."""
    package = tmp_path / "site-packages/bertlite_jax"
    for path in (package / "recipes/ours.py", package.parent / "configs/theirs.py"):
        path.parent.mkdir(parents=True)
        path.write_text("")
    assert files.shipped(package) == {"ours": package / "recipes/ours.py"}


def test_a_package_without_recipes_has_none(tmp_path):
    assert files.shipped(tmp_path / "bertlite_jax") == {}


def test_a_name_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.load_file("debug_cpu") == files.load_file(str(ROOT / "configs/debug_cpu.py"))


def test_a_file_goes_before_a_recipe_of_its_name(tmp_path, monkeypatch):
    """A folder does not: it cannot be a recipe."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("albert_base").write_text(
        "from bertlite_jax.config import Pretrain, Run\nconfig = Pretrain(run=Run(7))"
    )
    pathlib.Path("bert_base").mkdir()
    assert files.load_file("albert_base") == Pretrain(run=Run(7))
    assert files.find("bert_base") == str(ROOT / "configs/bert_base.py")


@pytest.mark.parametrize(
    ("typed", "example", "advice"),
    [
        ("albert_bse", "", "did you mean albert_base, "),
        ("glue", "finetune_glue", "did you mean finetune_albert_glue, finetune_glue?"),
        ("distilbert", "distil_distilbert", ""),
        ("BERT-Large", "", "did you mean bert_large, "),
        ("squad", "albert_base", "`bertlite recipes` lists those of the package"),
        ("configs/albert_base.py", "albert_base", "did you mean albert_base?"),
        ("mine/lage.py", "", "did you mean mine/large.py?"),
        ("qqq", "", "`bertlite recipes` lists those of the package"),
        ("", "", "`bertlite recipes` lists those of the package"),
    ],
)
def test_the_nearest_recipes_are_named(typed, example, advice, tmp_path, monkeypatch):
    """Those that have the word in their name, or a similar name; of the kind that the job needs."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("mine").mkdir()
    pathlib.Path("mine/large.py").write_text("")
    if not advice:
        assert files.find(typed, example) == str(ROOT / f"configs/{typed}.py")
        return
    with pytest.raises(UserError) as refused:
        files.find(typed, example)
    assert str(refused.value).startswith(f"config: {typed} does not exist; {advice}")


def test_a_folder_is_called_one_and_not_advised_in_its_own_place(tmp_path, monkeypatch):
    """Somebody names a run's work directory, which does exist."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("mine.py").mkdir()
    with pytest.raises(UserError, match=r"^config: mine.py is a folder; name a file, or one that `bertlite recipes`"):
        files.find("mine.py")
    with pytest.raises(UserError, match=r"^config: mime.py does not exist; `bertlite recipes` lists"):
        files.find("mime.py")
