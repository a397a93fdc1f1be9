"""`bertlite report RUN`: writes RUN/report.html from what the run left in its work directory."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from bertlite_jax import config as settings
from bertlite_jax import config_files
from bertlite_jax.report import html, metrics


def report(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Makes the report of a pretraining run, finished or not.

    `config.json` and `metrics.jsonl` have to be there; `summary.json`, `samples.json`, `environment.json`,
    `inference.json` and the corpora are shown where they are found.

    Returns:
      the path of `report.html`, a single file that needs nothing beside it.

    Raises:
      UserError: the folder is no work directory, a file in it is broken, or matplotlib is not installed.
    """
    workdir = pathlib.Path(workdir)
    config: settings.Pretrain = config_files.read_json(workdir / "config.json")
    corpora = {folder: _read(pathlib.Path(folder) / "corpus.json", None) for folder in config.data.corpus}
    run = html.Run(
        name=workdir.resolve().name,
        config=config,
        lines=metrics.read_lines(workdir / "metrics.jsonl"),
        summary=_read(workdir / "summary.json", {}),
        corpora=corpora,
        samples=_read(workdir / "samples.json", []),
        environment=_read(workdir / "environment.json", {}),
        inference=_read(workdir / "inference.json", {}),
    )
    path = workdir / "report.html"
    unfinished = workdir / f".report.html.{os.getpid()}"
    try:
        unfinished.write_text(html.render(run), encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _read(path: pathlib.Path, missing: Any) -> Any:
    """The JSON in `path`, or `missing` where there is no such file."""
    if not path.is_file():
        return missing
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise settings.UserError(f"report: {path}:{error.lineno}: not JSON: {error.msg}") from error
    if missing is not None and type(values) is not type(missing):
        wanted = "list" if isinstance(missing, list) else "object"
        raise settings.UserError(f"report: {path}: holds {type(values).__name__}; it should hold one JSON {wanted}")
    return values
