"""Weights to and from the folders that `transformers` reads. `pytorch_model.bin` needs torch."""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import safetensors.numpy

from bertlite_jax.config import checks
from bertlite_jax.config.model import SPECIAL_IDS, Model
from bertlite_jax.config.pair_tasks import PAIR_LABELS
from bertlite_jax.convert.huggingface import foreign_names, heads, model_card, names
from bertlite_jax.convert.huggingface.config import (
    architecture_of,
    check_family,
    check_types,
    choose_family,
    from_config,
    to_config,
)
from bertlite_jax.convert.huggingface.names import Family
from bertlite_jax.convert.huggingface.sentence_transformers import (
    model_folder,
    read_sentence,
    sentence_of,
    write_sentence,
)
from bertlite_jax.convert.huggingface.tokenizer import special_token_ids, write_tokenizer
from bertlite_jax.convert.huggingface.weight_files import read_tensors
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Weights, longest_input, read_json
from bertlite_jax.convert.weights.foreign_layers import check_layers
from bertlite_jax.convert.weights.head_choice import KINDS, ROWS, HeadChoice
from bertlite_jax.convert.weights.reading import reading_in, write_reading
from bertlite_jax.errors import UserError
from bertlite_jax.host.whole_files import new_folder, write_json

WEIGHTS = "model.safetensors"
CONFIGS = ("config.json", "bert_config.json", "albert_config.json")
"""Names of the config: today's, and those of folders that were made before there were model types."""
_LOG = logging.getLogger(__name__)

Path = os.PathLike[str] | str


# --- Out -------------------------------------------------------------------------------------------------------------


def to_hf(
    weights: Weights,
    out: Path,
    *,
    family: Family | None = None,
    overwrite: bool = False,
    sentence_transformers: bool = False,
    repository: str = "",
) -> Family:
    """Writes the folder `out`: config.json, model.safetensors, tokenizer files and a model card.

    For a task model also how its examples were read (`reading.FILE`), which transformers ignores.

    `from_pretrained(out)` of the class that `architectures` in config.json names loads it, and so does AutoTokenizer.
    Padded rows of the vocabulary and tied copies of tensors are left out. Whatever else a reader of the folder should
    know is in the card, and is logged as a warning.

    Args:
      weights: what to write, pretrained or with a task head. Without a tokenizer none is written.
      out: folder; must be empty or absent unless `overwrite`. It appears complete or not at all.
      family: whose classes; None chooses (`config.choose_family`).
      overwrite: replace an earlier export.
      sentence_transformers: write the encoder without its pretraining heads, and the files with which
        `SentenceTransformer(out)` gives the vectors that `weights.sentence` describes. Where that is None: the mean
        of the hidden states, scaled to length 1.
      repository: OWNER/NAME of the hub where the folder goes, for the card; empty: it stays on the disk.

    Returns:
      The family.

    Raises:
      UserError: no class can hold the model or its head, the parameters do not fit it, the tokenizer has another
        vocabulary, `out` is in the way, or `sentence_transformers` with a task head, without a tokenizer, or for a
        source that does not pool by mean or cls.
    """
    tokenizer = weights.tokenizer
    weights, notes = _exported(quantized.as_trained(weights))
    weights, more = _words_folded(weights)
    notes += more
    if family is None:
        family = choose_family(weights.model, tokenizer.kind if tokenizer else None, weights.head)
    check_family(weights.model, family, weights.head)
    if tokenizer is not None and tokenizer.vocab_size != weights.model.vocab_size:
        raise UserError(
            f"convert: to-hf: the tokenizer has {tokenizer.vocab_size} pieces and model.vocab_size is "
            f"{weights.model.vocab_size}; is it the tokenizer of this run?"
        )
    sentence = sentence_of(weights, "to-hf") if sentence_transformers else None
    longest = longest_input(weights, sentence=sentence is not None)
    if sentence:
        weights = _encoder_only(weights)
    tensors, weights, more = _their_tensors(weights, family)
    notes += more
    model, head, mlm = weights.model, weights.head, "mlm" in weights.params
    special_ids = special_token_ids(tokenizer) if tokenizer else SPECIAL_IDS
    with new_folder(out, overwrite, WEIGHTS) as folder:
        safetensors.numpy.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        config = to_config(model, family, special_ids, weights.pair_task, head, mlm)
        write_json(folder / "config.json", config)
        if tokenizer is not None:
            write_tokenizer(tokenizer, folder, longest, model.token_types)
        if head:
            write_reading(weights.reading, folder)
        if sentence:
            write_sentence(folder, model, family, sentence, longest)
        card = model_card.render(weights, family, notes, sentence_transformers, repository)
        (folder / "README.md").write_text(card, encoding="utf-8")
    for note in notes:
        _LOG.warning("convert: %s: %s", repository or out, note)
    return family


