"""`bertlite search --then distill`: from a budget to a model, in one command that resumes.

The search finds the shape. Then that shape is trained to imitate a teacher, its weights become an 8-bit file, and the
file is timed. Each part is the job of its own name; here is only what goes from one to the next.
"""

from __future__ import annotations

import pathlib
from typing import Any, NamedTuple

from bertlite_jax.config import files
from bertlite_jax.config.distillation.checks import check_distill, check_relations, check_start, check_teacher
from bertlite_jax.config.distillation.settings import Distill, Distillation, relation_heads, taught
from bertlite_jax.config.int8 import Int8Options
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.config.search.settings import Search, Shape, winner_of
from bertlite_jax.convert import sources
from bertlite_jax.convert.int8 import convert
from bertlite_jax.convert.weights import parameters
from bertlite_jax.data.text import documents
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.distilling.distill import distill
from bertlite_jax.jobs.distilling.teachers import open_teacher
from bertlite_jax.jobs.pretraining.vocabulary import tokenizer_of
from bertlite_jax.jobs.searching import timing
from bertlite_jax.jobs.searching.search import WINNER, search, shapes_of, sizes_of
from bertlite_jax.search import space

RUN, INT8, ANSWER = "distilled", "int8", "answer.json"
"""In the folder of a winner: the run of distillation, the 8-bit folder, and the figures of both."""


class Then(NamedTuple):
    """What happens to the winner."""

    distill: Distillation
    """With its teachers."""
    calibrate: tuple[str, ...]
    """Text that the 8-bit file is measured with, as for `bertlite convert int8`."""


