"""What the settings of a tokenizer's folder can be."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from bertlite_jax.config.model import SPECIAL_IDS
from bertlite_jax.errors import UserError

SEGMENTERS = ("pieces", "jieba")
_FLAGS = ("lower", "keep_accents", "split_chinese", "digit_comma")
_CHOICES = {"word_segmenter": SEGMENTERS, "word_letters": ("ascii", "unicode")}


def check(settings: Any, specials: Any, path: pathlib.Path) -> None:
    """Refuses settings of another type than this program writes, such as "yes" for true.

    Args:
      settings: of the tokenizer.
      specials: the special pieces by role.
      path: the file that they come from.

    Raises:
      UserError: a setting is no setting, or a special piece no piece.
    """
    if not isinstance(settings, dict) or not isinstance(specials, dict):
        raise UserError(f"tokenizer: {path} is damaged: settings and specials should be objects")
    for name, value in settings.items():
        if name in _FLAGS and not isinstance(value, bool):
            raise UserError(f"tokenizer: {path}: settings.{name} = {json.dumps(value)} should be true or false")
        if name in _CHOICES and value not in _CHOICES[name]:
            known = " or ".join(_CHOICES[name])
            raise UserError(f"tokenizer: {path}: settings.{name} = {json.dumps(value)} should be {known}")
    for role in SPECIAL_IDS:
        if not isinstance(specials.get(role), str):
            raise UserError(f"tokenizer: {path} is damaged: specials.{role} should be a piece")
