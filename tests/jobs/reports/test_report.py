"""`report` reads a work directory as a run leaves it, whole or in part, and writes one file in one move."""

import json

import pytest

from bertlite_jax.config import files
from bertlite_jax.config.pretrain import Data, Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.reports.report import report
from bertlite_jax.report.run import html


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "my run"
    folder.mkdir()
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "corpus.json").write_text('{"splits": {"train": {"windows": 4321}}, "statistics": {"duplicates": 77}}')
    config = Pretrain(data=Data(corpus=(str(corpus), str(tmp_path / "gone"))))
    (folder / "config.json").write_text(files.to_json(config))
    lines = [{"step": step, "loss": 5.0, "mlm_loss": 4.4, "tokens_per_second": 900.0} for step in (10, 20)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_running_run_has_a_report(workdir):
    path = report(workdir)
    assert path == workdir / "report.html"
    text = path.read_text(encoding="utf-8")
    assert "my run" in text
    assert "4,321" in text
    assert "77" in text
    assert "Not finished: step 20" in text
    assert "Not found on this machine" in text


def test_a_finished_run_shows_its_summary_samples_and_environment(workdir):
    (workdir / "summary.json").write_text('{"steps": 20, "valid_mlm_loss": 4.321}')
    (workdir / "samples.json").write_text('[{"text": "a [MASK]", "truth": "b", "predictions": [["zebra", 0.5]]}]')
    (workdir / "environment.json").write_text('{"jax": "0.10.2", "cpu": {"cores": 2}}')
    text = report(str(workdir)).read_text(encoding="utf-8")
    for wanted in ("4.321", "zebra", "0.10.2", "cpu.cores"):
        assert wanted in text
    assert "Not finished" not in text


def test_nothing_but_the_report_is_written(workdir):
    before = {path.name for path in workdir.iterdir()}
    report(workdir)
    assert {path.name for path in workdir.iterdir()} - before == {"report.html"}


def test_a_report_that_fails_leaves_the_old_one(workdir, monkeypatch):
    report(workdir)
    old = (workdir / "report.html").read_bytes()
    names = {path.name for path in workdir.iterdir()}
    monkeypatch.setattr(html, "render", lambda run: "\udc80")  # cannot be encoded: the write itself fails
    with pytest.raises(UnicodeEncodeError):
        report(workdir)
    assert (workdir / "report.html").read_bytes() == old
    assert {path.name for path in workdir.iterdir()} == names


def test_a_folder_that_is_no_work_directory_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"config\.json does not exist"):
        report(tmp_path)


def test_a_run_that_has_not_begun_is_refused(workdir):
    (workdir / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"metrics\.jsonl does not exist"):
        report(workdir)


@pytest.mark.parametrize(
    ("text", "message"), [("{", r"summary\.json: not JSON"), ("[]", r"summary\.json: it should be an object")]
)
def test_a_broken_file_is_named(workdir, text, message):
    (workdir / "summary.json").write_text(text)
    with pytest.raises(UserError, match=message):
        report(workdir)
