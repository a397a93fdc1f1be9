"""`bertlite embed`: vectors of texts, one per text or per token, in the order of the texts.

Texts are read in chunks, so memory does not grow with the file; short texts share a row, which saves padding.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert import adoption
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Sentence, Weights, sentence_length
from bertlite_jax.data.examples import batches, features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host.places import refuse_to_replace
from bertlite_jax.jobs.answering import vector_files
from bertlite_jax.jobs.answering.inputs import Notes, check_batch, counts_in_words, place_of, read
from bertlite_jax.model import pooling
from bertlite_jax.model.encoder import Encoder
from bertlite_jax.model.heads import gather_rows
from bertlite_jax.model.ops import choose_precision

Pool = Literal["auto", "mean", "cls", "tokens"]

ENCODER = ("embeddings", "projection", "layers", "final_norm")
"""Names of the encoder's parameters."""
TEXTS = Head(labels=("none",))
"""Head for encoding texts without labels."""

_SLOTS = 8192
_SLOTS_OF_LAYERS = 2048
_MOST_WITH_TOKENS = 64
_SHORTEST_ROW = 128


class Layers(NamedTuple):
    """The layers whose states are used: 0 is the projected embeddings, n the output of the nth layer."""

    numbers: tuple[int, ...]
    mean: bool
    """Whether their mean is used; otherwise they are concatenated."""


class Vectors(NamedTuple):
    """The vectors of one chunk of texts."""

    ids: list[str]
    values: list[np.ndarray]
    """[D] each, or [tokens, D]."""
    tokens: list[np.ndarray]
    """The token ids of each text, special tokens included."""


def embed(
    run: str,
    inputs: str,
    out: str,
    pool: Pool = "auto",
    layers: str = "last",
    normalize: bool = False,
    length: int = 0,
    batch: int = 512,
    compute: Literal["auto", "float32", "bfloat16"] = "auto",
    overwrite: bool = False,
    columns: OwnOptions | None = None,
) -> dict[str, int]:
    r"""Writes the vectors of texts.

    The file is written whole or not at all: if a line cannot be read, there is no file.

    Args:
      run: anything that `adoption.open_weights` opens: a run of pretraining or fine-tuning, a folder of transformers
        or sentence-transformers, a folder that `bertlite convert` wrote.
      inputs: a file with one text or JSON object `{"text"[, "pair"][, "id"]}` a line, or any that `inputs.read` reads;
        `-` for standard input.
      out: `*.npy` ([texts, D] float32; for tokens [all tokens, D], with the file `vector_files.tokens_beside`),
        `*.jsonl`, or `-` for JSON lines on standard output.
      pool: "mean" over a text's tokens, "cls" for the state of [CLS], or "tokens" for every token's state, with special
        tokens in all of them; "auto": as a folder of sentence-transformers states, including unit length, and the mean
        for other sources.
      layers: see `parse_layers`.
      normalize: divide each vector by its L2 norm.
      length: most tokens in a text, special tokens included; 0: as a folder of sentence-transformers states, else all
        positions of the model.
      batch: lines that are read and encoded together; for tokens at most 64.
      compute: precision of the products, as for training.
      overwrite: replace an existing file.
      columns: names of the input's columns; None: the usual ones.

    Returns:
      Counts: `examples`, `tokens`, `truncated`, `empty_texts`; also printed on standard error.

    Raises:
      UserError: `run` has no weights or no tokenizer, a setting does not fit the model, a line cannot be read, a vector
        is not finite, or the file exists.

    Examples:
      After `bertlite quickstart`. Vectors of length 1, whose product is the cosine.

      >>> import pathlib
      >>> import numpy as np
      >>> from bertlite_jax.jobs.answering.embed import embed
      >>> pathlib.Path("texts.txt").write_text("the king and the queen\nthe queen and the king\n")
      46
      >>> counts = embed("runs/quickstart", "texts.txt", "vectors.npy", normalize=True)
      >>> vectors = np.load("vectors.npy")
      >>> counts["examples"], len(vectors)
      (2, 2)
      >>> bool(0.9 < vectors[0] @ vectors[1] < 1)
      True
    """
    check_batch(batch, "embed")
    vector_files.check(out, overwrite, pool == "tokens")
    if "-" not in (inputs, out):
        refuse_to_replace("embed", inputs, out)
    batch = min(batch, _MOST_WITH_TOKENS) if pool == "tokens" else batch
    totals: dict[str, int] = {}
    with adoption.open_weights(run, "embed") as loaded:
        encode, width, length = open_encoder(loaded, run, pool, layers, normalize, length, compute)
        assert loaded.tokenizer is not None
        opened = vector_files.opened(out, pool == "tokens", width, loaded.tokenizer.pieces, overwrite)
        notes = Notes()
        examples = read(inputs, TEXTS, columns, notes, job="embed", labelled=False, said=columns)
        with opened as write:
            while chunk := list(itertools.islice(examples, batch)):
                vectors, counts = encode(chunk)
                _check_finite(vectors, run)
                write(vectors.ids, vectors.values, vectors.tokens)
                totals = {name: totals.get(name, 0) + counts[name] for name in counts}
            if not totals:
                raise UserError(f"embed: {place_of(inputs)} has no text")
    all_read = f"{totals['examples']:,} texts, {totals['tokens']:,} tokens"
    print(f"embed: {', '.join([all_read, *counts_in_words(totals, length), *notes.lines(())])}", file=sys.stderr)
    return {name: totals[name] for name in ("examples", "tokens", "truncated", "empty_texts")}


