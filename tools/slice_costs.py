"""What a recipe takes on each slice: chip-hours from the table of `bertlite compile`, and money where prices are given.

python tools/slice_costs.py                                    the table of docs/scale.md
python tools/slice_costs.py --price v5e=1.2 --price v4=3.2     with prices for a chip and an hour, in any currency
python tools/slice_costs.py --tokens 1e12                      for so many slots instead of the recipes' own

The times are bounds from below, and so is everything here.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys

from bertlite_jax import config_files
from bertlite_jax.config import UserError

ROOT = pathlib.Path(__file__).resolve().parents[1]


def rows_of(text: str) -> list[dict[str, str]]:
    """The rows of the compile table in a Markdown page, by the names of its columns.

    Raises:
      UserError: there is no such table.
    """
    lines = [[cell.strip() for cell in line.strip("| \n").split(" | ")] for line in text.splitlines() if "|" in line]
    for place, names in enumerate(lines):
        if names[:2] == ["model", "slice"] and "tokens a second at most" in names:
            return [dict(zip(names, cells)) for cells in lines[place + 2 :] if len(cells) == len(names)]
    raise UserError("slice_costs: no table of `bertlite compile --table` in this page")


def slots_of(model: str) -> float:
    """Slots that the model's own recipe computes in all its steps."""
    config = config_files.load_file(str(ROOT / "configs" / f"{model}.py"))
    return config.run.steps * config.data.batch_rows * config.data.length


def costs(rows: list[dict[str, str]], prices: dict[str, float], tokens: float = 0) -> str:
    """A Markdown table.

    Args:
      rows: of `rows_of`.
      prices: for a chip and an hour, by generation.
      tokens: slots to compute; 0: what the model's own recipe does.
    """
    names = ["model", "slice", "chips", "slots", "hours at least", "chip-hours at least"]
    names += ["cost at least"] if prices else []
    lines = [f"| {' | '.join(names)} |", f"|---|---|{'--:|' * (len(names) - 2)}"]
    for row in rows:
        chips, slots = int(row["chips"]), tokens or slots_of(row["model"])
        hours = slots / float(row["tokens a second at most"].replace(",", "")) / 3600
        cells = [row["model"], row["slice"], f"{chips}", f"{slots:.3g}", f"{hours:,.1f}", f"{hours * chips:,.0f}"]
        if prices:
            price = prices.get(re.sub(r"^\d+ x ", "", row["slice"]).partition("-")[0])
            cells.append(f"{hours * chips * price:,.0f}" if price is not None else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Prints the table. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=pathlib.Path, default=ROOT / "docs" / "scale.md")
    parser.add_argument("--price", action="append", default=[], metavar="GENERATION=PRICE")
    parser.add_argument("--tokens", type=float, default=0)
    options = parser.parse_args(arguments)
    try:
        prices = {}
        for given in options.price:
            generation, _, price = given.partition("=")
            if not re.fullmatch(r"\d+(\.\d+)?", price):
                raise UserError(f"slice_costs: --price {given} should look like v5e=1.2")
            prices[generation] = float(price)
        print(costs(rows_of(options.table.read_text(encoding="utf-8")), prices, options.tokens))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
