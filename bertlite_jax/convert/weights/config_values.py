"""Config files of other programs: their values checked, and read as our shape."""

from __future__ import annotations

from typing import Any

from bertlite_jax.errors import UserError


def check_kinds(values: dict[str, Any], usual: dict[str, Any], where: str) -> None:
    """Raises UserError for the first value that does not have the type that its key usually has.

    Args:
      values: what a file states, defaults included.
      usual: an example of each key's values; whole numbers pass where it is a float.
      where: the file.
    """
    for key, example in usual.items():
        kinds = (int, float) if isinstance(example, float) else (type(example),)
        value = values.get(key)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise UserError(f"convert: {where}: {key} is {value!r}; it should be a value such as {example!r}")


LARGEST_SIZE = 10_000_000
"""The largest width or number of pieces that a config may state; beyond it, it is damaged."""
MOST_LAYERS = 1_000


def check_sizes(values: dict[str, Any], where: str) -> None:
    """Raises UserError for a number that no model has, before anything is counted up to it.

    Args:
      values: what a file states, of the types that `check_kinds` wants.
      where: the file.
    """
    for key, value in values.items():
        limit = MOST_LAYERS if key in ("num_hidden_layers", "n_layers", "num_hidden_groups") else LARGEST_SIZE
        if isinstance(value, int) and value > limit and not key.endswith("_id"):
            raise UserError(f"convert: {where}: {key} is {value}; it can be {limit:,} at most")


def bert_shape(values: dict[str, Any], shared: bool) -> dict[str, Any]:
    """The arguments of `Model` that `BertConfig` and `AlbertConfig` state, of Google's code and of transformers alike.

    Args:
      values: by their keys, defaults included.
      shared: whether it is ALBERT, with shared layers and an embedding width of its own.
    """
    return {
        "vocab_size": values["vocab_size"],
        "embed_size": values["embedding_size"] if shared else values["hidden_size"],
        "hidden_size": values["hidden_size"],
        "num_layers": values["num_hidden_layers"],
        "num_heads": values["num_attention_heads"],
        "ffn_size": values["intermediate_size"],
        "max_positions": values["max_position_embeddings"],
        "token_types": values["type_vocab_size"],
        "share": "all" if shared else "none",
        "share_groups": values["num_hidden_groups"] if shared else 1,
        "init_std": values["initializer_range"],
        "hidden_dropout": values["hidden_dropout_prob"],
        "attention_dropout": values["attention_probs_dropout_prob"],
    }
