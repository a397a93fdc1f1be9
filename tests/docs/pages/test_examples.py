"""The examples in the docstrings of public functions give what they say, and the site's reference shows them."""

import doctest
import pathlib
import pydoc
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
LIBRARY = (
    "config.files.load_file",
    "config.model.Model.residual_factor",
    "convert.sources.load",
    "convert.trim.trim",
    "data.rows.packing.plan_rows",
    "data.scores.squad_metrics.f1",
    "data.text.sentences.split_paragraph",
    "data.vocabulary.tokenizer.adopt_vocabulary",
    "data.vocabulary.tokenizer.load_tokenizer",
    "data.vocabulary.tokenizer.train_tokenizer",
    "jobs.answering.embed.embed",
    "jobs.pretraining.fill_mask.fill_mask",
    "model.encoder.Encoder",
    "model.ops.integer_grid.quantize_weights",
    "model.pooling.mean_of_windows",
    "model.pooling.unit_length",
    "model.residual_scale.folded",
    "report.cost.flops.forward_flops_per_row",
    "report.cost.flops.parameters",
    "report.run.metrics.read_lines",
    "search.costs.answer_seconds",
    "search.front.pareto",
    "search.score.w_coefficient",
    "search.space.points",
    "search.surrogate.extrapolated",
    "train.losses.distilled",
    "train.losses.masked_lm",
    "train.optim.make_optimizer",
    "train.optimizers.muon.orthogonalize",
    "train.pretraining.masking.budget_table",
    "train.pretraining.masking.mask_for_evaluation",
    "train.schedules.scaled_learning_rate",
    "train.schedules.schedule",
)
"""What code of one's own calls first: each has an example."""


@pytest.fixture
def after_quickstart(tmp_path, monkeypatch):
    """An empty folder but for `runs/quickstart`: a run like that of `bertlite quickstart`, of two shared layers."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/quickstart").symlink_to(ROOT / "tests/golden/0.1.0/pretrained")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("after_quickstart")
@pytest.mark.parametrize("name", LIBRARY)
def test_an_example_gives_what_it_says_and_imports_what_it_needs(name):
    documented = pydoc.locate(f"bertlite_jax.{name}")
    assert documented is not None
    (examples,) = doctest.DocTestFinder(recurse=False).find(documented, name, module=False, globs={})
    assert examples.examples
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert not said, "".join(said)


def test_every_example_is_in_the_list():
    """Also one that was added without a thought for this file."""
    files = (path for path in (ROOT / "bertlite_jax").rglob("*.py") if re.search(r"^ +>>> ", path.read_text(), re.M))
    modules = {".".join(path.relative_to(ROOT / "bertlite_jax").with_suffix("").parts) for path in files}
    assert {module for module in modules if not any(name.startswith(f"{module}.") for name in LIBRARY)} == set()


def test_the_reference_shows_every_example(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import site_pages

    shown = [name for _, _, names in site_pages.REFERENCE.values() for name in names]
    missing = [name for name in LIBRARY if not any(f"bertlite_jax.{name}.".startswith(f"{one}.") for one in shown)]
    assert missing == []