def _check_finite(vectors: Vectors, run: str) -> None:
    """Raises UserError for a vector that is NaN or infinite: the weights are, or they overflow."""
    for name, values in zip(vectors.ids, vectors.values, strict=True):
        if not np.isfinite(values).all():
            raise UserError(
                f"embed: the vector of text {name} is not finite (NaN or infinite), so the weights of {run} cannot be "
                "right, or overflow; try --compute float32"
            )


def parse_layers(text: str, num_layers: int) -> Layers:
    """Parses `--layers`.

    `last`; numbers such as `3` or `-4,-3,-2,-1`, concatenated, negative ones from the end; `mean`, of layers 1 to the
    last; `mean:-2,-1`.

    Raises:
      UserError: the text has another form, or names a layer that the model does not have.
    """
    if text == "last":
        return Layers((num_layers,), False)
    if text == "mean":
        return Layers(tuple(range(1, num_layers + 1)), True)
    mean = text.startswith("mean:")
    try:
        numbers = [int(part) for part in text.removeprefix("mean:").split(",")]
    except ValueError:
        raise UserError(f"embed: --layers {text} should be last, mean, mean:1,2 or numbers such as 0,3") from None
    for number in numbers:
        if not -num_layers - 1 <= number <= num_layers:
            raise UserError(f"embed: --layers {text}: the model has 0 (the embeddings) to {num_layers}, not {number}")
    return Layers(tuple(number % (num_layers + 1) for number in numbers), mean)


# --- The encoder -----------------------------------------------------------------------------------------------------

Encode = Callable[[Sequence[Example]], tuple[Vectors, dict[str, int]]]
"""(examples) -> their vectors, and `features.Encoded.counts`."""


def open_encoder(
    loaded: Weights,
    run: str,
    pool: Pool,
    layers: str = "last",
    normalize: bool = False,
    length: int = 0,
    compute: Literal["auto", "float32", "bfloat16"] = "auto",
) -> tuple[Encode, int, int]:
    """Opens an encoder. Arguments as for `embed`; `loaded` are the weights at `run`.

    Returns:
      The function that makes vectors of examples, their width D, and the most tokens in a text.
    """
    tokenizer, model = loaded.tokenizer, loaded.model
    if tokenizer is None:
        raise UserError(f"embed: {run} comes without a tokenizer, and text cannot be read without one")
    if length and not 3 <= length <= model.max_positions:
        raise UserError(f"embed: --length {length} must be 3 to {model.max_positions}, the positions of {run}")
    length = length or sentence_length(loaded)
    chosen = parse_layers(layers, model.num_layers)
    if pool == "auto":
        stated = loaded.sentence or Sentence(normalize=False)
        if stated.unheld:
            raise UserError(f"embed: {run}: {stated.unheld}; choose another --pool")
        pool, normalize = stated.pooling, normalize or stated.normalize
    forward = make_forward(loaded, pool, chosen, normalize, compute)
    slots = _SLOTS if len(chosen.numbers) == 1 else _SLOTS_OF_LAYERS

    def encode(examples: Sequence[Example]) -> tuple[Vectors, dict[str, int]]:
        encoded = features.encode(examples, tokenizer, TEXTS, length, run)
        values: list[Any] = [None] * len(examples)
        for layout in layouts(encoded, tokenizer, slots):
            vectors = np.asarray(jax.device_get(forward(layout.batch)))
            for row, column in np.argwhere(layout.windows >= 0).tolist():
                window, start = int(layout.windows[row, column]), int(layout.batch["cls"][row, column])
                positions = slice(start, start + int(encoded.sizes[window])) if pool == "tokens" else column
                values[window] = vectors[row, positions]
        tokens = np.split(encoded.tokens, encoded.offsets[1:-1])
        return Vectors([example.id for example in examples], values, tokens), encoded.counts

    return encode, model.hidden_size * (1 if chosen.mean else len(chosen.numbers)), length


