"""Whether an exported folder is the same model, according to transformers in PyTorch, where both are installed."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from bertlite_jax.config.model import Model
from bertlite_jax.model.heads import PretrainingModel

INSTALL = 'pip install torch transformers  (or: pip install "bertlite_jax[torch]")'


def available() -> bool:
    """Whether torch and transformers are installed."""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def max_abs_diff(params: Any, model: Model, folder: str | os.PathLike[str], ids: np.ndarray) -> float:
    """Largest absolute difference over the logits of both heads and all hidden states, in float32.

    Args:
      params: of our model.
      model: its shape.
      folder: what `to_hf` wrote for a model with ALBERT's pretraining heads.
      ids: [B, L] int32 ids without padding, special tokens included.
    """
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    theirs = transformers.AlbertForPreTraining.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        out = theirs(torch.tensor(ids, dtype=torch.long), output_hidden_states=True)
    ones, positions = np.ones_like(ids), np.tile(np.arange(ids.shape[1], dtype=np.int32), (len(ids), 1))
    inputs = (jnp.asarray(ids), ones, positions, 0 * ones)
    apply = PretrainingModel(model, "float32").apply
    states: Any = apply({"params": params}, *inputs, method="hidden_states")
    heads: Any = apply({"params": params}, *inputs, 0 * ids[:, :1], positions)
    mlm, pair = heads
    ours = [mlm[..., : model.vocab_size], pair[:, 0], *states]
    wanted = [out.prediction_logits, out.sop_logits, *out.hidden_states]
    return max(float(np.abs(np.asarray(a) - b.numpy()).max()) for a, b in zip(ours, wanted, strict=True))
