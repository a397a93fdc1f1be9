"""The encoders that come with the package, by name: `reference-en` wherever a run or a folder may stand.

This folder has one for each: the model card, `model.int8.safetensors` and the tokenizer.
"""

from __future__ import annotations

import os
import pathlib

NAMES = ("reference-en",)
FOLDER = pathlib.Path(__file__).parent


def packaged(place: str | os.PathLike[str]) -> pathlib.Path | None:
    """The folder of an encoder that comes with the package; None for other places.

    What lies on the disk under its name comes first.
    """
    name = os.fspath(place)
    return FOLDER / name if name in NAMES and not os.path.lexists(name) else None
