"""`bertlite agora`: fine-tuning in rounds, with points made of mistakes, until no set of hyperparameters is left.

To be read from top to bottom. In each round a model is fine-tuned for each set, the mistakes of the best one on the
validation split are changed into new training points, a teacher labels them, and sets that do not show promise go. What
is done already is not done again, so the same command goes on wherever it was stopped or killed.

Source: de Wynter 2020 (arXiv 2010.07990), as its author describes it; Bort (arXiv 2010.10499) was fine-tuned by it.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import shutil
from typing import Any

from bertlite_jax.config import files
from bertlite_jax.config.agora.settings import Agora, Loop, check_agora
from bertlite_jax.config.finetune import Finetune, check_finetune
from bertlite_jax.convert import adoption, sources
from bertlite_jax.convert.huggingface import hub
from bertlite_jax.data.text import hub_datasets
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files, whole_files
from bertlite_jax.host.places import check_on_disk
from bertlite_jax.jobs.agora import history, mistakes, plan, rounds, table
from bertlite_jax.jobs.agora.ground import Ground, open_ground
from bertlite_jax.jobs.agora.history import State
from bertlite_jax.jobs.agora.rounds import BEST_RUN
from bertlite_jax.jobs.answering import task_splits
from bertlite_jax.jobs.finetuning import memory_need, own_data
from bertlite_jax.jobs.finetuning.few_labels.few_label_inputs import folder_of
from bertlite_jax.jobs.finetuning.prepare import prepare
from bertlite_jax.jobs.runs import one_job, several, workdir

CONFIG, SUMMARY, TABLE = "agora.json", "summary.json", "table.md"
_DECIDES_SCORES = frozenset({"run.eval_every"})
"""A single run may resume with another value. Here the score of a model is that of its best evaluation, and scores of
models are compared."""


def agora(
    config: Finetune,
    settings: Agora,
    teacher: str,
    run: str,
    init: str,
    dry_run: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Runs the loop, or goes on with it.

    Args:
      config: the recipe of every model, but for what its set of hyperparameters says.
      settings: of the loop.
      teacher: a model of the same task with the same labels, right on more than two thirds of the validation examples.
      run: the work directory: `results.jsonl`, `history.jsonl`, `points/`, `best/`, `summary.json`, `table.md`.
      init: the encoder that every model starts from.
      dry_run: only ask the teacher, and show how many models are trained and what they cost. Nothing is written.
      overwrite: start from the beginning, and delete the loop that the work directory holds.

    Returns:
      The content of `summary.json`. If a signal stopped a model, what `finetune` returned for it; {} for a dry run.

    Raises:
      UserError: anything that is wrong before the first model; then nothing is written.
      Diverged: all models of the first round did.
    """
    # --- Check everything that can be checked before the teacher is asked --------------------------------------------
    check_on_disk("workdir", run)
    check_finetune(config)
    check_agora(settings, config)
    for place in filter(None, (init, teacher, settings.masked_lm)):
        sources.check_there(place, "agora")
    for path in settings.keep_out:
        if not pathlib.Path(path).is_file():
            raise UserError(f"agora: --agora.keep-out {path} is no file; name one, which every start of the loop reads")
    folder = pathlib.Path(run)
    several.refuse_other_content(folder, CONFIG, "agora", f"{CONFIG} of Agora")
    config = own_data.decided(config, run, overwrite)
    mistakes.check_kind(task_splits.task_of(config.data).head)
    loop = Loop(config, settings, init, teacher)
    if not overwrite:
        _refuse_other_loop(folder, loop)

    with contextlib.ExitStack() as until_the_end:
        if not dry_run:
            until_the_end.enter_context(one_job.alone_in(folder, of_runs=True))

        # --- The task, the teacher -----------------------------------------------------------------------------------
        with adoption.open_weights(init, "agora") as weights:
            setup = prepare(config, weights, init)
            memory_need.check(setup)
            ground = open_ground(loop, folder, setup, weights)
        if dry_run:
            plan.print_plan(ground, setup)
            return {}
        del setup, weights
        _open_folder(ground, overwrite)

        # --- Rounds --------------------------------------------------------------------------------------------------
        try:
            state = _loop(ground)
        except rounds.Stopped as stopped:
            print("agora: stopped by a signal; the same command goes on", flush=True)
            return stopped.figures

        # --- The result ----------------------------------------------------------------------------------------------
        lines = history.read_rounds(folder, ground.sets)
        summary = _summary(ground, state) | {"table": table.rows_of(lines, ground.metrics[0])}
        whole_files.write_text(folder / TABLE, table.markdown(summary, lines))
        whole_files.write_json(folder / SUMMARY, summary)
    print(f"agora: the end, as {state.ended}; the best model is {folder / BEST_RUN}", flush=True)
    return summary


