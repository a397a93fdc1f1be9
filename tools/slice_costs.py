"""The cost of a recipe on each slice: chip-hours from the table of `bertlite compile`, and money if prices are given.

python tools/slice_costs.py                                    the table of docs/scale.md
python tools/slice_costs.py --price v5e=1.2 --price v4=3.2     with prices of a chip-hour, in any currency
python tools/slice_costs.py --tokens 1e12                      for this many slots instead of the recipes' own

The times are lower bounds: by FLOPs or, if memory bounds the step, by the bytes of the table's batch.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import re
import sys

from bertlite_jax.config import files, schedule, sizes
from bertlite_jax.errors import UserError
from bertlite_jax.report.cost import flops

TABLE_LENGTH = 512
"""Tokens of a row in the compile table."""
ROOT = pathlib.Path(__file__).resolve().parents[1]


def rows_of(text: str) -> list[dict[str, str]]:
    """The rows of the compile table in a Markdown page, by the names of its columns.

    Raises:
      UserError: there is no such table.
    """
    lines = [[cell.strip() for cell in line.strip("| \n").split(" | ")] for line in text.splitlines() if "|" in line]
    for place, names in enumerate(lines):
        if names[:2] == ["model", "slice"] and "tokens a second at most" in names:
            return [dict(zip(names, cells, strict=True)) for cells in lines[place + 2 :] if len(cells) == len(names)]
    raise UserError("slice_costs: no table of `bertlite compile --table` in this page")


def recipe_of(model: str) -> tuple[float, float]:
    """(slots in all steps of the model's recipe, its FLOPs per slot relative to those of the table's rows).

    Attention costs more in longer rows, so recipes with shorter rows than the table's take fewer FLOPs per slot.
    """
    config = sizes.published_sizes(files.load_file(str(ROOT / "configs" / f"{model}.py")))
    config_of_table = dataclasses.replace(config, data=dataclasses.replace(config.data, length=TABLE_LENGTH))
    slots_of_table = config_of_table.data.batch_rows * config_of_table.data.length
    slots = work = 0
    for first, last, stage in schedule.stages(config):
        slots += (last - first + 1) * stage.data.batch_rows * stage.data.length
        work += (last - first + 1) * flops.train_flops_per_step(stage)
    return slots, work / slots / (flops.train_flops_per_step(config_of_table) / slots_of_table)


def costs(rows: list[dict[str, str]], prices: dict[str, float], tokens: float = 0) -> str:
    """A Markdown table of hours, chip-hours and costs.

    Args:
      rows: of `rows_of`.
      prices: of a chip-hour, by generation.
      tokens: slots to compute; 0: those of the model's own recipe.
    """
    names = ["model", "slice", "chips", "slots", "hours at least", "chip-hours at least"]
    names += ["cost at least"] if prices else []
    lines = [f"| {' | '.join(names)} |", f"|---|---|{'--:|' * (len(names) - 2)}"]
    for row in rows:
        chips, (of_recipe, share) = int(row["chips"]), recipe_of(row["model"])
        slots = tokens or of_recipe
        hours = slots * share / float(row["tokens a second at most"].replace(",", "")) / 3600
        cells = [row["model"], row["slice"], f"{chips}", f"{slots:.3g}", f"{hours:,.1f}", f"{hours * chips:,.0f}"]
        if prices:
            price = prices.get(_generation(row["slice"]))
            cells.append(f"{hours * chips * price:,.0f}" if price is not None else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _generation(name: str) -> str:
    """The generation in a slice's name: `v5e` for `2 x v5e-256 = 2 x ...`."""
    return re.sub(r"^\d+ x ", "", name).partition("-")[0]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    page = ROOT / "docs" / "scale.md"
    parser.add_argument("--table", type=pathlib.Path, default=page, help="page with the compile table")
    price_help = "price of a chip-hour; repeat it for other generations"
    parser.add_argument("--price", action="append", default=[], metavar="GENERATION=PRICE", help=price_help)
    parser.add_argument("--tokens", type=float, default=0, help="slots to compute; 0 (default): the recipe's own")
    options = parser.parse_args(arguments)
    try:
        if options.tokens < 0:
            raise UserError(f"slice_costs: --tokens {options.tokens:g} must not be negative; 0 means the recipe's own")
        rows = rows_of(options.table.read_text(encoding="utf-8"))
        known = sorted({_generation(row["slice"]) for row in rows})
        prices = {}
        for assignment in options.price:
            generation, _, price = assignment.partition("=")
            if not re.fullmatch(r"\d+(\.\d+)?", price):
                raise UserError(f"slice_costs: --price {assignment} should look like v5e=1.2")
            if generation not in known:
                raise UserError(f"slice_costs: --price {assignment}: the table has {', '.join(known)}")
            prices[generation] = float(price)
        print(costs(rows, prices, options.tokens))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
