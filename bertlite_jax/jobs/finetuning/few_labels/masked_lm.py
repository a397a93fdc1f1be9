"""Words in place of words, as a masked language model proposes them: computed once for all copies, and stored."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.model import Head
from bertlite_jax.convert import adoption
from bertlite_jax.convert.bundled.words import split_words
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.examples import batches, features, masked_words
from bertlite_jax.data.examples.masked_words import Places, WordPieces
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.finetuning.few_labels import copies, stored, unlabelled
from bertlite_jax.jobs.finetuning.few_labels.few_label_inputs import folder_of
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.train.pretraining import objective

Unit = str | tuple[str, ...]
"""A text, or the words of a sentence to tag."""

_PART, _ROW, _SLOTS = 8192, 128, 2048
"""About how many holes a stored part has; tokens in a row, and about how many in a batch: the logits of the vocabulary
are the largest array."""


# --- The model -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(learn: Learn, init: str, weights: Weights) -> Iterator[tuple[str, Weights]]:
    """The masked language model of a run and its folder: that of `learn.augment_model`, else of --init.

    Args:
      learn: of the run.
      init: folder of --init.
      weights: loaded from it.

    Raises:
      UserError: it cannot be read, or has no masked-LM head or no tokenizer.
    """
    with contextlib.ExitStack() as stack:
        if learn.augment_model:
            init = learn.augment_model
            weights = stack.enter_context(adoption.open_weights(init, "finetune"))
        if "mlm" not in weights.params:
            raise UserError(
                f"finetune: learn.augment = masked_lm: {init} has no masked-LM head; name a pretrained model that has "
                "one with --learn.augment-model"
            )
        if weights.tokenizer is None:
            raise UserError(f"finetune: learn.augment = masked_lm: {init} comes without a tokenizer")
        yield init, weights


def check(learn: Learn, init: str, weights: Weights) -> dict[str, str]:
    """Checks that words can be replaced, where a run wants that.

    Returns:
      The folder of the masked language model, and the SHA-256 of what its proposals follow from; empty without one.

    Raises:
      UserError: as `opened`, or its vocabulary has hardly a word that is one piece.
    """
    if not learn.replaces_words:
        return {}
    with opened(learn, init, weights) as (folder, loaded):
        assert loaded.tokenizer is not None
        _candidates_of_each(masked_words.pieces_alone(loaded.tokenizer), learn, folder)
        return {folder: digest_of(loaded)}


def digest_of(loaded: Weights) -> str:
    """SHA-256 of the parameters, shape and tokenizer of a pretrained model."""
    tokenizer = loaded.tokenizer.hash if loaded.tokenizer else ""
    return parameters.digest(loaded.params, json.dumps([dataclasses.asdict(loaded.model), tokenizer]))


def complete(setup: Setup, weights: Weights, run: pathlib.Path) -> Setup:
    """`unlabelled.complete` with words that a masked language model proposes; without one, nothing is left to do.

    Args:
      setup: of the run.
      weights: of --init.
      run: its work directory, where the proposals are stored unless runs share them.
    """
    config = setup.start.config
    if not config.learn.replaces_words:
        return setup
    examples = unlabelled.examples_of_training(setup) if config.learn.copies else setup.extra.texts
    with opened(config.learn, config.init, weights) as (folder, loaded):
        digest, place = setup.extra.digests[folder], setup.extra.answers or folder_of(run)
        changes = changes_of(examples, folder, loaded, digest, config.learn, config.run.seed, place)
    return unlabelled.complete(setup, changes)


# --- Proposals -------------------------------------------------------------------------------------------------------


def changes_of(
    examples: Iterable[Example], source: str, loaded: Weights, digest: str, learn: Learn, seed: int, place: pathlib.Path
) -> copies.Changes:
    """Replaces words by words that the model finds likely in their place.

    Args:
      examples: that will be changed, and no others.
      source: folder of the model.
      loaded: from it.
      digest: of it, as of `check`.
      learn: `augment_rate` of the words are replaced, by one of `candidates` each.
      seed: of the draws. The candidates do not depend on it.
      place: folder where the candidates are stored.
    """
    tokenizer = loaded.tokenizer
    assert tokenizer is not None
    pieces = masked_words.pieces_alone(tokenizer)
    units: dict[Unit, Places] = {unit: _places(unit, tokenizer) for unit in copies.units_of(examples)}
    counts = np.array([len(places.bounds) for places in units.values()], np.int64)
    found = _candidates(units, counts, pieces, source, loaded, digest, learn, place)
    firsts = dict(zip(units, np.r_[0, np.cumsum(counts)], strict=False))

    def drawn(unit: Unit, number: int) -> list[tuple[int, int, str]]:
        if unit not in units:  # An empty text, which is no unit.
            return []
        places, first = units[unit], firsts[unit]
        own = found[first : first + len(places.bounds)]
        chosen = masked_words.draw(places, own, learn.augment_rate, seed, number)
        return [(start, end, pieces.spelled[candidate]) for start, end, candidate in chosen]

    def change_text(text: str, number: int) -> str:
        parts, at = [], 0
        for start, end, word in drawn(text, number):
            parts += [text[at:start], masked_words.spelled_like(word, text[start:end])]
            at = end
        return "".join([*parts, text[at:]])

    def change_words(words: tuple[str, ...], number: int) -> Sequence[str]:
        new = list(words)
        for place, _, word in drawn(words, number):
            new[place] = masked_words.spelled_like(word, words[place])
        return new

    return copies.Changes(change_text, change_words)


def _places(unit: Unit, tokenizer: Tokenizer) -> Places:
    if isinstance(unit, str):
        return masked_words.in_text(unit, split_words(unit, ("punctuation", "chinese")), tokenizer)
    return masked_words.in_words(unit, tokenizer)


def _candidates(
    units: dict[Unit, Places],
    counts: np.ndarray,
    pieces: WordPieces,
    source: str,
    loaded: Weights,
    digest: str,
    learn: Learn,
    folder: pathlib.Path,
) -> Int[np.ndarray, "W K"]:
    """The candidates of all words of all units, one after the other, likeliest first: computed, or read again."""
    most, spare = _candidates_of_each(pieces, learn, source)
    whole = hashlib.sha256(f"{digest}\0{most}".encode())
    for unit in units:
        whole.update(f"{unit!r}\0".encode())
    path = folder / f"candidates-{whole.hexdigest()[:16]}.npy"
    if not counts.sum():
        return np.zeros((0, most), np.int32)
    parts = np.cumsum(counts) // _PART
    holes = [(unit, word) for unit, count in zip(units, counts, strict=True) for word in range(count)]
    sizes = np.bincount(parts, weights=counts).astype(np.int64)
    sizes = sizes[sizes > 0]
    bounds = np.r_[0, np.cumsum(sizes)]

    def begin() -> Callable[[int], np.ndarray]:
        print(
            f"finetune: the masked language model {source} proposes {most} words in place of each of {len(holes):,}, "
            f"stored in {path}"
        )
        propose = make_propose(loaded, pieces, most, spare)

        def compute(number: int) -> np.ndarray:
            part = holes[bounds[number] : bounds[number + 1]]
            return propose([(units[unit], word, _spelling(unit, units[unit], word)) for unit, word in part])

        return compute

    return stored.in_parts(path, sizes.tolist(), most, begin, "words have candidates")


def _candidates_of_each(pieces: WordPieces, learn: Learn, source: str) -> tuple[int, int]:
    """How many candidates a word has, and how many pieces may be alike that word itself."""
    words = int(pieces.allowed.sum())
    spare = int(np.bincount(pieces.alike[pieces.allowed]).max(initial=0))
    if words <= spare:
        raise UserError(
            f"finetune: learn.augment = masked_lm: the vocabulary of {source} has too few whole words to choose from "
            f"({words}); name another model with --learn.augment-model"
        )
    return min(learn.candidates, words - spare), spare


def _spelling(unit: Unit, places: Places, word: int) -> str:
    start, end = map(int, places.spans[word])
    return unit[start:end] if isinstance(unit, str) else unit[start]


Propose = Callable[[Sequence[tuple[Places, int, str]]], Int[np.ndarray, "N K"]]
"""(text, number of the hidden word in it, its spelling) of N holes -> ids, likeliest first."""


def make_propose(loaded: Weights, pieces: WordPieces, most: int, spare: int) -> Propose:
    """Returns the function that finds the `most` likeliest words for holes, several holes in a row.

    Args:
      loaded: a model with a masked-LM head.
      pieces: of its vocabulary.
      most: candidates of a hole, K.
      spare: most pieces that are alike, so that so many are looked at beyond K.
    """
    tokenizer = loaded.tokenizer
    assert tokenizer is not None
    config = dataclasses.replace(loaded.model, attention="auto", pair_classes=0, pooler=False, replaced_head=False)
    compute = choose_precision.resolve(config.compute, jax.default_backend(), loaded.trained_bits)
    model = PretrainingModel(config, compute)
    read = {name: part for name, part in loaded.params.items() if name not in ("pooler", "pair", "replaced")}
    params = jax.device_put(read)
    allowed = np.pad(pieces.allowed, (0, config.padded_vocab - len(pieces.allowed)))

    @jax.jit
    def likeliest(params: Any, rows: dict[str, Array]) -> Int[Array, "R P K"]:
        logits: Float[Array, "R P V"] = objective.logits_of(model.apply, params, rows, None)[0]
        return jax.lax.top_k(jnp.where(allowed[None, None], logits, -jnp.inf), most + spare)[1]

    def propose(holes: Sequence[tuple[Places, int, str]]) -> Int[np.ndarray, "N K"]:
        texts, at = zip(*(masked_words.hole(p, w, config.max_positions, tokenizer) for p, w, _ in holes), strict=True)
        own = np.array([masked_words.own_number(*hole, pieces) for hole in holes])
        encoded, at = features.of_tokens(texts), np.array(at)
        ids = np.zeros((len(holes), most + spare), np.int32)
        for layout in batches.evaluation_batches(encoded, _ROW, True, 1, Head(), tokenizer.pad_id, _SLOTS):
            used = layout.windows >= 0
            rows = {name: layout.batch[name] for name in ("segments", "positions", "token_types", "cls")}
            rows["inputs"] = layout.batch["tokens"]
            rows["predict_positions"] = np.where(used, rows["cls"] + at[layout.windows], 0).astype(np.int32)
            ids[layout.windows[used]] = np.asarray(likeliest(params, rows))[used]
        others = np.argsort(pieces.alike[ids] == own[:, None], axis=1, kind="stable")[:, :most]
        return np.take_along_axis(ids, others, axis=1)

    return propose