def _loop(ground: Ground) -> State:
    """Round after round; returns how the loop stands at its end."""
    settings, lines = ground.loop.agora, history.read_rounds(ground.folder, ground.sets)
    rounds.check_left(ground, history.stand(ground.sets, lines, settings))
    while not (state := history.stand(ground.sets, lines, settings)).ended:
        rounds.clear_closed(ground.folder, state)
        lines.append(rounds.run_round(ground, state))
    rounds.clear_closed(ground.folder, state)
    return state


def _summary(ground: Ground, state: State) -> dict[str, Any]:
    """What came out, beside the best model of the first round, which is the best of a plain grid."""
    folder, metric = ground.folder, ground.metrics[0]
    models = history.read_results(folder)
    best = json_files.read_object(folder / BEST_RUN / SUMMARY, "agora")
    return {
        "task": ground.task,
        "metric": metric,
        **{name: best[name] for name in ground.metrics},
        "best_round": state.best_round,
        "best_set": state.best_set,
        "best_run": str(folder / BEST_RUN),
        f"first_round_{metric}": state.best_scores[0],
        "rounds": state.rounds,
        "models": len(models),
        "points": state.all_points,
        "replays": state.replays,
        "ended": state.ended,
        "teacher": ground.loop.teacher,
        "teacher_right": ground.right / len(ground.dev),
        "train_seconds": round(math.fsum(model.seconds for model in models), 1),
    }


# --- The folder ------------------------------------------------------------------------------------------------------


def _refuse_other_loop(folder: pathlib.Path, loop: Loop) -> None:
    """Raises UserError if the folder holds a loop with other settings."""
    if not (folder / CONFIG).is_file():
        return
    lines = files.differences(files.read_json(folder / CONFIG, Loop, "agora"), loop)
    free = workdir.FREE_TO_CHANGE - _DECIDES_SCORES
    changed = [line for line in lines if line.partition(":")[0].removeprefix("recipe.") not in free]
    if changed:
        raise UserError(
            f"workdir: {folder} holds a loop with another config ({'; '.join(changed)}); name another --workdir, or "
            "pass --overwrite to start again"
        )


def _open_folder(ground: Ground, overwrite: bool) -> None:
    """Writes what the loop depends on, or compares it with what an earlier start has written."""
    folder = ground.folder
    whole_files.put_back_former(folder / BEST_RUN)
    if overwrite:
        _clear(ground)
    elif (folder / CONFIG).is_file():
        for entry, digests in ground.digests.items():
            workdir.refuse_other_corpora(folder, digests, entry)
    whole_files.remove_leftovers(folder)
    whole_files.write_text(folder / CONFIG, files.to_json(ground.loop) + "\n")
    loop, data = ground.loop, ground.loop.recipe.data
    commits = hub.commits((loop.init, loop.teacher, loop.agora.masked_lm))
    commits |= hub_datasets.commits((data.folder, data.validation_file), "agora")
    environment = workdir.environment(teachers=ground.digests["teachers"], hub=commits)
    environment |= {"corpora": ground.digests["corpora"]}
    whole_files.write_json(folder / workdir.ENVIRONMENT, environment)


def _clear(ground: Ground) -> None:
    """Removes what an earlier loop has written. Raises UserError if some of it is read now."""
    folder, loop = ground.folder, ground.loop
    data = loop.recipe.data
    here = pathlib.Path(os.path.realpath(folder))
    read = (loop.init, loop.teacher, loop.agora.masked_lm, data.folder, data.validation_file, *loop.agora.keep_out)
    for place in filter(None, read):
        if pathlib.Path(os.path.realpath(place)).is_relative_to(here):
            raise UserError(
                f"workdir: --overwrite would delete {place}, which this loop reads; name another --workdir, or copy it "
                "first"
            )
    for name in (history.HISTORY, history.RESULTS, SUMMARY, TABLE):
        (folder / name).unlink(missing_ok=True)
    for place in (*folder.glob("round-*"), folder / "points", folder_of(folder), folder / BEST_RUN):
        if place.is_dir():
            shutil.rmtree(place)
