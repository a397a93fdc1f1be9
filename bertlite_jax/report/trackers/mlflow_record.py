"""A record in MLflow: a run on the server or in the database that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import json
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from bertlite_jax.report.trackers.record import PROJECT, About, Record

TAG = "bertlite_id"
"""By which the run of a work directory is found again."""
PARAMS_AT_ONCE = 100
LONGEST_PARAM = 6000
"""What MLflow takes: values in one call, characters in one value."""


def open_record(about: About) -> Record:
    """Opens the run in its experiment; makes both where they are missing."""
    # MLflow's client tries each call for four minutes. Here the next attempt is the follower's.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]
    from mlflow.entities import Metric  # pyright: ignore[reportMissingImports]

    client = MlflowClient()
    name = about.project or os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
    run_id = _run_id(client, name, about)
    data = client.get_run(run_id).data
    _send_settings(client, run_id, about.settings, data.params)
    last = {name: max(metric.step for metric in client.get_metric_history(run_id, name)) for name in data.metrics}

    def send(step: int, figures: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        client.log_batch(run_id, metrics=[Metric(name, float(value), now, step) for name, value in figures.items()])

    def artifact(path: pathlib.Path) -> None:
        client.log_artifact(run_id, str(path))

    def close(failed: bool) -> None:
        client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    where = f"mlflow: {about.name} in experiment {name} of {client.tracking_uri}"
    return Record(where, last, send, artifact, close)


def _run_id(client: Any, experiment: str, about: About) -> str:
    found = client.get_experiment_by_name(experiment)
    experiment_id = found.experiment_id if found else client.create_experiment(experiment)
    runs = client.search_runs([experiment_id], f"tags.{TAG} = '{about.id}'", max_results=1)
    if not runs:
        return client.create_run(experiment_id, tags={TAG: about.id}, run_name=about.name).info.run_id
    run_id = runs[0].info.run_id
    client.update_run(run_id, status="RUNNING")
    return run_id


def _send_settings(client: Any, run_id: str, settings: Mapping[str, Any], there: Mapping[str, str]) -> None:
    """Sends those that the record lacks: MLflow refuses to change one."""
    from mlflow.entities import Param  # pyright: ignore[reportMissingImports]

    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    lacking = [Param(name, text[:LONGEST_PARAM]) for name, text in texts.items() if name not in there]
    for start in range(0, len(lacking), PARAMS_AT_ONCE):
        client.log_batch(run_id, params=lacking[start : start + PARAMS_AT_ONCE])
