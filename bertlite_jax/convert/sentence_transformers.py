"""What makes an exported encoder a folder of sentence-transformers: mean pooling, and unit length.

The files are in the layout of the versions before 6, which 6.2 reads as well (the newer layout is not read by older
ones). Source: huggingface/sentence-transformers:sentence_transformers/base/modules/transformer.py and the folders of
sentence-transformers/all-MiniLM-L6-v2.
"""

from __future__ import annotations

import pathlib
from typing import Any

import bertlite_jax
from bertlite_jax.config import Model
from bertlite_jax.convert.folders import write_json
from bertlite_jax.convert.names import Family


def write(folder: pathlib.Path, model: Model, family: Family, *, normalize: bool = True) -> None:
    """Writes modules.json, 1_Pooling/config.json, sentence_bert_config.json and config_sentence_transformers.json.

    `SentenceTransformer(folder)` then gives [texts, D]: the mean of the last hidden states over the real tokens,
    specials included, and divided by its length (L2) with `normalize`.

    Args:
      folder: holds config.json, the weights of a base model, and a tokenizer.
      model: its shape; texts are cut to `model.max_positions` tokens.
      family: whose class the weights are written for.
      normalize: give vectors of length 1.
    """
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalize else [])]
    listed: Any = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (path, name) in enumerate(modules)
    ]
    write_json(folder / "modules.json", listed)
    (folder / "1_Pooling").mkdir()
    modes = {"cls_token": False, "mean_tokens": True, "max_tokens": False, "mean_sqrt_len_tokens": False}
    pooling = {f"pooling_mode_{mode}": chosen for mode, chosen in modes.items()}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": model.hidden_size} | pooling)
    settings: dict[str, Any] = {"max_seq_length": model.max_positions, "do_lower_case": False}
    if family != "distilbert" and not model.pooler:
        # The base class would draw a pooler of its own and warn of its missing weights.
        settings["model_args"] = {"add_pooling_layer": False}
    write_json(folder / "sentence_bert_config.json", settings)
    stated = {"__version__": {"bertlite_jax": bertlite_jax.__version__}, "similarity_fn_name": "cosine", "prompts": {}}
    write_json(folder / "config_sentence_transformers.json", stated)
