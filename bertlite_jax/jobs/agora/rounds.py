"""A round: a model for each set, the mistakes of the best one, and new points made of them."""

from __future__ import annotations

import math
import pathlib
import shutil
from typing import Any

from bertlite_jax.config.agora import sets
from bertlite_jax.config.agora.sets import Set
from bertlite_jax.convert import adoption
from bertlite_jax.convert.weights.folder import FILE
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.host import folder_lock, whole_files
from bertlite_jax.jobs.agora import history, mistakes, points
from bertlite_jax.jobs.agora.ground import Ground, learn_of
from bertlite_jax.jobs.agora.history import State, Trained, as_number
from bertlite_jax.jobs.answering.task_splits import options_of_more
from bertlite_jax.jobs.finetuning.few_labels import copies, masked_lm
from bertlite_jax.jobs.finetuning.few_labels.few_label_inputs import folder_of
from bertlite_jax.jobs.finetuning.finetune import BEST, finetune

BEST_RUN = "best"
"""The fine-tuning run of the best model, in the work directory of the loop."""
_POINTS = "points"


class Stopped(Exception):
    """A signal has stopped the training of a model."""

    def __init__(self, figures: dict[str, Any]):
        super().__init__("stopped by a signal")
        self.figures = figures


def run_round(ground: Ground, state: State) -> history.Round:
    """Trains and closes the round that follows on a state. What is done of it already is not done again.

    Raises:
      Stopped: a signal came; all models whose training had ended are kept.
      Diverged: the losses of all models of the first round did. In a later one that is its result.
    """
    number = state.rounds + 1
    place = models_of(ground.folder, number)
    print(f"agora: round {number}: {len(state.left):,} sets, {state.all_points:,} points", flush=True)
    scores = _train_all(ground, state, place)
    best = max(scores, key=lambda one: as_number(scores[one]))
    wrong, new = 0, 0
    if scores[best] is not None:
        run = place / best.name
        if not (run / BEST / FILE).is_file():  # Somebody has removed it since.
            _finetune(ground, best, number, run)
        wrong, new = _add_points(ground, number, run)
        if as_number(scores[best]) > state.best_score:
            _keep(run, ground.folder / BEST_RUN)
    line = history.closed(state, scores, wrong, new, ground.loop.agora)
    history.append(ground.folder, line)
    shown = f"{scores[best]:.4f} by {best.name}" if scores[best] is not None else "none, as every model diverged"
    print(
        f"agora: round {number}: best {ground.metrics[0]} {shown}, {wrong:,} mistakes, {new:,} new points; "
        f"{len(line.removed)} sets go, {len(line.replayed)} come back",
        flush=True,
    )
    return line


def check_left(ground: Ground, state: State) -> None:
    """Raises UserError if what closed rounds have left for the next ones is not there any more."""
    if not state.rounds:
        return
    file = points_of(ground.folder, state.rounds + 1)
    count = len(points.lines_of(file))
    # A round in which every model diverged is the last one, and leaves no file.
    if count != state.all_points and not state.ended:
        raise UserError(
            f"agora: {file} has {count:,} points, and by {history.HISTORY} there are {state.all_points:,}; put the "
            "file back, or pass --overwrite to start again"
        )
    if not (ground.folder / BEST_RUN / BEST / FILE).is_file():
        raise UserError(
            f"agora: {ground.folder / BEST_RUN} is missing, the best model of round {state.best_round}; put back a "
            "copy, or pass --overwrite to start again"
        )


def clear_closed(folder: pathlib.Path, state: State) -> None:
    """Removes the models of closed rounds, which a kill may have left."""
    for number in range(1, state.rounds + 1):
        shutil.rmtree(models_of(folder, number), ignore_errors=True)


def models_of(folder: pathlib.Path, number: int) -> pathlib.Path:
    """The folder of the models of a round, while it is not closed."""
    return folder / f"round-{number:03}"


def points_of(folder: pathlib.Path, number: int) -> pathlib.Path:
    """The file of the points that the models of a round are trained on; the first round has none."""
    return folder / _POINTS / f"round-{number:03}.jsonl"


# --- Models ----------------------------------------------------------------------------------------------------------


