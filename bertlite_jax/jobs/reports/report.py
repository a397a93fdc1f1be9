"""`bertlite report RUN`: writes RUN/report.html from the files in a run's work directory."""

from __future__ import annotations

import os
import pathlib

from bertlite_jax.config import checks, files
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.reports import beside_teacher, inside, tasks
from bertlite_jax.report.run import html, metrics, side_files


def report(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Writes the report of a run of pretraining or fine-tuning, finished or not, of several, or of smaller models.

    `config.json` and `metrics.jsonl` are required. If they exist, `summary.json`, `samples.json`, `environment.json`,
    `inference.json`, the corpora and a look inside the newest checkpoint are shown. For fine-tuning, pruning and
    compression see `tasks.render`.

    Returns:
      The path of `report.html`, a single file without links to others.

    Raises:
      UserError: the folder is no work directory, a file in it is broken, or matplotlib is not installed.
    """
    workdir = pathlib.Path(workdir)
    if tasks.holds_tasks(workdir):
        return _write(workdir, tasks.render(workdir))
    config: Pretrain = files.read_json(workdir / "config.json")
    try:
        checks.check_counts(config)
        checks.check_model(config.model)
    except UserError as error:
        raise UserError(f"report: {workdir / 'config.json'}: {error}") from error
    corpora = {
        folder: side_files.read(pathlib.Path(folder) / "corpus.json", None, side_files.CORPUS)
        for folder in config.data.corpus
    }
    samples = side_files.read(workdir / "samples.json", [], side_files.SAMPLES)
    run = html.Run(
        name=workdir.resolve().name,
        config=config,
        lines=metrics.read_lines(workdir / "metrics.jsonl"),
        summary=side_files.read(workdir / "summary.json", {}, side_files.SUMMARY),
        corpora=corpora,
        samples=samples,
        inside=inside.of_run(workdir, samples),
        environment=side_files.read(workdir / "environment.json", {}),
        inference=side_files.read_inference(workdir / "inference.json"),
        compared=beside_teacher.section_of_pretraining(workdir, config),
    )
    return _write(workdir, html.render(run))


def _write(workdir: pathlib.Path, page: str) -> pathlib.Path:
    path = workdir / "report.html"
    whole_files.check_no_folder(path, job="report")
    with whole_files.output_errors(path, workdir, "report"):
        whole_files.write_text(path, page)
    return path
