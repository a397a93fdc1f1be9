"""`bertlite compile --table FILE`: published models on slices of every generation, as a table in a Markdown file.

Each compilation takes about a minute, so results are stored in a file, and an interrupted table resumes where it
stopped. The largest batch is searched on the first slice of a generation. While every chip holds all parameters, memory
does not depend on the number of chips, so the other slices are compiled with the same rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib
from typing import Any

from bertlite_jax.config import files, schedule, sizes
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.compiling import batch_search, compile
from bertlite_jax.report.cost import topology
from bertlite_jax.report.cost.topology import Topology

CONFIGS = ("albert_base", "bert_base", "albert_large", "bert_large", "albert_xlarge", "albert_xxlarge")
SLICES = ("v5e-16", "v4-32", "v5p-128", "v6e-16", "tpu7x:2x2x1", "v5e-256", "v4-512", "2 x v5e-256")
"""The batch is searched on the first of each generation. `2 x` are two slices over the data-centre network."""
BEGIN, END = "<!-- compile table: begin -->", "<!-- compile table: end -->"
_HEADER = (
    "model | slice | chips | rows a chip | batch | arguments GiB | temporaries GiB | free GiB | "
    "network MB a step | step at least ms | bound by | MFU at most | tokens a second at most | compiled in s"
)


def compile_table(
    table: str,
    configs: tuple[str, ...] = CONFIGS,
    topologies: tuple[str, ...] = SLICES,
    length: int = 512,
    results: str = "runs/compile_table.jsonl",
) -> None:
    """Compiles models for slices, and writes the results as a table into a Markdown file.

    Args:
      table: Markdown file. The text between the table's two markers is replaced; if they are missing, they are added.
      configs: Recipes of pretraining, by name or path; compiled with one micro-batch and the largest batch that fits.
      topologies: TPU slices; "2 x v5e-256" means two of them.
      length: Tokens in a row.
      results: File with the results of all compilations, one JSON object per line.
    """
    library = compile.find_library()
    slices = [_parse_slices(name) for name in topologies]
    config_of = {path: _load_config(path, length) for path in configs}
    done = read_results(pathlib.Path(results))
    for path, config in config_of.items():
        largest: dict[str, int] = {}
        points: dict[int, int] = {}
        for place in slices:
            key = result_key(config, place)
            if key not in done:
                rows, result = _compile(config, place, library, largest.get(place.generation), points)
                done[key] = {"key": key, "config": path, "slice": place.user_name, "rows": rows, "result": result}
                _append(pathlib.Path(results), done[key])
            rows, result = done[key]["rows"], done[key]["result"]
            if rows:
                largest.setdefault(place.generation, rows)
                points[rows] = batch_search.used_bytes(result)
            write_table(pathlib.Path(table), markdown(config_of, slices, done))
    print(f"compile: wrote the table into {table}")


def _compile(
    config: Pretrain, place: Topology, library: str, rows: int | None, points: dict[int, int]
) -> tuple[int, dict[str, Any]]:
    print(f"compile: {topology.describe(place)}", flush=True)
    config = compile.check(config, place, round_batch=True)
    if rows:
        result = compile.attempt(config, place, library, rows)
        if result["fits"]:
            return rows, result
    return compile.search(config, place, library, tuple(points.items()))


def _parse_slices(name: str) -> Topology:
    count, separator, rest = name.partition(" x ")
    return topology.parse(rest, int(count)) if separator and count.isdecimal() else topology.parse(name)


def _load_config(path: str, length: int) -> Pretrain:
    config = files.load_file(path)
    if type(config) is not Pretrain:
        raise UserError(f"config: {path}: config is a {type(config).__name__}; compile needs a Pretrain")
    data, optim = dataclasses.replace(config.data, length=length), dataclasses.replace(config.optim, micro_batches=1)
    config = schedule.unscheduled(dataclasses.replace(config, data=data, optim=optim))
    return sizes.published_sizes(config)


def result_key(config: Pretrain, place: Topology) -> str:
    """A key of everything that determines the program: model, row, optimiser, split, slice and version of JAX."""
    groups = [dataclasses.asdict(group) for group in (config.model, config.mask, config.optim)]
    row = [config.data.length, config.data.windows_per_row, config.data.pack, config.data.pair_task]
    split = [config.run.fsdp, config.run.tensor, config.run.zero1]
    text = json.dumps([*groups, *row, *split, importlib.metadata.version("jax")])
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]} {place.slices} x {place.compiler_name}"


# --- Files -----------------------------------------------------------------------------------------------------------


def read_results(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Stored results by key. A last line that was cut off is ignored."""
    results = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        if line.endswith("}"):
            entry = json.loads(line)
            results[entry["key"]] = entry
    return results


def _append(path: pathlib.Path, entry: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cut_off = path.is_file() and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * cut_off + json.dumps(entry) + "\n")


def write_table(path: pathlib.Path, text: str) -> None:
    """Writes the table between its markers; the rest of the file stays as it is."""
    old = path.read_text(encoding="utf-8") if path.is_file() else f"# Scale\n\n{BEGIN}\n{END}\n"
    if BEGIN not in old or END not in old:
        old = f"{old.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, rest = old.split(BEGIN, 1)
    whole_files.write_text(path, f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}")


# --- The table -------------------------------------------------------------------------------------------------------


def markdown(configs: dict[str, Pretrain], slices: list[Topology], done: dict[str, dict[str, Any]]) -> str:
    """The table of all results so far, with the version of JAX that compiled them."""
    names = _HEADER.split(" | ")
    lines = [f"| {_HEADER} |", "|" + "|".join(["---"] * 3 + ["--:"] * (len(names) - 3)) + "|"]
    for path, config in configs.items():
        for place in slices:
            entry = done.get(result_key(config, place))
            if entry:
                lines.append(f"| {pathlib.Path(path).stem} | {_name(place)} | {_cells(config, place, entry)} |")
    lengths = {config.data.length for config in configs.values()}
    note = (
        f"Rows of {' or '.join(map(str, sorted(lengths)))} tokens, one micro-batch, the largest batch that fits; "
        f"jax {importlib.metadata.version('jax')}. Made by `bertlite compile --table`."
    )
    return "\n".join([*lines, "", note])


def _name(place: Topology) -> str:
    times = f"{place.slices} x " if place.slices > 1 else ""
    return f"{times}{place.user_name} = {times}`{place.compiler_name}`"


def _cells(config: Pretrain, place: Topology, entry: dict[str, Any]) -> str:
    rows, result = entry["rows"], entry["result"]
    if not rows:
        return f"{place.chips} | 0" + " | " * (len(_HEADER.split(" | ")) - 4)
    figures = compile.figures(compile.with_rows(config, place, rows), place, result)
    cells = [
        f"{place.chips}",
        f"{rows * place.chip.devices}",
        f"{figures['batch_rows']:,}",
        f"{place.chip.devices * figures['arguments (GiB a device)']:.2f}",
        f"{place.chip.devices * figures['temporaries (GiB a device)']:.2f}",
        f"{place.chip.devices * figures['headroom (GiB a device)']:.2f}",
        f"{figures['collectives (MB a device and step)']:,.1f}",
        f"{figures['step at least (ms)']:,.1f}",
        figures["bound by"],
        f"{figures['MFU at most']:.2f}",
        f"{figures['tokens a second at most']:,}",
        f"{figures['compile time (s)']:.0f}",
    ]
    return " | ".join(cells)