def _train_all(ground: Ground, state: State, place: pathlib.Path) -> dict[Set, float | None]:
    """The scores of all sets. Of the models only the best so far is kept."""
    number = state.rounds + 1
    ended = {line.set: line for line in history.read_results(ground.folder) if line.round == number}
    scores: dict[Set, float | None] = {}
    best = -math.inf
    for count, one in enumerate(state.left, 1):
        run = place / one.name
        if one.name not in ended:
            print(f"agora: round {number}, model {count} of {len(state.left)}: {one.name}", flush=True)
            ended[one.name] = _trained(ground, one, number, run)
            history.append(ground.folder, ended[one.name])
        scores[one] = ended[one.name].score
        if as_number(scores[one]) > best:
            best = as_number(scores[one])
            _remove_models(place, [other for other in scores if other != one])
        else:
            _remove_models(place, [one])
    if best == -math.inf and not state.rounds:
        raise Diverged(f"agora: round {number}: every model diverged; try lower --agora.learning-rates")
    return scores


def _remove_models(place: pathlib.Path, which: list[Set]) -> None:
    for one in which:
        if (place / one.name).is_dir():
            whole_files.remove_folder(place / one.name)


def _trained(ground: Ground, one: Set, number: int, run: pathlib.Path) -> Trained:
    """Trains a model; its line says so if it diverged."""
    try:
        figures = _finetune(ground, one, number, run)
    except Diverged as error:
        print(error)
        return Trained(number, one.name, history.DIVERGED, None, {}, 0, 0, 0.0)
    found = {name: float(figures[name]) for name in ground.metrics}
    score = found[ground.metrics[0]]
    real = math.isfinite(score)
    return Trained(
        round=number,
        set=one.name,
        status=history.DONE if real else history.DIVERGED,
        score=score if real else None,
        figures={name: value for name, value in found.items() if math.isfinite(value)},
        best_step=figures["best_step"],
        steps=figures["steps"],
        seconds=figures["train_seconds"],
    )


def _finetune(ground: Ground, one: Set, number: int, run: pathlib.Path) -> dict[str, Any]:
    """What `finetune` says of a set's model. Raises Stopped if a signal came."""
    file = points_of(ground.folder, number)
    loop, added = ground.loop, str(file) if file.is_file() and file.stat().st_size else ""
    recipe = sets.recipe_of(loop.recipe, one, loop.agora, added)
    figures = finetune(recipe, str(run), loop.init, answers=folder_of(ground.folder))
    if "stopped" in figures:
        raise Stopped(figures)
    return figures


def _keep(run: pathlib.Path, place: pathlib.Path) -> None:
    """Copies the run of the best model, in the place of the one that was best before."""
    with whole_files.folder_beside(place) as copy, whole_files.output_errors(place, copy, "agora"):
        shutil.copytree(run, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns(folder_lock.FILE))
        whole_files.put_folder(copy, place, replace=True)


# --- Points ----------------------------------------------------------------------------------------------------------


def _add_points(ground: Ground, number: int, run: pathlib.Path) -> tuple[int, int]:
    """Writes the points of the round after this one, and returns how many mistakes a model makes and how many are new.

    Args:
      ground: of the loop.
      number: of this round.
      run: of its best model.
    """
    before, after = points_of(ground.folder, number), points_of(ground.folder, number + 1)
    correct = mistakes.answered(mistakes.open_model(str(run), ground.head), ground.head, ground.dev, ground.off_by)
    wrong = [example for example, is_right in zip(ground.dev, correct, strict=True) if not is_right]
    new = _points_of(ground, number, wrong, before) if wrong else []
    columns = options_of_more(ground.loop.recipe.data)
    points.write(after, points.lines_of(before), new, ground.head, columns)
    return len(wrong), len(new)


def _points_of(ground: Ground, number: int, wrong: list[Example], before: pathlib.Path) -> list[Example]:
    """The new points that come of mistakes, beside those in the file `before`."""
    settings, head = ground.loop.agora, ground.head
    known = points.rows_in(before, head, options_of_more(ground.loop.recipe.data))

    def is_new(example: Example) -> bool:
        row = points.row_of(example)
        return row not in known and row not in ground.train_rows and not ground.kept_out.has(example)

    transforms = points.transforms_of(settings, ground.loop.recipe.run.seed, _masked_words(ground, wrong))
    made = points.changed(wrong, transforms, settings, number, is_new)
    labelled = points.labelled(made, ground.teacher, head, settings.confidence) if made else []
    return points.balanced(labelled, head, max(1, int(settings.growth * ground.examples)))


def _masked_words(ground: Ground, wrong: list[Example]) -> copies.Changes | None:
    """What a masked language model proposes for the words of mistakes; None if that is not asked for."""
    settings = ground.loop.agora
    if "masked_lm" not in settings.transforms:
        return None
    source = settings.masked_lm or ground.loop.init
    with adoption.open_weights(source, "agora") as loaded:
        seed, place = ground.loop.recipe.run.seed, folder_of(ground.folder)
        return masked_lm.changes_of(wrong, source, loaded, ground.masked_lm, learn_of(settings), seed, place)
