"""A record in Weights & Biases, on its server or, under WANDB_MODE=offline, in the work directory.

The server knows the last step of a run, and takes figures of later steps only. An offline record cannot be continued:
each start writes the whole of it anew from metrics.jsonl, and an orderly end removes those that earlier starts wrote.
So `wandb sync` finds one folder, with each step once.
"""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from bertlite_jax.errors import UserError
from bertlite_jax.report.trackers.record import PROJECT, About, Record

OPENING_SECONDS = 30
CLOSING_SECONDS = 45
"""After which W&B gives up, and raises. What was not uploaded stays in the work directory; `wandb sync` takes it."""


def open_record(about: About) -> Record:
    """Opens the run.

    Raises:
      UserError: nobody is logged in, and the mode is not offline.
    """
    import wandb  # pyright: ignore[reportMissingImports]

    online = wandb.setup().settings.mode not in ("offline", "dryrun", "disabled")
    if online and not wandb.login(prompt=False, verify=False):
        raise UserError("wandb: nobody is logged in; run `wandb login`, or set WANDB_MODE=offline")
    run = wandb.init(
        id=about.id,
        name=about.name,
        project=about.project or os.environ.get("WANDB_PROJECT") or PROJECT,
        config=dict(about.settings),
        dir=about.folder,
        resume="allow" if online else None,
        reinit="create_new",
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=OPENING_SECONDS,
            finish_timeout=CLOSING_SECONDS,
            finish_timeout_raises=True,
        ),
    )
    first = run.starting_step

    def send(step: int, figures: Mapping[str, float]) -> None:
        if step >= first:
            run.log(dict(figures), step=step)

    def artifact(path: pathlib.Path) -> None:
        run.log_artifact(path, name=f"{path.stem}-{about.id}", type=path.stem)

    def close(failed: bool) -> None:
        run.finish(exit_code=int(failed))
        if run.offline:
            _remove_earlier(pathlib.Path(run.sync_dir), about.id)

    return Record(_where(run, about.name), {}, send, artifact, close)


def _where(run: Any, name: str) -> str:
    if run.disabled:
        return "wandb: WANDB_MODE is disabled, so it keeps nothing"
    if run.offline:
        return f"wandb: offline in {run.sync_dir}; wandb sync uploads it"
    return f"wandb: {name}, {run.url}"


def _remove_earlier(whole: pathlib.Path, run_id: str) -> None:
    """Removes the offline records of the same run beside one that has everything."""
    for folder in whole.parent.glob(f"offline-run-*-{run_id}*"):
        if folder != whole:
            shutil.rmtree(folder)
