"""What a recipe leaves open in its model: pieces in the vocabulary and rows of the position table, as 0; a head."""

from __future__ import annotations

import dataclasses

from bertlite_jax.config import presets
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.config.schedule import values_of
from bertlite_jax.errors import UserError

_OF_A_FAMILY = (
    "embed_size", "embedding_order", "hidden_size", "num_heads", "ffn_size", "token_types", "share", "activation"
)  # fmt: skip
"""Fields by which a published shape is recognised. The number of layers is not among them."""


def resolve_sizes(config: Pretrain, vocab_size: int) -> Pretrain:
    """Fills in the sizes that are 0, and the head that the objective needs.

    Args:
      config: of a pretraining run.
      vocab_size: pieces in its tokenizer.

    Returns:
      The config with a `model.vocab_size` and a `model.max_positions` (of the longest rows) that are not 0, and with
      `model.replaced_head` where `objective.replaced_weight` is set.
    """
    model = dataclasses.replace(
        config.model,
        vocab_size=config.model.vocab_size or vocab_size,
        max_positions=config.model.max_positions or max(length for _, length in values_of(config, "data.length")),
        replaced_head=config.model.replaced_head or config.objective.replaced_weight > 0,
    )
    return dataclasses.replace(config, model=model)


def published_sizes(config: Pretrain) -> Pretrain:
    """Fills in the sizes that are 0 where there is no tokenizer: its pieces are those of the published encoder.

    Raises:
      UserError: `model.vocab_size` is 0, and no encoder of this shape has been published.
    """
    vocab_size = config.model.vocab_size or _published_vocab_size(config.model)
    if not vocab_size:
        raise UserError(
            "config: model.vocab_size = 0 means as many as the tokenizer has, and none is given; "
            "pass one with --data.tokenizer DIR, or a number with --model.vocab-size 30000"
        )
    return resolve_sizes(config, vocab_size)


def _published_vocab_size(model: Model) -> int:
    """Pieces of the preset with the same width, heads and sharing; 0: there is none."""
    shape = [getattr(model, name) for name in _OF_A_FAMILY]
    for preset in vars(presets).values():
        if isinstance(preset, Model) and [getattr(preset, name) for name in _OF_A_FAMILY] == shape:
            return preset.vocab_size
    return 0
