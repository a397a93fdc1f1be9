"""The README.md of an exported model: what it is, how to load it, how it was trained, what it scored."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import bertlite_jax
from bertlite_jax.config import Model
from bertlite_jax.convert import parameters
from bertlite_jax.convert.hf_config import architecture
from bertlite_jax.convert.names import Family
from bertlite_jax.data.tokenizer import Tokenizer

_TITLES = {"albert": "ALBERT", "bert": "BERT", "distilbert": "DistilBERT"}

# (key of summary.json, what a reader sees)
_TRAINING = (
    ("steps", "updates"),
    ("real_tokens", "tokens seen, padding not counted"),
    ("wall_seconds", "seconds of training"),
)
_EVALUATION = (
    ("valid_mlm_loss", "masked LM loss, nats, held-out documents, all chosen positions replaced by the mask"),
    ("unigram_entropy", "the same for a model that knows only how frequent each piece is"),
    ("valid_mlm_accuracy", "masked LM accuracy at the same positions"),
    ("valid_pair_accuracy", "sentence-pair accuracy"),
    ("pair_label_prior", "the same for always the more frequent label"),
)


def render(model: Model, family: Family, tokenizer: Tokenizer | None, pair_task: str, facts: dict[str, Any]) -> str:
    """The whole card as Markdown with a YAML head.

    Args:
      model, family: what was exported.
      tokenizer: for the mask piece of the example and the casing; None leaves both out.
      pair_task: the task of the pair head.
      facts: figures by the names that `summary.json` uses; those that are missing or null are left out.
    """
    model = dataclasses.replace(model, vocab_multiple=1)
    head = f"---\nlibrary_name: transformers\npipeline_tag: fill-mask\ntags:\n- {family}\n- bertlite_jax\n---\n"
    parts = [
        head,
        f"# {_TITLES[family]}, {model.num_layers} layers of {model.hidden_size}\n",
        f"Pretrained with bertlite_jax {bertlite_jax.__version__} and exported as `{architecture(model, family)}`.\n",
        _usage(model, family, tokenizer),
        "## Shape\n",
        _table(("", ""), _shape_rows(model)),
        _figures("## Training\n", _TRAINING, facts, _objective(model, pair_task)),
        _figures("## Evaluation\n", _EVALUATION, facts, ""),
        _tokenizer(tokenizer),
        "## Limits\n\nA pretrained encoder repeats what its training text says, true or not. "
        "Fine-tune and evaluate it on your task before you rely on it.\n",
    ]
    return "\n".join(part for part in parts if part)


def _usage(model: Model, family: Family, tokenizer: Tokenizer | None) -> str:
    loader = architecture(model, family)
    lines = [f"from transformers import AutoTokenizer, {loader}", "", f'model = {loader}.from_pretrained("FOLDER")']
    if tokenizer is not None:
        mask = tokenizer.pieces([tokenizer.mask_id])[0]
        lines += [
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
            f'logits = model(**tokenizer("a sentence with a {mask}", return_tensors="pt"))[0]',
        ]
    return "## Use\n\n```python\n" + "\n".join(lines) + "\n```\n"


def _shape_rows(model: Model) -> list[tuple[str, str]]:
    count = sum(map(math.prod, parameters.shapes(model).values()))
    sharing = {"all": f"in {model.share_groups} group(s)", "none": "none"}.get(model.share, model.share)
    return [
        ("parameters, heads included", f"{count:,}"),
        ("layers", str(model.num_layers)),
        ("layer sharing", sharing),
        ("hidden width, embedding width", f"{model.hidden_size}, {model.embed_size}"),
        ("attention heads", str(model.num_heads)),
        ("feed-forward width", str(model.ffn_size)),
        ("vocabulary", f"{model.vocab_size:,}"),
        ("longest input, tokens", str(model.max_positions)),
        ("activation", model.activation),
    ]


def _objective(model: Model, pair_task: str) -> str:
    tasks = {
        "sop": "sentence-order prediction (0: in order, 1: swapped)",
        "nsp": "next-sentence prediction (0: next, 1: random)",
        "three_way": "next, previous or random sentence (0, 1, 2)",
    }
    pair = tasks.get(pair_task) if model.pair_classes else None
    return "Objectives: masked language model" + (f" and {pair}.\n" if pair else ".\n")


def _figures(title: str, known: tuple[tuple[str, str], ...], facts: dict[str, Any], text: str) -> str:
    rows = [(label, _number(facts[key])) for key, label in known if facts.get(key) is not None]
    if not rows and not text:
        return ""
    return "\n".join(part for part in (title, text, _table(("figure", "value"), rows) if rows else "") if part)


def _number(value: float | int) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _tokenizer(tokenizer: Tokenizer | None) -> str:
    if tokenizer is None:
        return ""
    case = "lower-cases its input" if tokenizer.settings.get("lower") else "keeps case"
    accents = "keeps accents" if tokenizer.settings.get("keep_accents") else "strips accents"
    text = f"The {tokenizer.kind} tokenizer {case} and {accents}."
    return f"## Tokenizer\n\n{text} Special pieces written out in a text are read as special pieces.\n"


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| {left} | {right} |" for left, right in rows)]
    return "\n".join(lines) + "\n"
