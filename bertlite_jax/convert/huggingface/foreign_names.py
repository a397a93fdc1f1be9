"""Names of tensors as people's files have them, and what they tell, before `names` maps them to ours.

Wrappers put a prefix before every name (DataParallel `module.`, torch.compile `_orig_mod.`, Lightning `model.`), old
checkpoints write gamma and beta, training loops store the weights of their loss, and configs lack the model type.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert.huggingface.names import PRETRAINING_HEADS, TABLES, Family, table
from bertlite_jax.convert.weights import renaming
from bertlite_jax.convert.weights.parameters import Flat
from bertlite_jax.errors import UserError

# What only the encoder of a family has in its names. BERT's is also RoBERTa's and ELECTRA's (`_LOOKALIKES`).
_SIGNS: dict[Family, str] = {
    "albert": "albert_layer_groups.",
    "distilbert": ".attention.q_lin.",
    "bert": "encoder.layer.0.attention.self.query.",
}
_LOOKALIKES = ("roberta.", "electra.", "xlm", "camembert.", "deberta.", "ernie.", "layoutlm.", "esm.", "nezha.")
_OTHER_ARITHMETIC = tuple(name for name in _LOOKALIKES if name not in ("electra.", "ernie."))
"""Those that compute something else than BERT from tensors of the same names: RoBERTa's positions begin at 2."""
_THEIR_CLASSES = ("Roberta", "Electra", "XLM", "Camembert", "Deberta", "Ernie", "LayoutLM", "Esm", "Nezha", "MPNet")
# Positions of RoBERTa start at 2, so that its tables have two rows more than a power of two.
_ROBERTA_POSITIONS = (514, 130, 258, 1026)

# Every model of ours has this tensor, under its family's name or, in a base model, at the top.
_ANCHOR = "embeddings.position_embeddings.weight"

# Tied tensors that some checkpoints repeat: (the copy, the original).
TIED: dict[Family, tuple[tuple[str, str], ...]] = {
    "albert": (
        ("predictions.decoder.weight", "albert.embeddings.word_embeddings.weight"),
        ("predictions.decoder.bias", "predictions.bias"),
    ),
    "bert": (
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ),
    "distilbert": (("vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight"),),
}


def without_wrappers(tensors: Flat, where: str) -> tuple[Flat, str]:
    """Takes off what stands before the names of the model: `module.`, `_orig_mod.module.`, a class's own attribute.

    Tensors beside the model, such as those of a loss, keep their names.

    Args:
      tensors: by the names of the file.
      where: the folder, for errors.

    Returns:
      The tensors, and the prefix that was taken off; empty for none.

    Raises:
      UserError: the layout is one that is read from elsewhere, there are adapters or two encoders, or two tensors would
        have one name.
    """
    if any(".lora_A." in name for name in tensors):
        raise UserError(
            f"convert: {where}: LoRA adapters lie beside the weights; save model.merge_and_unload() instead"
        )
    if any(".layer_shared." in name for name in tensors):
        raise UserError(
            f"convert: {where}: the names are those of brightmart/albert_zh (layer_shared), copied from a checkpoint "
            "of TensorFlow; read that checkpoint with from-tf"
        )
    anchors = [name for name in tensors if name == _ANCHOR or name.endswith(f".{_ANCHOR}")]
    if len(anchors) > 1:
        raise UserError(f"convert: {where}: several encoders: {', '.join(anchors)}; save each in a folder of its own")
    prefix = anchors[0].removesuffix(_ANCHOR) if anchors else ""
    for family in TABLES:
        prefix = prefix if prefix != f"{family}." and not prefix.endswith(f".{family}.") else prefix[: -len(family) - 1]
    if not prefix:
        return tensors, ""
    return renaming.renamed(tensors, lambda name: name.removeprefix(prefix), where), prefix


def check_prefix(prefix: str, family: str, where: str) -> None:
    """Raises UserError if what stands before the names is that of a model which computes something else.

    Args:
      prefix: what was taken off.
      family: that the config states.
      where: the config's file.
    """
    if any(f".{name}" in f".{prefix}" for name in _OTHER_ARITHMETIC):
        raise UserError(
            f"convert: {where}: model_type is {family}, and the names of the tensors begin with {prefix}, as those of "
            "another kind of model; is it the config of these weights?"
        )