def make_forward(
    loaded: Weights,
    pool: Pool,
    layers: Layers,
    normalize: bool,
    compute: Literal["auto", "float32", "bfloat16"],
) -> Callable[[dict[str, np.ndarray]], jax.Array]:
    """Returns a function from the rows of a `batches.Layout` to vectors [R, P, D], or [R, L, D] for tokens, float32."""
    if compute != "auto":
        loaded = quantized.as_trained(loaded)
    # The encoder's own attention may not work here: cuDNN's needs a GPU.
    shape = dataclasses.replace(loaded.model, attention="auto")
    chosen = choose_precision.resolve(compute, jax.default_backend(), loaded.trained_bits)
    model = Encoder(shape, chosen, decodes="mlm" in loaded.params)
    padded = parameters.pad_vocabulary(loaded.params, loaded.model)
    params = jax.device_put({name: part for name, part in padded.items() if name in ENCODER})

    @jax.jit
    def forward(params: Any, rows: dict[str, jax.Array]) -> jax.Array:
        states = _states(model, params, rows, layers)
        if pool == "mean":
            states = pooling.mean_of_windows(states, rows["segments"], rows["cls"].shape[1])
        elif pool == "cls":
            states = gather_rows(states, rows["cls"])
        return pooling.unit_length(states) if normalize else states

    needed = ("tokens", "segments", "positions", "token_types", "cls")
    return lambda batch: forward(params, {name: batch[name] for name in needed})


def _states(model: Encoder, params: Any, rows: dict[str, jax.Array], layers: Layers) -> jax.Array:
    """The states of the layers: [R, L, D] float32; D is a multiple of the model's if layers are concatenated."""
    tokens, segments, positions, types = (rows[name] for name in ("tokens", "segments", "positions", "token_types"))
    variables = {"params": params}
    if len(layers.numbers) == 1:
        x = model.apply(variables, tokens, positions, types, None, method="embed")
        x = model.apply(variables, x, segments, None, 0, layers.numbers[0], method="apply_layers")
        return jnp.asarray(x, jnp.float32)
    every = model.apply(variables, tokens, segments, positions, types, method="hidden_states")
    chosen = [jnp.asarray(every[number], jnp.float32) for number in layers.numbers]
    return sum(chosen[1:], chosen[0]) / len(chosen) if layers.mean else jnp.concatenate(chosen, axis=-1)


def layouts(encoded: features.Encoded, tokenizer: Tokenizer, slots: int) -> Iterator[batches.Layout]:
    """Yields rows of 128, 256, 512.. tokens. Each text goes into the shortest rows that hold it, several to a row.

    So there are few shapes, and thus few programs to compile, and short texts are not padded to long ones.
    """
    sizes = encoded.sizes
    length, before = _SHORTEST_ROW, 0
    while before < sizes.max():
        fitting = np.flatnonzero((sizes > before) & (sizes <= length))
        rows = [fitting[row].tolist() for row in batches.fit(sizes[fitting], length)]
        count = min(_power(len(rows)), max(1, slots // length))
        shape = batches.Shape(count, length, _power(max(map(len, rows), default=1)))
        for first in range(0, len(rows), count):
            yield batches.lay_out(encoded, rows[first : first + count], shape, TEXTS, tokenizer.pad_id)
        length, before = 2 * length, length


def _power(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()