def _exported(weights: Weights) -> tuple[Weights, list[str]]:
    """The weights as exports hold them (`parameters.exported`), and notes on what is not as in the source."""
    model, notes = weights.model, []
    params = parameters.nest(parameters.exported(weights.params, model))
    weights = dataclasses.replace(weights, params=params, model=model.exported)
    if model.replaced_head:
        notes.append(
            "the head that says which tokens were replaced is left out: no class of ALBERT, BERT or DistilBERT has it"
        )
    if model.residual_factor != 1:
        notes.append(_residual_note(model))
    return weights, notes


def _residual_note(model: Model) -> str:
    return (
        f"the model was trained with residual_scale = {model.residual_scale}: what attention and feed-forward add is "
        f"multiplied by {model.residual_factor:.4g}. That factor is in their last kernels and biases here. The outputs "
        "are the same; further training is that of the published residual branches"
    )


def _words_folded(weights: Weights) -> tuple[Weights, list[str]]:
    """The weights with a projection of the words multiplied into their table, and a note where there was one."""
    if not weights.model.projects_words:
        return weights, []
    flat, model = names.fold_words(parameters.flatten(weights.params), weights.model)
    before = weights.model.padded_vocab * weights.model.embed_size
    note = (
        "the words are projected before the sum (embedding_order = project_then_sum), which no class of transformers "
        f"does: the word table is written as its product with the projection, {model.vocab_size * model.hidden_size:,} "
        f"numbers instead of {before + weights.model.embed_size * model.hidden_size:,}. The outputs are the same"
    )
    return dataclasses.replace(weights, params=parameters.nest(flat), model=model), [note]


def _encoder_only(weights: Weights) -> Weights:
    """Without the pretraining heads. Raises UserError where there is a task head or no tokenizer."""
    if weights.head:
        raise UserError(
            f"convert: to-hf: a folder of sentence-transformers holds an encoder, and this model has a head of kind "
            f"{weights.head.kind}; export it without the option, or name the run that it started from"
        )
    if weights.tokenizer is None:
        raise UserError("convert: to-hf: a folder of sentence-transformers needs a tokenizer, and this model has none")
    encoder = {part: value for part, value in weights.params.items() if part not in names.PRETRAINING_HEADS}
    return dataclasses.replace(weights, params=encoder)


def _their_tensors(weights: Weights, family: Family) -> tuple[parameters.Flat, Weights, list[str]]:
    """Tensors by their names, the weights as they are written (missing parts are off in the model), and notes."""
    model, head, notes = weights.model, weights.head, []
    flat = parameters.flatten(weights.params)
    if head is None:
        pair = model.pair_classes if "pair" in weights.params else 0
        model = dataclasses.replace(model, pooler="pooler" in weights.params, pair_classes=pair)
    if model.share not in ("all", "none"):
        notes.append(
            f'the layers share their {model.share} (share = "{model.share}"), which no class of transformers can: the '
            f"shared tensors are written once for each of the {model.num_layers} layers. The outputs are the same; "
            "further training lets the layers drift apart"
        )
        flat, model = names.unshare(flat, model)
    if model.freed:
        notes.append(
            f"the layers share their parameters but for {', '.join(model.freed)}, which no class of transformers can: "
            f"the tensors are written out for each of the {model.num_layers} layers (num_hidden_groups = "
            f"{model.num_layers}). The outputs are the same; further training lets the layers drift apart"
        )
        flat, model = names.unshare(flat, model)
    architecture = architecture_of(model, family, head, "mlm" in weights.params)
    if architecture.endswith("ForMaskedLM") and model.pooler:
        notes.append(f"{architecture} has no pooler and ignores the one in {WEIGHTS}")
    if architecture.endswith("Model") and family != "distilbert" and not model.pooler:
        notes.append(f"there is no pooler: load it with {architecture}.from_pretrained(..., add_pooling_layer=False)")
    tensors = names.to_theirs(flat, family, model, head)
    if architecture.endswith("Model"):
        tensors = names.base_names(tensors, family)
    return tensors, dataclasses.replace(weights, params=parameters.nest(flat), model=model), notes


# --- In --------------------------------------------------------------------------------------------------------------