def family_of(tensors: Flat, prefix: str, architectures: Collection[str], where: str) -> Family:
    """The family of a checkpoint whose config does not say, by the names of its tensors.

    Args:
      tensors: without what stood before their names.
      prefix: what that was.
      architectures: names of classes that the config states.
      where: the config's file, for errors.

    Raises:
      UserError: no family has these names, or others have them too.
    """
    found: list[Family] = [family for family, sign in _SIGNS.items() if any(sign in name for name in tensors)]
    foreign = [name for name in architectures if class_name(name).startswith(_THEIR_CLASSES)]
    alike = any(f".{name}" in f".{prefix}" for name in _LOOKALIKES)
    positions = [
        len(np.atleast_1d(value)) for name, value in tensors.items() if name.endswith("position_embeddings.weight")
    ]
    alike = alike or any(rows in _ROBERTA_POSITIONS for rows in positions)
    if not found or foreign or alike:
        raise UserError(
            f"convert: {where}: no model_type, and neither the names of the tensors nor the classes tell that it is "
            'albert, bert or distilbert; add "model_type" if it is one of them'
        )
    return found[0]


def class_name(name: str) -> str:
    """A class of transformers without the mark of its framework: BertModel for FlaxBertModel and TFBertModel."""
    return name.removeprefix("Flax").removeprefix("TF")


def canonical_names(tensors: Flat, family: Family, where: str) -> Flat:
    """Names as today's pretraining and task classes write them.

    Base models lack the family's prefix; old checkpoints use gamma and beta, have `position_ids` and repeat the tied
    decoder.

    Raises:
      UserError: the decoder is not tied to the word table, which our model cannot hold; or two spellings of one tensor
        differ.
    """
    base = any(name.startswith("embeddings.") for name in tensors)
    inner = ("embeddings.", "encoder.", "transformer.", "pooler.")

    def canonical(name: str) -> str:
        name = f"{family}.{name}" if base and name.startswith(inner) else name
        return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")

    read = {name: value for name, value in tensors.items() if not name.endswith((".position_ids", ".token_type_ids"))}
    renamed = renaming.renamed(read, canonical, where)
    for copy, original in TIED[family]:
        if copy not in renamed:
            continue
        value = renamed.pop(copy)
        if not np.array_equal(value, renamed.setdefault(original, value)):
            raise UserError(f"convert: {where}: {copy} differs from {original}; our model ties them")
    return renamed


def drop_unread(tensors: Flat, family: Family, head: Head | None) -> tuple[Flat, list[str]]:
    """Leaves out tensors that the class does not read, as transformers does with a warning.

    These are pretraining heads and a pooler that `head` does not use, and whatever lies beside the encoder and is no
    head of the family: weights of a loss, heads of a class of one's own. Inside the encoder nothing is left out.

    Returns:
      The remaining tensors, and the names of those that were left out.
    """
    read = {theirs for _, theirs, _ in table(family, head)}
    unread = tuple(f"{theirs}." for _, theirs, _ in TABLES[family] if theirs not in read)

    def is_read(name: str) -> bool:
        inside = name.startswith(f"{family}.") and not (unread and name.startswith(unread))
        return inside or name.rpartition(".")[0] in read

    return {name: value for name, value in tensors.items() if is_read(name)}, [n for n in tensors if not is_read(n)]


def head_candidates(tensors: Flat, family: Family, width: int, rows: int) -> list[str]:
    """Modules beside the encoder that could be the last layer of a task: [rows, width] and a bias; 0: any rows."""
    others = tuple(theirs for ours, theirs, _ in TABLES[family] if ours.split("/")[0] in PRETRAINING_HEADS)
    modules = []
    for name, value in tensors.items():
        module, _, leaf = name.rpartition(".")
        if leaf != "weight" or module.startswith((f"{family}.", "pre_classifier", *others)) or value.ndim != 2:
            continue
        bias = tensors.get(f"{module}.bias")
        fits = value.shape[1] == width and rows in (0, len(value))
        if fits and bias is not None and bias.shape == value.shape[:1]:
            modules.append(module)
    return modules
