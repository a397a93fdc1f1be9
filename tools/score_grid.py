"""Scores the runs of a finished grid in ways that its own table does not have, over their seeds.

python tools/score_grid.py runs/sentences --pair-tasks none sop nsp      on the rows of each task
python tools/score_grid.py runs/optimisers --bits 8                      in the integers of the 8-bit file
python tools/score_grid.py runs/masks --minimal-pairs FILE               on pairs of sentences, such as BLiMP's
python tools/score_grid.py runs/sharing --published 82.3 81.6 79.5 79.8  ranks beside published scores, in table order

GRID is the folder that `bertlite ablate` wrote. Runs that are not finished are left out. GRID/scores.json gets each
figure as soon as it is there, and what it holds is not computed again.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files, whole_files
from bertlite_jax.report.ablation import figures, results
from bertlite_jax.search.agreement import rank_correlation

_JOB = "score_grid"
SCORES = "scores.json"

Question = Callable[[str], dict[str, float]]
"""(work directory) -> figures by name."""


def questions(options: argparse.Namespace) -> dict[str, Question]:
    """What is asked of each run, by name."""
    from bertlite_jax.jobs.pretraining.evaluate import evaluate
    from bertlite_jax.jobs.pretraining.minimal_pairs import minimal_pairs

    asked: dict[str, Question] = {}
    for task in options.pair_tasks:
        asked[f"rows of {task}"] = lambda run, task=task: evaluate(run, pair_task=task, rows=options.rows)
    for bits in options.bits:
        asked[f"{bits} bits"] = lambda run, bits=bits: evaluate(run, rows=options.rows, bits=bits)
    if options.minimal_pairs:

        def pairs(run: str) -> dict[str, float]:
            rows = minimal_pairs(run, options.minimal_pairs, options.pairs_each)
            return {row["phenomenon"]: row["accuracy"] for row in rows}

        asked["minimal pairs"] = pairs
    return asked


def score(
    grid: pathlib.Path, members: Sequence[Mapping[str, Any]], asked: Mapping[str, Question]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Asks every finished run, but for what scores.json has.

    A pair task that the head of a run does not fit, or that it has no head for, has a line and no figures.

    Returns:
      Figures by member, seed and question.
    """
    file = grid / SCORES
    found: dict[str, Any] = json_files.read_object(file, _JOB) if file.is_file() else {}
    for row in members:
        for run in (run for run in row["seeds"] if run["status"] == results.FINISHED):
            of_run = found.setdefault(row["member"], {}).setdefault(str(run["seed"]), {})
            for name, ask in asked.items():
                if name in of_run:
                    continue
                folder = grid / row["member"] / f"seed-{run['seed']}"
                try:
                    of_run[name] = ask(str(folder))
                except UserError as error:
                    print(f"{_JOB}: {folder}: {name}: {error}", file=sys.stderr)
                    continue
                whole_files.write_json(file, found)
    return found


SHOWN = ("valid_mlm_loss", "valid_mlm_accuracy", "valid_pair_accuracy", "all")
"""Figures of a question that are printed; the others stand in scores.json."""


def lines_of(members: Sequence[Mapping[str, Any]], found: Mapping[str, Any], asked: Sequence[str]) -> list[str]:
    """A Markdown table of means and standard deviations over seeds."""
    columns = [
        (name, figure)
        for name in asked
        for figure in SHOWN
        if any(figure in run.get(name, {}) for seeds in found.values() for run in seeds.values())
    ]
    headings = ["member", "loss", *(f"{name}: {figure}" for name, figure in columns)]
    lines = [f"| {' | '.join(headings)} |", f"|---|{'--:|' * (len(headings) - 1)}"]
    for row in members:
        losses = [run["valid_mlm_loss"] for run in row["seeds"] if run["status"] == results.FINISHED]
        cells = [row["member"], _shown(losses)]
        for name, figure in columns:
            runs = found.get(row["member"], {}).values()
            cells.append(_shown([run[name][figure] for run in runs if figure in run.get(name, {})]))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _shown(values: Sequence[float]) -> str:
    middle, spread = figures.mean(values), figures.spread(values)
    if middle is None:
        return "–"
    return f"{middle:.4f}" if spread is None else f"{middle:.4f} ± {spread:.4f}"


def ranks(members: Sequence[Mapping[str, Any]], published: Sequence[float]) -> str:
    """How the order of the members agrees with that of published scores, of which more is better.

    Raises:
      UserError: there are not as many scores as members, or a member has no loss.
    """
    if len(published) != len(members):
        raise UserError(f"{_JOB}: {len(published)} published scores for {len(members)} members; give one for each")
    losses = [row["valid_mlm_loss"] for row in members]
    if None in losses:
        raise UserError(f"{_JOB}: {members[losses.index(None)]['member']} has no finished run")
    spearman, kendall = rank_correlation([-loss for loss in losses], published)
    return f"ranks beside the published ones: Spearman {spearman:.3f}, Kendall {kendall:.3f}, {len(losses)} members"


def main(arguments: Sequence[str] | None = None) -> int:
    """Scores the runs, and prints a table."""
    parser = argparse.ArgumentParser(
        description="Scores the runs of a finished grid in ways that its own table does not have."
    )
    parser.add_argument("grid", type=pathlib.Path, help="folder that `bertlite ablate` wrote")
    parser.add_argument("--pair-tasks", nargs="+", default=[], help="none, sop, nsp: rows to score the runs on")
    parser.add_argument("--bits", nargs="+", type=int, default=[], choices=(4, 7, 8), help="of the weights")
    parser.add_argument("--rows", type=int, default=0, help="of the validation split; 0: all")
    parser.add_argument("--minimal-pairs", default="", help="file of grammatical and ungrammatical sentences")
    parser.add_argument("--pairs-each", type=int, default=0, help="pairs of each paradigm; 0: all")
    parser.add_argument("--published", nargs="+", type=float, default=[], help="a score of each member")
    options = parser.parse_args(arguments)
    try:
        members = results.read_table(options.grid)
        asked = questions(options)
        print("\n".join(lines_of(members, score(options.grid, members, asked), list(asked))))
        if options.published:
            print(ranks(members, options.published))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
