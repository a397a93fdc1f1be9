"""A folder with an ONNX model, config.json, tokenizer and model card, where tools look for them."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pathlib
from typing import Any

import bertlite_jax
from bertlite_jax.config.model import SPECIAL_IDS, Head, Model
from bertlite_jax.convert.huggingface import model_card
from bertlite_jax.convert.huggingface.config import choose_family, to_config
from bertlite_jax.convert.huggingface.names import folded_shape, unshared_shape
from bertlite_jax.convert.huggingface.tokenizer import special_token_ids, write_tokenizer
from bertlite_jax.convert.onnx import graph
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.model import Output, build_onnx, choose_output
from bertlite_jax.convert.weights import quantized
from bertlite_jax.convert.weights.folder import Weights, longest_input
from bertlite_jax.errors import UserError
from bertlite_jax.host.whole_files import new_folder, write_json

MODEL = "onnx/model.onnx"
QUANTIZED = "onnx/model_quantized.onnx"
"""The files that transformers.js, optimum and sentence-transformers look for in a folder."""

_LOG = logging.getLogger(__name__)


def write(weights: Weights, out: os.PathLike[str] | str, *, overwrite: bool = False, output: Output = "auto") -> int:
    """Writes the folder `out` with the float32 model in `onnx/model.onnx`; returns the model's size in bytes.

    Args:
      weights: what to write. Without a tokenizer none is written, and the card says so.
      out: must be empty or absent unless `overwrite`. It appears complete or not at all.
      overwrite: replace an earlier export.
      output: as for `build_onnx`.

    Raises:
      UserError: the weights lack the output's head, the tokenizer has another vocabulary, the model is too large for
        a file, or `out` is in the way.
    """
    check_tokenizer(weights)
    weights = quantized.as_trained(weights)
    model = build_onnx(weights, float32(weights), output)
    with new_folder(out, overwrite, MODEL) as folder:
        describe(weights, folder, output)
        (folder / MODEL).parent.mkdir()
        size = (folder / MODEL).write_bytes(graph.to_bytes(model))
    if weights.tokenizer is None:
        _LOG.warning("convert: %s: these weights have no tokenizer, so none was written", out)
    return size


def check_tokenizer(weights: Weights) -> None:
    """Raises UserError where the tokenizer and the model have different numbers of pieces."""
    pieces = weights.tokenizer.vocab_size if weights.tokenizer else weights.model.vocab_size
    if pieces != weights.model.vocab_size:
        raise UserError(
            f"convert: onnx: the tokenizer has {pieces} pieces and model.vocab_size is {weights.model.vocab_size}; is "
            "it the tokenizer of this run?"
        )


def describe(
    weights: Weights, folder: pathlib.Path, output: Output = "auto", figures: dict[str, Any] | None = None
) -> None:
    """Writes config.json, tokenizer files and README.md into the folder of ONNX files.

    Args:
      weights: of the model.
      folder: exists.
      output: as for `build_onnx`.
      figures: what `int8` measured, for a folder that has the 8-bit model too.
    """
    tokenizer, model = weights.tokenizer, weights.model
    write_json(folder / "config.json", config(weights, output))
    if tokenizer is not None:
        write_tokenizer(tokenizer, folder, longest_input(weights, output == "sentence"), model.token_types)
    card = _card(weights, choose_output(weights, output), figures)
    (folder / "README.md").write_text(card, encoding="utf-8")


def config(weights: Weights, output: Output = "auto") -> dict[str, Any]:
    """The contents of `config.json`: those of the class of transformers that computes the same, if there is one.

    A model that no class can hold (pre-norm, unshared layers with a projection, hidden layers in the head) gets the
    `model_type` bertlite, its shape, and its labels in the form that readers of ONNX folders know.
    """
    output = choose_output(weights, output)
    head = weights.head if output == "auto" else None
    # A projection of the words is in no class; multiplied into the table, it is the same function.
    model = folded_shape(dataclasses.replace(weights.model.exported, pair_classes=0))
    ids = special_token_ids(weights.tokenizer) if weights.tokenizer else SPECIAL_IDS
    kind = weights.tokenizer.kind if weights.tokenizer else None
    try:
        family = choose_family(model, kind, head)
    except UserError:
        return _own_config(weights.model.exported, head, ids)
    # The products of the file are still shared; a class of transformers has them written out.
    model = unshared_shape(model) if model.freed else model
    return to_config(model, family, ids, weights.pair_task, head, output == "fill-mask")


def _own_config(model: Model, head: Head | None, ids: dict[str, int]) -> dict[str, Any]:
    values: dict[str, Any] = {"model_type": "bertlite", "pad_token_id": ids["pad"]}
    values |= {"vocab_size": model.vocab_size, "max_position_embeddings": model.max_positions}
    if head and head.kind in ("classify", "tag"):
        values["id2label"] = {str(i): label for i, label in enumerate(head.labels)}
        values["label2id"] = {label: i for i, label in enumerate(head.labels)}
    if head and head.kind == "classify":
        values["problem_type"] = {
            "single_label": "single_label_classification",
            "multi_label": "multi_label_classification",
            "regression": "regression",
        }[head.problem]
    return values | {"bertlite_model": dataclasses.asdict(model)}


# --- The card ------------------------------------------------------------------------------------------------------

_PIPELINES = {"classify": "text-classification", "choose": "multiple-choice", "tag": "token-classification"}
_PIPELINES |= {"span": "question-answering", "fill-mask": "fill-mask", "states": "feature-extraction"}
_PIPELINES |= {"sentence": "sentence-similarity"}

_OUTPUTS = {
    "classify": "`logits` [texts, outputs], raw",
    "choose": "`logits` [texts, choices] for inputs [texts, choices, tokens], raw",
    "tag": "`logits` [texts, tokens, labels], raw",
    "span": "`start_logits` and `end_logits`, each [texts, tokens]",
    "fill-mask": "`logits` [texts, tokens, pieces]",
    "states": "`last_hidden_state` [texts, tokens, width] and, if the model has a pooler, `pooler_output`",
    "sentence": "`sentence_embedding` [texts, width] and `token_embeddings`",
}


_ACTIVATIONS = {
    "token": "rounded with one scale for each token",
    "tensor": "rounded with one scale for each tensor",
    "static": "rounded with scales fixed beforehand",
}


def _card(weights: Weights, output: Output, figures: dict[str, Any] | None) -> str:
    kind = weights.head.kind if weights.head and output == "auto" else output
    model, tokenizer = weights.model, weights.tokenizer
    inputs = ["input_ids", "attention_mask", *["token_type_ids"] * bool(model.token_types)]
    lines = [
        f"---\nlibrary_name: onnx\npipeline_tag: {_PIPELINES[kind]}\ntags:\n- onnx\n- bertlite_jax\n---\n",
        f"# ONNX model, {model.num_layers} layers of {model.hidden_size}\n",
        f"Written by bertlite_jax {bertlite_jax.__version__}. Opset {graph.OPSET}; any number of texts, up to "
        f"{model.max_positions} tokens each.\n",
        f"Inputs, int64: {', '.join(f'`{name}`' for name in inputs)}. Output: {_OUTPUTS[kind]}.\n",
    ]
    if weights.head and kind in ("classify", "tag"):
        lines.append(f"Outputs in order: {json.dumps(weights.head.labels, ensure_ascii=False)}.\n")
    if weights.facts.get("quantised"):
        lines.append(f"{model_card.QUANTISED[0].upper()}{model_card.QUANTISED[1:]}.\n")
    if figures:
        lines.append(_quantised(figures))
    if tokenizer is None:
        lines.append("The weights came without a tokenizer, so there is none here; use the one of their training.\n")
    else:
        file = QUANTIZED if figures else MODEL
        lines.append(
            _usage(file, model.token_types > 0, longest_input(weights, output == "sentence"), kind == "fill-mask")
        )
    return "\n".join(lines)


def _quantised(figures: dict[str, Any]) -> str:
    """The files of a folder that `int8` wrote and the cost of 8 bits, as Markdown."""
    sizes = {name: f"{figures[name] / 1e6:.2f} MB" for name in ("int8_bytes", "float32_bytes", "container_bytes")}
    products = f"{figures['integer_products']} of {figures['products']}"
    left_out = f"; float32: {', '.join(figures['left_out'])}" if figures["left_out"] else ""
    rows = []
    if figures["cosine"] is None:
        rows.append((f"{figures['metric']}, float32", f"{figures['before']:.4f}"))
        rows.append((f"{figures['metric']}, 8 bits", f"{figures['after']:.4f}"))
        rows.append(("same answer as float32, share", f"{figures['top1_agreement']:.4f}"))
    else:
        rows.append(("cosine with float32, mean", f"{figures['cosine']:.5f}"))
    if figures["lowest_cosine"] is not None:
        rows.append(("cosine with float32, lowest", f"{figures['lowest_cosine']:.5f}"))
    rows += [("answers compared", f"{figures['answers']:,}"), ("products of integers", products + left_out)]
    rows += [("weights", f"{figures['bits']} bits in products"), ("activations", _ACTIVATIONS[figures["activations"]])]
    return f"""## Files

