"""What r applications of a shared block are worth, from the runs of a finished grid: r^phi blocks of their own.

python tools/sharing_exponent.py runs/exponent

GRID is the folder that `bertlite ablate` wrote: its table.json has the losses, and each run's config.json the shape.
Runs that are not finished are left out, with a line. `search/sharing_exponent.py` has the law and how it is fitted. The
figures go into GRID/exponent.json too.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bertlite_jax.config import files
from bertlite_jax.config.model import Model
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.report.ablation import results
from bertlite_jax.report.cost import flops
from bertlite_jax.search import sharing_exponent
from bertlite_jax.search.sharing_exponent import Point

_JOB = "exponent"


def point_of(model: Model, loss: float) -> Point:
    """A run with layers that share everything within their group, or nothing at all.

    Raises:
      UserError: its layers share a part of their parameters, so that they have no single r.
    """
    if model.share not in ("all", "none"):
        raise UserError(f"{_JOB}: a run has model.share = {model.share}; layers must share everything or nothing")
    counts, sizes = flops.parameters(model), model.stack_sizes
    # Products and norms between the tables and the product with the vocabulary, the dense layer of the head among them.
    met = counts["encoder"] - counts["embeddings"] + (model.hidden_size + 1) * model.sum_size
    if model.share == "none":
        blocks = counts["attention"] + counts["ffn"] + counts["norms"]
        return Point(loss, met - blocks, blocks, 1)
    groups = model.share_groups
    applications = len(model.sharing_layers) // groups
    shared = sum(counts[part] * groups // sizes[part] for part in model.shared_parts)
    return Point(loss, met - shared, shared, applications, " + ".join(model.freed) if applications > 1 else "")


def points_of(grid: pathlib.Path) -> list[Point]:
    """The finished runs of a grid.

    Raises:
      UserError: there is no table.json, or a file of the grid cannot be read.
    """
    points = []
    for row in results.read_table(grid):
        for run in row["seeds"]:
            folder = grid / row["member"] / f"seed-{run['seed']}"
            if run["status"] != results.FINISHED:
                print(f"{_JOB}: {folder} is left out: {run['status']}", file=sys.stderr)
                continue
            points.append(point_of(files.read_json(folder / "config.json", job=_JOB).model, run["valid_mlm_loss"]))
    return points


def figures(points: Sequence[Point], found: sharing_exponent.Fit) -> dict[str, Any]:
    """What exponent.json holds."""
    rows = [
        dataclasses.asdict(point) | {"predicted": float(loss)}
        for point, loss in zip(points, found.predicted(points), strict=True)
    ]
    return {"runs": len(points), **dataclasses.asdict(found), "points": rows}


def lines_of(content: Mapping[str, Any]) -> list[str]:
    """The exponents, the law and the runs, as Markdown."""
    intervals = content["intervals"]
    lines = [
        "| sharing | phi | 95 % | 12 applications are worth |",
        "|---|--:|--:|--:|",
        *(
            f"| {kind or 'everything'} | {phi:.3f} | {intervals[kind][0]:.3f} to {intervals[kind][1]:.3f} | "
            f"{12**phi:.2f} own blocks |"
            for kind, phi in content["exponents"].items()
        ),
        "",
        f"L = {content['floor']:.3f} + {content['scale']:.3g} N^-{content['alpha']:.3f}, N = N_once + r^phi N_shared; "
        f"{content['runs']} runs, R^2 {content['r_squared']:.4f}, residuals {content['deviation']:.4f} nats",
        "",
        "| sharing | r | applied once | shared | loss | by the law |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['kind'] or 'everything'} | {row['applications']} | {row['once']:,} | {row['shared']:,} | "
        f"{row['loss']:.4f} | {row['predicted']:.4f} |"
        for row in content["points"]
    ]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits the law, and prints and writes what it says."""
    parser = argparse.ArgumentParser(
        description="What r applications of a shared block are worth, from the runs of a finished grid."
    )
    parser.add_argument("grid", type=pathlib.Path, help="folder that `bertlite ablate` wrote")
    parser.add_argument("--draws", type=int, default=2000, help="of the bootstrap")
    options = parser.parse_args(arguments)
    try:
        points = points_of(options.grid)
        content = figures(points, sharing_exponent.fit(points, options.draws))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    whole_files.write_json(options.grid / "exponent.json", content)
    print("\n".join(lines_of(content)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
