"""`bertlite report RUN`: writes RUN/report.html from the files in a run's work directory."""

from __future__ import annotations

import os
import pathlib

from bertlite_jax.config import files
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.reports import tasks
from bertlite_jax.report.run import html, metrics


def report(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Writes the report of a pretraining or fine-tuning run, finished or not, or of several fine-tuning runs.

    `config.json` and `metrics.jsonl` are required; `summary.json`, `samples.json`, `environment.json`, `inference.json`
    and the corpora are shown if they exist. For fine-tuning see `tasks.render`.

    Returns:
      The path of `report.html`, a single file without links to others.

    Raises:
      UserError: the folder is no work directory, a file in it is broken, or matplotlib is not installed.
    """
    workdir = pathlib.Path(workdir)
    if tasks.holds_tasks(workdir):
        return _write(workdir, tasks.render(workdir))
    config: Pretrain = files.read_json(workdir / "config.json")
    corpora = {folder: tasks.read(pathlib.Path(folder) / "corpus.json", None) for folder in config.data.corpus}
    run = html.Run(
        name=workdir.resolve().name,
        config=config,
        lines=metrics.read_lines(workdir / "metrics.jsonl"),
        summary=tasks.read(workdir / "summary.json", {}),
        corpora=corpora,
        samples=tasks.read(workdir / "samples.json", []),
        environment=tasks.read(workdir / "environment.json", {}),
        inference=tasks.read(workdir / "inference.json", {}),
    )
    return _write(workdir, html.render(run))


def _write(workdir: pathlib.Path, page: str) -> pathlib.Path:
    path = workdir / "report.html"
    whole_files.write_text(path, page)
    return path
