"""The teachers of a run: opened, compared with the student, and reduced to what its losses read."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax

from bertlite_jax.config.distillation.checks import check_relations, check_teacher
from bertlite_jax.config.distillation.settings import Distill, losses_of, relation_heads
from bertlite_jax.config.model import Model
from bertlite_jax.convert import adoption, sources
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.distilling import requests


class Teacher(NamedTuple):
    """A pretrained model that is read and not changed."""

    source: str
    """Its folder."""
    model: Model
    """Its shape, with as many rows of padding as the student's vocabulary has."""
    params: dict[str, Any]
    """Nested arrays; heads may be missing."""
    digest: str
    """As of `Weights.digest`."""

    def reduced(self, config: Distill) -> Teacher:
        """Without the heads that no loss reads."""
        request = requests.of_teacher(config, self.model)
        read = {"mlm": request.masked_logits or request.all_logits, "pooler": request.pair_logits}
        read |= {"pair": request.pair_logits, "replaced": False}
        return self._replace(params={part: value for part, value in self.params.items() if read.get(part, True)})

    def described(self) -> Teacher:
        """With shapes in place of parameters, so that the step does not keep the arrays on the host."""
        return self._replace(params=jax.eval_shape(lambda: self.params))

    def shape_in_words(self) -> str:
        """`12 layers of width 768, 109,514,298 parameters`."""
        count = sum(array.size for array in parameters.flatten(self.params).values())
        return f"{self.model.num_layers} layers of width {self.model.hidden_size}, {count:,} parameters"


def open_teachers(config: Distill, tokenizer: Tokenizer) -> tuple[Teacher, ...]:
    """Opens all teachers of a run, and prints what they are and what is learnt from them.

    Args:
      config: of the run, with all sizes.
      tokenizer: of the run.

    Raises:
      UserError: as `open_teacher`, or the relation heads do not divide a width.
    """
    teachers = tuple(open_teacher(source, config, tokenizer) for source in config.distill.teachers)
    for teacher in teachers:
        print(f"distill: teacher {teacher.source}: {teacher.shape_in_words()}")
    heads = relation_heads(config, teachers[0].model)
    check_relations(config, heads, {teacher.source: teacher.model.hidden_size for teacher in teachers})
    weighed = ", ".join(f"{name} {weight:g}" for name, weight in losses_of(config).items())
    print(f"distill: losses {weighed}; temperature {config.distill.temperature:g}")
    return teachers


def open_teacher(source: str, config: Distill, tokenizer: Tokenizer) -> Teacher:
    """Reads a teacher and checks that it can teach this student.

    One that was itself trained for a file of integers teaches with the weights of that file, in floats.

    Args:
      source: a run of pretraining, a folder of `transformers`, or one that `bertlite convert` wrote.
      config: of the run, with all sizes.
      tokenizer: of the run.

    Raises:
      UserError: it cannot be read, is no pretrained model, has another tokenizer or none, has NaN in its weights, or
        lacks what a loss needs.
    """
    sources.check_there(source, "distill")
    with adoption.open_weights(source, "distill") as loaded:
        _check_tokenizer(loaded.tokenizer, source, config.data.tokenizer, tokenizer)
    _check_kind(loaded, source, config.model)
    parts = tuple(part for part in parameters.OPTIONAL_PARTS if part in loaded.params)
    check_teacher(config, loaded.model, parts, loaded.pair_task, source)
    with sources.naming("distill"):
        parameters.check_finite(parameters.flatten(loaded.params), source)
    loaded = quantized.as_trained(loaded)
    # Attention as a run wants it may not work here, and what the backward pass keeps does not matter.
    changes = {"vocab_multiple": config.model.vocab_multiple, "attention": "auto", "remat": "none"}
    model = dataclasses.replace(loaded.model, unroll=config.model.unroll, **changes)
    params = parameters.pad_vocabulary(loaded.params, model)
    return Teacher(source, model, params, loaded.digest())


def _check_tokenizer(theirs: Tokenizer | None, source: str, folder: str, ours: Tokenizer) -> None:
    if theirs is None:
        raise UserError(
            f"distill: {source} has no tokenizer, so it cannot be compared with {folder}; put the teacher's "
            "tokenizer.json or vocab.txt into its folder"
        )
    if theirs.hash != ours.hash:
        raise UserError(
            f"distill: {source} has another tokenizer than {folder} (SHA-256 {theirs.hash[:12]} and {ours.hash[:12]}), "
            "so an id is one piece to the teacher and another to the student; build tokenizer and corpus with the "
            "teacher's"
        )


def _check_kind(loaded: Weights, source: str, student: Model) -> None:
    if loaded.head is not None:
        raise UserError(
            f"distill: {source} is a fine-tuned model (a head of kind {loaded.head.kind}); name the pretrained one "
            "that it started from"
        )
    if loaded.model.vocab_size != student.vocab_size:
        raise UserError(
            f"distill: {source} has {loaded.model.vocab_size:,} pieces and the student {student.vocab_size:,}; one "
            "tokenizer has to serve both"
        )
