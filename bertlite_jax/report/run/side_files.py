"""The JSON files of a work directory as a report reads them: what has to be in them, and that it is."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from types import NoneType
from typing import Any

from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files, json_shapes
from bertlite_jax.host.json_shapes import ANYTHING, NUMBER

_NUMBER_OR_NOTHING = (*NUMBER, NoneType)
FIGURES = (
    *("steps", "real_tokens", "wall_seconds", "valid_mlm_loss", "unigram_entropy", "valid_mlm_accuracy"),
    *("majority_accuracy", "valid_pair_accuracy", "pair_label_prior", "parameters", "hf_max_abs_diff"),
    *("float32_mlm_accuracy", "int8_mlm_accuracy", "int8_top1_agreement", "onnx_bytes", "int8_bytes", "mfu"),
    *("train_examples", "majority_share", "examples_per_second", "train_seconds"),
)
"""Names that stand for a number wherever they stand."""
SUMMARY: dict[Any, Any] = {
    **{f"{name}?": _NUMBER_OR_NOTHING for name in FIGURES},
    **{f"{name}?": str for name in ("task", "metric", "init", "best_run")},
    "time_shares?": {...: NUMBER},
    "layers?": [{}],
}
SAMPLES = [{"text": str, "truth": str, "predictions": [[str, NUMBER]]}]
CORPUS: dict[Any, Any] = {"splits?": {...: {}}, "statistics?": {}}
INFERENCE: dict[Any, Any] = {
    "model": str,
    "task": str,
    "random_weights": bool,
    "settings": {"text": ANYTHING},
    "skipped": [str],
    "machine": {
        "cpu": str,
        "cores": NUMBER,
        "flags": [str],
        "load": NUMBER,
        "python": str,
        "packages": {},
        "environment": {},
    },
    "contenders": [
        {
            **{"name": str, "about": str, "bytes": NUMBER, "loaded_bytes": NUMBER, "peak_bytes": NUMBER},
            **{"rows_compared": NUMBER, "largest_difference": _NUMBER_OR_NOTHING},
            "top1_agreement": _NUMBER_OR_NOTHING,
        }
    ],
    "shapes": [
        {
            **{"batch": NUMBER, "length": NUMBER, "threads": NUMBER},
            "figures": [
                {
                    **{"name": str, "seconds_min": NUMBER, "seconds_p50": NUMBER, "seconds_p95": NUMBER},
                    **{"calls": NUMBER, "sequences_per_second": NUMBER, "ratio": NUMBER, "dropped": bool},
                }
            ],
        }
    ],
}


def read(path: pathlib.Path, missing: Any, shape: Any = None) -> Any:
    """The JSON in `path`, or `missing` if there is no such file.

    Args:
      path: of the file.
      missing: returned where there is none; without a shape, the file has to hold the same type.
      shape: of `json_shapes`.

    Raises:
      UserError: the file is not JSON, or has another shape.
    """
    if not path.exists():
        return missing
    values = json_files.read(path, "report")
    wanted = shape if shape is not None else [ANYTHING] if isinstance(missing, list) else {}
    json_shapes.check(values, wanted, str(path), "report")
    return values


def read_inference(path: pathlib.Path) -> dict[str, Any]:
    """inference.json, or {} if there is none. Raises UserError if its parts do not fit together."""
    figures = read(path, {})
    if not figures:
        return figures
    json_shapes.check(figures, INFERENCE, str(path), "report")
    names = {who["name"] for who in figures["contenders"] if who["bytes"] > 0}
    timed = [[who for who in shape["figures"] if not who["dropped"]] for shape in figures["shapes"]]
    known = all(who["name"] in names and who["seconds_min"] > 0 for rows in timed for who in rows)
    if not (names and known and all(timed) and figures["contenders"][0]["bytes"] > 0):
        raise UserError(f"report: {path}: its shapes and contenders do not fit together; measure again, or remove it")
    return figures


def check_scores(path: pathlib.Path, summary: dict[str, Any], names: Iterable[str]) -> None:
    """Raises UserError for a score in a summary that is no number."""
    json_shapes.check(summary, {f"{name}?": NUMBER for name in names}, str(path), "report")