def find_and_distill(
    config: Search, then: Then, where: str, folder: str, dry_run: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """Searches, distils the winner, and writes and times its 8-bit file.

    Args:
      config: as for `search`.
      then: what follows.
      where: file that the config comes from.
      folder: of the search. The winner gets a folder in it that is named by its shape, so that another limit, with
        another winner, leaves this one as it is.
      dry_run: only show the search; nothing is written.
      overwrite: train all trials and the winner again.

    Returns:
      The content of `answer.json`: {"shape", "host", "limit_seconds", "seconds": of an answer by the search,
      "seconds_int8": of the 8-bit encoder here (None where a slice answers), "rows" and "length" of an answer,
      "parameters", "valid_mlm_loss" of the student, "float32_mlm_accuracy", "int8_mlm_accuracy", "int8_bytes", "run",
      "int8"}; {"stopped": True} after a signal; {} for a dry run.

    Raises:
      UserError: as `search`, `distill` and `convert int8`; before the first trial if the teacher cannot teach one of
        the shapes.
    """
    check(config, then)
    content = search(config, where, folder, dry_run, overwrite)
    if dry_run:
        teachers = " and ".join(then.distill.teachers)
        print(f"search: then the winner learns from {teachers} for {config.run.steps:,} steps, and gets an 8-bit file")
    if dry_run or "stopped" in content:
        return content
    recipe = files.load_file(str(pathlib.Path(folder) / WINNER))
    place = pathlib.Path(folder) / folder_name(recipe.model)
    print(f"search: {content['winner']['name']} learns from its teacher in {place / RUN}", flush=True)
    learnt = distill(taught(recipe, then.distill), str(place / RUN), overwrite)
    if "stopped" in learnt:
        return learnt
    weights = sources.load(place / RUN, "search")
    rounded = convert.int8(weights, place / INT8, then.calibrate, Int8Options(), overwrite=True)
    answer = figures(config, content["winner"], recipe, learnt, rounded)
    answer |= {"run": str(place / RUN), "int8": str(place / INT8)}
    whole_files.write_json(place / ANSWER, answer)
    print(in_words(answer), flush=True)
    return answer


def check(config: Search, then: Then) -> None:
    """Raises UserError if a shape of the space could not be distilled, or the text is not there."""
    try:
        documents.list_files(then.calibrate)
    except UserError as error:
        raise UserError(f"search: --calibrate: {str(error).removeprefix('corpus: ')}") from error
    config = sizes_of(config, tokenizer_of(config))
    shapes = shapes_of(config)
    students = {shape: student_of(config, shape, then.distill) for shape in shapes}
    for student in students.values():
        check_distill(student)
    tokenizer, first = tokenizer_of(config), students[shapes[0]]
    teachers = [open_teacher(source, first, tokenizer) for source in then.distill.teachers]
    widths = {teacher.source: teacher.model.hidden_size for teacher in teachers}
    for shape, student in students.items():
        try:
            check_relations(student, relation_heads(student, teachers[0].model), widths)
            check_start(student, teachers[0].model, teachers[0].source)
            for teacher in teachers:
                parts = tuple(part for part in parameters.OPTIONAL_PARTS if part in teacher.params)
                check_teacher(student, teacher.model, parts, config.data.pair_task, teacher.source)
        except UserError as error:
            raise UserError(f"search: {space.describe(shape)} may win and could not be distilled: {error}") from error


def student_of(config: Search, shape: Shape, given: Distillation) -> Distill:
    """What would be trained if a shape won; the learning rate is the first of those that are tried."""
    return taught(winner_of(config, shape, config.surrogate.learning_rates[0]), given)


def folder_name(model: Model) -> str:
    """`4-8-1024-768` of Bort's shape; `12-4-256-1024-E128-all` of one whose layers share all."""
    narrow = f"-E{model.embed_size}" if model.embed_size != model.hidden_size else ""
    shared = f"-{model.share}" if model.share != "none" else ""
    return f"{model.num_layers}-{model.num_heads}-{model.hidden_size}-{model.ffn_size}{narrow}{shared}"


def figures(
    config: Search, best: dict[str, Any], recipe: Pretrain, learnt: dict[str, Any], rounded: dict[str, Any]
) -> dict[str, Any]:
    """The answer to "which model answers in that time", with its score.

    Args:
      config: of the search.
      best: the winner's row in its table.
      recipe: of the winner, with all sizes.
      learnt: summary of the distillation.
      rounded: figures of `convert int8`.
    """
    cost = config.cost
    timed = None
    if cost.host == "this":
        timed = timing.in_turns([timing.int8_answer(recipe.model, cost.rows, cost.length)])[0].median
    return {
        "shape": best["name"],
        "host": cost.host,
        "limit_seconds": config.method.most_seconds,
        "seconds": best["seconds"],
        "seconds_int8": timed,
        "rows": cost.rows,
        "length": cost.length,
        "parameters": best["parameters"],
        "valid_mlm_loss": learnt["valid_mlm_loss"],
        "float32_mlm_accuracy": rounded["before"],
        "int8_mlm_accuracy": rounded["after"],
        "int8_bytes": rounded["int8_bytes"],
    }


def in_words(answer: dict[str, Any]) -> str:
    """The figures as lines of text."""
    limit, timed = answer["limit_seconds"], answer["seconds_int8"]
    seconds = answer["seconds"] if timed is None else timed
    source = f"roofline of {answer['host']}" if timed is None else "8-bit encoder, timed here"
    asked = f"; the limit is {1000 * limit:.3g} ms" if limit else ""
    if limit and seconds > limit:
        asked += f", and the search had found {1000 * answer['seconds']:.3g} ms"
    texts = "one text" if answer["rows"] == 1 else f"{answer['rows']} texts"
    return (
        f"search: {answer['shape']} answers {texts} of {answer['length']} tokens in {1000 * seconds:.3g} ms "
        f"({source}{asked})\n"
        f"search: masked-LM loss {answer['valid_mlm_loss']:.3f}; accuracy {answer['float32_mlm_accuracy']:.3f}, with "
        f"8 bits {answer['int8_mlm_accuracy']:.3f}; {answer['int8_bytes'] / 1e6:.2f} MB in {answer['int8']}"
    )
