"""The README.md of an exported model: what it is, how to load it, how it was trained, and its scores."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import bertlite_jax
from bertlite_jax.config.model import Head, Model
from bertlite_jax.config.pair_tasks import PAIR_LABELS, PAIR_NAMES
from bertlite_jax.convert.huggingface import evaluation
from bertlite_jax.convert.huggingface.config import architecture_of
from bertlite_jax.convert.huggingface.names import Family
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer

_TITLES = {"albert": "ALBERT", "bert": "BERT", "distilbert": "DistilBERT"}

# (key of summary.json, what a reader sees)
_TRAINING = (
    ("steps", "updates"),
    ("real_tokens", "tokens seen, without padding"),
    ("wall_seconds", "seconds of training"),
)
_EVALUATION = (
    ("valid_mlm_loss", "masked LM loss in nats on held-out documents; every chosen position is the mask"),
    ("unigram_entropy", "the same for a model that only knows how frequent each piece is"),
    ("valid_mlm_accuracy", "masked LM accuracy at the same positions"),
    ("valid_pair_accuracy", "sentence-pair accuracy"),
    ("pair_label_prior", "the same for always answering the more frequent label"),
)


_PIPELINES = {
    "classify": "text-classification",
    "choose": "multiple-choice",
    "tag": "token-classification",
    "span": "question-answering",
}
_LIMITS = (
    "A pretrained encoder repeats what its training text says, true or not. "
    "Fine-tune and evaluate it on your task before you rely on it.",
    "The answers are no better than the examples that it was fine-tuned on, and no more true. "
    "Evaluate it on texts of your own before you rely on it.",
)
QUANTISED = "the weights were rounded to 8-bit integers: they are integers times scales, not the trained values"
_SENTENCE_LIMITS = (
    " The vectors are means over the tokens. If the encoder was not trained on pairs of similar texts, they say little "
    "about similarity."
)


def render(
    weights: Weights,
    family: Family,
    notes: Sequence[str] = (),
    sentence_transformers: bool = False,
    repository: str = "",
) -> str:
    """The whole card as Markdown with a YAML head.

    Args:
      weights: as they were exported: heads that were not written are off. Figures and a license that `facts` lacks or
        has as null are left out.
      family: whose classes.
      notes: further remarks for the reader of the folder; a section of their own.
      sentence_transformers: whether the folder is one of sentence-transformers.
      repository: OWNER/NAME of the hub. Its example loads the model from there, and the head has the scores of the run.
    """
    model = dataclasses.replace(weights.model, vocab_multiple=1)
    head, mlm = weights.head, "mlm" in weights.params
    facts = {name: value for name, value in weights.facts.items() if name != "quantised"}
    if weights.facts.get("quantised"):
        notes = [*notes, QUANTISED]
    loader = architecture_of(model, family, head, mlm)
    # Only runs of ours have facts; other weights were read from elsewhere and trained by others.
    origin = f"{'Fine-tuned' if head else 'Pretrained'} with" if facts else "Exported by"
    usage = _sentences() if sentence_transformers else _usage(loader, head, mlm, weights.tokenizer)
    usage = usage.replace('"FOLDER"', f'"{repository}"') if repository else usage
    scored = evaluation.scored(dataclasses.replace(weights, facts=facts))
    parts = [
        _yaml(weights, family, sentence_transformers, scored, repository),
        f"# {_TITLES[family]}, {model.num_layers} layers of {model.hidden_size}\n",
        f"{origin} bertlite_jax {bertlite_jax.__version__}; its class is `{loader}`.\n",
        "## Use\n\n```python\n" + usage + "\n```\n",
        "".join(["## Notes\n\n", *(f"- {note[0].upper()}{note[1:]}.\n" for note in notes)]) if notes else "",
        _labels(head) if head and head.labels else "",
        "## Shape\n",
        table(("", ""), _shape_rows(weights, model)),
        _figures(
            "## Training\n",
            _TRAINING,
            facts,
            _objective(weights.pair_task) if _trained_here_or_known(weights, facts) else "",
        ),
        _task_scores(scored) if head else _figures("## Evaluation\n", _EVALUATION, facts, ""),
        _tokenizer(weights.tokenizer),
        f"## Limits\n\n{_LIMITS[head is not None]}{_SENTENCE_LIMITS if sentence_transformers else ''}\n",
    ]
    return "\n".join(part for part in parts if part)


def _yaml(
    weights: Weights,
    family: Family,
    sentence_transformers: bool,
    scored: evaluation.Scored | None,
    repository: str,
) -> str:
    tags = [family, "bertlite_jax"]
    if sentence_transformers:
        library, pipeline = "sentence-transformers", "sentence-similarity"
        tags.append("sentence-transformers")
    elif weights.head:
        library, pipeline = "transformers", _PIPELINES[weights.head.kind]
    else:
        library, pipeline = "transformers", "fill-mask" if "mlm" in weights.params else "feature-extraction"
    lines = [f"library_name: {library}", f"pipeline_tag: {pipeline}"]
    if weights.facts.get("license"):
        # Every JSON string is a YAML string too.
        lines.append(f"license: {json.dumps(weights.facts['license'])}")
    lines += ["tags:", *(f"- {tag}" for tag in tags)]
    if scored and repository and not sentence_transformers:
        lines.append(evaluation.model_index(scored, repository.partition("/")[2], pipeline))
    return "\n".join(["---", *lines, "---\n"])


# --- How to use it: an example that runs, for each class -------------------------------------------------------------

_ONE_TEXT = """\
inputs = tokenizer("a text", return_tensors="pt")
logits = model(**inputs).logits[0]
"""
_CLASSIFY = {
    "single_label": "print(model.config.id2label[logits.argmax().item()])",
    "multi_label": "print([model.config.id2label[i] for i, p in enumerate(logits.sigmoid().tolist()) if p > 0.5])",
    "regression": "print(dict(zip(model.config.id2label.values(), logits.tolist())))",
}
_CHOOSE = """\
question, choices = "a question", ["an answer", "another answer"]
inputs = tokenizer([question] * len(choices), choices, padding=True, return_tensors="pt")
logits = model(**{name: value[None] for name, value in inputs.items()}).logits[0]
print(choices[logits.argmax().item()])"""
_TAG = """\
for piece, label in zip(inputs.tokens(), logits.argmax(-1).tolist()):
    print(piece, model.config.id2label[label])"""
_SPAN = """\
inputs = tokenizer("a question", "a text that has the answer", return_tensors="pt")
outputs = model(**inputs)
start = outputs.start_logits[0].argmax().item()
end = start + outputs.end_logits[0, start:].argmax().item()
print(tokenizer.decode(inputs["input_ids"][0, start : end + 1]))"""


def _usage(loader: str, head: Head | None, mlm: bool, tokenizer: Tokenizer | None) -> str:
    model = f'model = {loader}.from_pretrained("FOLDER")'
    if tokenizer is None:
        return f"from transformers import {loader}\n\n{model}"
    lines = [f"from transformers import AutoTokenizer, {loader}", "", model]
    as_text = ", split_special_tokens=True" if head else ""
    lines += ['# A "[SEP]" in a text is text, as in training.'] * (head is not None)
    lines.append(f'tokenizer = AutoTokenizer.from_pretrained("FOLDER"{as_text})')
    if head is None:
        mask = tokenizer.pieces([tokenizer.mask_id])[0]
        text = f"a sentence with a {mask}" if mlm else "a sentence"
        result = "logits" if mlm else "hidden_states"
        lines.append(f'{result} = model(**tokenizer("{text}", return_tensors="pt"))[0]')
    elif head.kind == "classify":
        lines.append(_ONE_TEXT + _CLASSIFY[head.problem])
    else:
        lines.append({"choose": _CHOOSE, "tag": _ONE_TEXT + _TAG, "span": _SPAN}[head.kind])
    return "\n".join(lines)


def _sentences() -> str:
    return (
        "from sentence_transformers import SentenceTransformer\n\n"
        'model = SentenceTransformer("FOLDER")\nvectors = model.encode(["a sentence", "another sentence"])\n'
        "print(model.similarity(vectors, vectors))"
    )


def _labels(head: Head) -> str:
    meaning = {
        "single_label": "Each text or pair gets one of these labels",
        "multi_label": "Each text or pair gets any number of these labels, each with its own probability",
        "regression": "A number for each of these",
    }
    text = "Each token gets one of these labels" if head.kind == "tag" else meaning[head.problem]
    rows = [(str(i), label.replace("|", "\\|")) for i, label in enumerate(head.labels)]
    return f"## Labels\n\n{text}.\n\n" + table(("output", "label"), rows)


# --- Shape and figures -----------------------------------------------------------------------------------------------


def _shape_rows(weights: Weights, model: Model) -> list[tuple[str, str]]:
    flat = parameters.trim_vocabulary(parameters.flatten(weights.params), model)
    count = sum(value.size for value in flat.values())
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


def _trained_here_or_known(weights: Weights, facts: dict[str, Any]) -> bool:
    """Whether the card can say what the pretraining heads were trained on; a task model has none."""
    return weights.head is None and bool(facts or ("pair" in weights.params and weights.pair_task in PAIR_LABELS))


def _objective(pair_task: str) -> str:
    if pair_task not in PAIR_LABELS:
        return "Objectives: masked language model.\n"
    labels = ", ".join(f"{number}: {label.replace('_', ' ')}" for number, label in enumerate(PAIR_LABELS[pair_task]))
    return f"Objectives: masked language model, and the pair task {PAIR_NAMES[pair_task]} ({labels}).\n"


def _figures(title: str, known: tuple[tuple[str, str], ...], facts: dict[str, Any], text: str) -> str:
    rows = [(label, _number(facts[key])) for key, label in known if facts.get(key) is not None]
    if not rows and not text:
        return ""
    return "\n".join(part for part in (title, text, table(("figure", "value"), rows) if rows else "") if part)


def _task_scores(scored: evaluation.Scored | None) -> str:
    if scored is None:
        return ""
    text = f"On the validation examples of {scored.task}, by which this model was chosen from those of its run.\n"
    return _figures("## Evaluation\n", tuple((name, name) for name in scored.scores), scored.scores, text)


def _number(value: float | int) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _tokenizer(tokenizer: Tokenizer | None) -> str:
    if tokenizer is None:
        return ""
    case = "lower-cases its input" if tokenizer.settings.get("lower") else "keeps case"
    accents = "keeps accents" if tokenizer.settings.get("keep_accents") else "strips accents"
    kind = "adopted" if tokenizer.kind == "pipeline" else tokenizer.kind
    text = f"The {kind} tokenizer {case} and {accents}."
    special = (
        "Special pieces that are written out in a text count as special pieces here; `bertlite predict` and `bertlite "
        "embed` read them as text."
    )
    return f"## Tokenizer\n\n{text} {special}\n"


def table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    """A table of two columns in Markdown."""
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| {left} | {right} |" for left, right in rows)]
    return "\n".join(lines) + "\n"