def from_hf(folder: Path, *, head: HeadChoice = "auto", labels: Sequence[str] = ()) -> Weights:
    """Reads ALBERT, BERT or DistilBERT weights: pretraining, masked-LM, base and task models.

    `architectures` in config.json says whether there is a task head. Tensors that the class does not read, such as
    pretraining heads beside a task's or the weights of a loss, are left out, and a prefix that a wrapper put before the
    names is taken off; the log has a warning of each. Without a task head the tensors decide: where the checkpoint
    lacks a part, `model.pooler` is False, `model.pair_classes` is 0, and `params` has no `mlm`.
    `parameters.missing_parts(params, wanted)` names the missing parts.

    Args:
      folder: holds config.json and the weights (`weight_files.read_tensors`).
      head: what a task head is for, where `architectures` does not say it.
      labels: names of its outputs in their order; empty: as the config names them.

    Returns:
      f32 arrays, their shape, and the head if any, without a tokenizer. Settings that no config.json states have our
      defaults. `sentence` is set for an encoder in a folder of sentence-transformers (`read_sentence`).

    Raises:
      UserError: an unreadable file, an unsupported model, tensors that do not fit the config (all are listed), or
        that are not finite floats.
    """
    folder = pathlib.Path(folder)
    where, inner = str(folder), model_folder(folder)
    place = config_file(inner)
    stated = read_json(place)
    check_types(stated, str(place))
    tensors, prefix = foreign_names.without_wrappers(read_tensors(inner), where)
    notes = [f"the names of the tensors begin with {prefix}, which was taken off"] if prefix else []
    if stated.get("auto_map"):
        notes.append(
            f"auto_map in {place.name} names code of the folder's own, which is not run; where that computes something "
            "else from these tensors, the answers will differ"
        )
    if stated.get("model_type") is None:
        if not {"hidden_size", "dim"} & stated.keys():
            raise UserError(f"convert: {place}: neither model_type nor hidden_size; is it the config of these weights?")
        known = foreign_names.family_of(tensors, prefix, stated.get("architectures") or (), str(place))
        notes.append(f"no model_type in {place.name}; by the names of its tensors it is {known}")
        stated = stated | {"model_type": known}
    family, model = from_config(stated, str(place))
    foreign_names.check_prefix(prefix, family, str(place))
    tensors = foreign_names.canonical_names(tensors, family, where)
    if head in KINDS or heads.class_kinds(stated, family) or heads.modules(tensors):
        beside = [name for name in tensors if not name.startswith(f"{family}.")]
        notes += filter(None, [check_layers(beside, head, where)])
    tensors, renamed = _with_named_head(tensors, stated, family, model.hidden_size, head, where)
    if renamed:
        notes.append(f"{renamed} was read as the head, as nothing else could be it")
    task_head = heads.read_head(stated, family, tensors, where, head, labels)
    tensors, unread = foreign_names.drop_unread(tensors, family, task_head)
    if unread:
        notes.append(f"left out, since the class does not read them: {', '.join(unread)}")
    if task_head:
        model = dataclasses.replace(model, pooler=task_head.pooled)
        checks.check_head(task_head, model)
    else:
        model = _with_heads(model, family, tensors)
    checks.check_model(model)
    flat = names.to_ours(tensors, family, model, where, task_head)
    parameters.check_finite(flat, where)
    flat, model = names.reduce(flat, family, model)
    sentence = None if task_head else read_sentence(folder)
    for note in notes:
        _LOG.warning("convert: %s: %s", where, note)
    pair_task, reading = _pair_task(stated, model), reading_in(folder) if task_head else None
    return Weights(parameters.nest(flat), model, task_head, pair_task=pair_task, sentence=sentence, reading=reading)


def config_file(folder: pathlib.Path) -> pathlib.Path:
    """The config of a folder; `config.json` where there is none."""
    return next((folder / name for name in CONFIGS if (folder / name).is_file()), folder / CONFIGS[0])


def _with_named_head(
    tensors: parameters.Flat, stated: dict[str, Any], family: Family, width: int, wanted: HeadChoice, where: str
) -> tuple[parameters.Flat, str]:
    """The tensors with the family's name for the task head, if a class of one's own has another; and that other name.

    Which head is meant, `wanted` says, or else the class that the config states.
    """
    kinds = heads.class_kinds(stated, family) if wanted == "auto" else []
    kind = KINDS.get(wanted) or next(iter(kinds), None)
    if kind is None or f"{names.HEAD_MODULES[kind]}.weight" in tensors:
        return tensors, ""
    modules = foreign_names.head_candidates(tensors, family, width, ROWS.get(kind, 0))
    if kinds and (len(modules) != 1 or modules[0] in names.HEAD_MODULES.values()):
        return tensors, ""  # The class and the tensors disagree, which `read_head` says.
    if len(modules) != 1:
        found = f"several could be it: {', '.join(modules)}" if modules else "no tensor beside the encoder could be it"
        raise UserError(f"convert: {where}: --head {wanted}, but {found}; --head none reads the encoder alone")
    old, new = f"{modules[0]}.", f"{names.HEAD_MODULES[kind]}."
    renamed = {new + name.removeprefix(old) if name.startswith(old) else name: tensors[name] for name in tensors}
    return renamed, modules[0]


def _pair_task(stated: dict[str, Any], model: Model) -> str:
    """The pair task that our own exports state; other folders state none."""
    task = stated.get("pair_task")
    return task if model.pair_classes and task in PAIR_LABELS else "none"


def _with_heads(model: Model, family: Family, tensors: parameters.Flat) -> Model:
    """The pooler and pair head that the tensors have."""
    modules = {ours: theirs for ours, theirs, _ in names.TABLES[family]}
    pooler = "pooler" in modules and f"{modules['pooler']}.weight" in tensors
    pair = tensors.get(f"{modules['pair']}.weight") if "pair" in modules else None
    return dataclasses.replace(model, pooler=pooler, pair_classes=0 if pair is None else len(np.atleast_1d(pair)))