| file | what | size |
|---|---|---|
| `{QUANTIZED}` | the model with products of 8-bit integers | {sizes["int8_bytes"]} |
| `{MODEL}` | the same in float32 | {sizes["float32_bytes"]} |
| `{quantized.FILE}` | the integers and their scales, for bertlite_jax | {sizes["container_bytes"]} |
| `onnx/quantization.json` | all figures of the measurement | |

## What 8 bits cost

Both models answered the same held-out text in ONNX Runtime.

{model_card.table(("figure", "value"), rows)}"""


def _usage(file: str, types: bool, longest: int, masks: bool) -> str:
    type_ids = ',\n    "token_type_ids": [text.type_ids for text in texts]' if types else ""
    special = "" if masks else 'tokenizer.encode_special_tokens = True  # "[SEP]" in a text is text.\n'
    return f"""## Use

```python
import numpy, onnxruntime, tokenizers

tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
tokenizer.enable_padding()
tokenizer.enable_truncation({longest})
{special}session = onnxruntime.InferenceSession("{file}")
texts = tokenizer.encode_batch(["a text", "another"])
print(sum(bool(text.overflowing) for text in texts), "of", len(texts), "texts cut to {longest} tokens")
batch = {{
    "input_ids": [text.ids for text in texts],
    "attention_mask": [text.attention_mask for text in texts]{type_ids},
}}
print(session.run(None, {{name: numpy.array(value) for name, value in batch.items()}}))
```
"""
