"""The tokenizer of a run, which has to be there and to fit the model."""

from __future__ import annotations

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer
from bertlite_jax.errors import UserError


def tokenizer_of(config: Pretrain) -> Tokenizer:
    """Loads `data.tokenizer`.

    Raises:
      UserError: none is named, it cannot be read, or it has another number of pieces than `model.vocab_size`.
    """
    if not config.data.tokenizer:
        raise UserError(
            "config: data.tokenizer is empty; pass --data.tokenizer DIR, a folder that `bertlite tokenizer` made"
        )
    tokenizer = load_tokenizer(config.data.tokenizer)
    if config.model.vocab_size not in (0, tokenizer.vocab_size):
        raise UserError(
            f"config: model.vocab_size = {config.model.vocab_size}, but {config.data.tokenizer} has "
            f"{tokenizer.vocab_size} pieces; pass --model.vocab-size {tokenizer.vocab_size}, or 0 for as many as it has"
        )
    return tokenizer
