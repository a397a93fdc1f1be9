"""Which tokens the masked language model has to predict, chosen inside the jitted step with static shapes.

The rule, for each window of a row by itself:

1. A *word* is a start token and what follows it up to the next start. Special tokens and padding belong to no word.
   A *run* is an unbroken stretch of words in one part (A or B) of one window; special tokens end it, [SEP] among them.
2. Every run is tiled from its left end with spans of whole words, whose lengths are drawn with p(n) proportional to
   1/n. The last span of a run may come out shorter. Under `word` a span is one word, under `token` one token.
3. The spans get random priorities. The words of the window are walked in the order of their spans' priorities, and in
   text order inside a span. A word is taken if it still fits the budget, and passed over if not.
4. The budget is `max(1, round(rate * real tokens of the window))`, special tokens counted. It is used up exactly
   unless no word that is left fits the remainder. If not even one word fits the whole budget, the first word of the
   walk is cut: as many of its tokens as the budget allows are taken, so that every window is predicted from.
5. Each chosen token becomes [MASK], a random ordinary piece, or stays, by a draw of its own.

The published algorithm tries random start words and skips those that overlap; it cuts a span that does not fit to
fewer words, and rule 3 does the same. Tiling leaves nothing to overlap, so the walk is a sort and a running sum, and
only the last few tokens of the budget need a loop. Here spans never cross [SEP], the random pieces are
never special, and a window with one long word is not left without predictions: the release differs in all three.

Source: Lan et al. 2020 (arXiv 1909.11942), section 4.1; google-research/albert:create_pretraining_data.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from bertlite_jax.config.batch import prediction_slots
from bertlite_jax.config.pretrain import Mask

PRIORITY_BITS = 15
"""Room for the rest in a 32-bit sort key: 8192 tokens in a row and 15 windows."""


class Masked(NamedTuple):
    """A batch with its predictions."""

    inputs: Int[Array, "B L"]
    """The tokens that the model sees."""
    positions: Int[Array, "B K"]
    """What is predicted, ascending; 0 in unused slots."""
    labels: Int[Array, "B K"]
    """The tokens that stood there; 0 in unused slots."""
    weights: Float[Array, "B K"]
    """1 for a prediction, 0 for an unused slot."""
    replaced: Bool[Array, "B K"]
    """Whether the model sees [MASK] there."""


class Draws(NamedTuple):
    """All the randomness of a row. Everything else is a function of these and of the batch."""

    priority: Array
    """[L] uint32 below 2**PRIORITY_BITS: read at the first token of a span; low goes first, equals in text order."""
    span_words: Int[Array, " L"]
    """In 1..max_ngram: the j-th span of a run has the length that stands at the run's j-th word."""
    share: Float[Array, " L"]
    """In [0, 1): below `mask_share` [MASK], below `mask_share + random_share` a random piece."""
    substitute: Int[Array, " L"]
    """That random piece, never a special one."""


def mask_batch(
    key: Key[Array, ""],
    batch: Mapping[str, ArrayLike],
    config: Mask,
    slots: int,
    vocab_size: int,
    special_ids: tuple[int, ...],
    mask_id: int,
    budgets: Int[Array, " sizes"] | None = None,
) -> Masked:
    """Chooses and hides tokens by the rule at the top of this file.

    A row's result depends on `key`, the row's number and the row alone: not on the rows beside it, the devices or the
    number of micro-batches.

    Args:
      key: typed PRNG key into which the caller has folded the step.
      batch: `rows`, `tokens`, `segments`, `token_types` and `word_starts` of `config.batch.BATCH`, and `cls`, of which
        only the width P is used.
      config: scheme, rates and shares.
      slots: K, at least ceil(largest rate * L) + P: no row can need more.
      vocab_size: V without padding rows. Random pieces lie below it.
      special_ids: never masked, never a random piece, and the end of a word.
      mask_id: the id of [MASK].
      budgets: as of `budget_table`, of the rate at hand; None: those of `config.rate`.

    Raises:
      ValueError: too few slots.
    """
    length, windows = jnp.shape(batch["tokens"])[1], jnp.shape(batch["cls"])[1]
    rate = config.rate if budgets is None else config.largest_rate
    needed = min(length, prediction_slots(rate, length, windows))
    if slots < needed:
        raise ValueError(f"{slots} slots are too few for {windows} windows in {length} tokens at {rate}: {needed}")

    def row(number, tokens, segments, token_types, word_starts):
        draws = draw(jax.random.fold_in(key, number), length, config, vocab_size, special_ids)
        chosen = choose(draws, tokens, segments, token_types, word_starts, config, windows, special_ids, budgets)
        return hide(draws, tokens, chosen, config, slots, mask_id)

    names = ("rows", "tokens", "segments", "token_types", "word_starts")
    return jax.vmap(row)(*(jnp.asarray(batch[name], jnp.int32) for name in names))


def mask_for_evaluation(
    batch: Mapping[str, ArrayLike], rate: float, slots: int, mask_id: int, special_ids: tuple[int, ...], seed: int
) -> Masked:
    """The one masking that losses are compared under: single tokens, every one of them replaced by [MASK].

    It depends on `seed` and the row's number only, so it is the same at every step, for every training scheme and on
    every mesh.

    Args:
      batch: as for `mask_batch`; `rows` are numbers in the evaluation set.
      rate: share of each window's real tokens.
      slots: K.
      mask_id: the id of [MASK].
      special_ids: never masked.
      seed: of the choice.

    Examples:
      One window of ten tokens in a row of twelve; 0 to 4 are the special pieces, 4 is [MASK].

      >>> import numpy as np
      >>> from bertlite_jax.train.pretraining.masking import mask_for_evaluation
      >>> tokens = np.array([[2, 10, 11, 12, 13, 14, 15, 16, 17, 3, 0, 0]])
      >>> window = (tokens > 0).astype(np.int32)
      >>> batch = {"rows": np.array([0]), "tokens": tokens, "segments": window, "token_types": 0 * window}
      >>> batch |= {"word_starts": window, "cls": np.array([[0]])}
      >>> masked = mask_for_evaluation(batch, 0.2, slots=4, mask_id=4, special_ids=(0, 1, 2, 3, 4), seed=0)
      >>> masked.weights.tolist()
      [[1.0, 1.0, 0.0, 0.0]]
      >>> bool((masked.inputs[0, masked.positions[0, :2]] == 4).all())
      True
      >>> bool((masked.labels[0, :2] == tokens[0, masked.positions[0, :2]]).all())
      True
    """
    config = Mask(scheme="token", rate=rate, mask_share=1.0, random_share=0.0)
    # No random piece is ever used, so any vocabulary with one ordinary piece will do.
    vocab_size = max(special_ids) + 2
    return mask_batch(jax.random.key(seed), batch, config, slots, vocab_size, special_ids, mask_id)


def draw(key: Key[Array, ""], length: int, config: Mask, vocab_size: int, special_ids: tuple[int, ...]) -> Draws:
    """The randomness of one row of `length` tokens."""
    bits = jax.random.bits(key, (4, length))
    uniform = (bits[1:3] >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    # p(n) = (1/n) / (1 + 1/2 + ... + 1/N): n is one more than the number of inner boundaries passed.
    chances = 1.0 / np.arange(1, config.max_ngram + 1)
    boundaries = (np.cumsum(chances) / np.sum(chances))[:-1].astype(np.float32)
    span_words = 1 + jnp.sum(uniform[0][:, None] >= boundaries[None], axis=1, dtype=jnp.int32)
    special = sorted({i for i in special_ids if i < vocab_size})
    substitute = (bits[3] % np.uint32(vocab_size - len(special))).astype(jnp.int32)
    for taken in special:  # the n-th ordinary piece is n plus the special ones at or before it
        substitute += (substitute >= taken).astype(jnp.int32)
    return Draws(bits[0] >> (32 - PRIORITY_BITS), span_words, uniform[1], substitute)


def choose(
    draws: Draws,
    tokens: Int[Array, " L"],
    segments: Int[Array, " L"],
    token_types: Int[Array, " L"],
    word_starts: Int[Array, " L"],
    config: Mask,
    windows: int,
    special_ids: tuple[int, ...],
    budgets: Int[Array, " sizes"] | None = None,
) -> Bool[Array, " L"]:
    """Rules 1 to 4 for one row: which of its tokens are predicted.

    Args:
      draws: of the row.
      tokens: ids.
      segments: 1 to P, 0 for padding.
      token_types: 0 in A, 1 in B.
      word_starts: 1 where a word begins.
      config: scheme, rate and longest span.
      windows: P, how many windows a row has room for.
      special_ids: never masked, and the end of a word.
      budgets: as for `mask_batch`.
    """
    ordinary = ordinary_tokens(tokens, segments, special_ids)
    joined = ordinary[1:] & ordinary[:-1] & (segments[1:] == segments[:-1]) & (token_types[1:] == token_types[:-1])
    run_starts = ordinary & ~jnp.concatenate([jnp.zeros(1, bool), joined])
    starts = ordinary if config.scheme == "token" else ordinary & (run_starts | (word_starts > 0))
    tiled = config.scheme == "ngram" and config.max_ngram > 1
    span_starts = _tile(starts, run_starts, draws.span_words) if tiled else starts
    table = jnp.asarray(budget_table(config.rate, len(segments))) if budgets is None else budgets
    return _walk(draws.priority, ordinary, starts, span_starts, segments, table, windows)


def ordinary_tokens(
    tokens: Int[Array, " L"], segments: Int[Array, " L"], special_ids: tuple[int, ...]
) -> Bool[Array, " L"]:
    """Which tokens of a row are neither special nor padding."""
    return (segments > 0) & ~jnp.any(tokens[:, None] == np.asarray(special_ids, np.int32)[None], axis=1)


def budget_table(rate: float, length: int) -> Int[np.ndarray, " sizes"]:
    """Rule 4: the predictions of a window by its real tokens, 0 to `length`. round() is Python's, as in the release.

    Examples:
      Of 512 tokens 77 are predicted, as in the ALBERT release; of 3 there is still 1.

      >>> from bertlite_jax.train.pretraining.masking import budget_table
      >>> table = budget_table(0.15, 512)
      >>> int(table[512]), int(table[3])
      (77, 1)
    """
    return np.array([max(1, round(rate * size)) for size in range(length + 1)], np.int32)


def _last(marks: Bool[Array, " L"]) -> Int[Array, " L"]:
    """For each place the nearest mark at or before it, 0 where there is none."""
    return jax.lax.cummax(jnp.where(marks, jnp.arange(len(marks)), 0))


def _tile(starts: Bool[Array, " L"], run_starts: Bool[Array, " L"], span_words: Int[Array, " L"]) -> Bool[Array, " L"]:
    """Rule 2: the words with which a span begins.

    The spans of a run are laid end to end, so span j + 1 begins at the sum of the first j lengths. There are more
    lengths than the run has words for; a beginning beyond the run's end falls into a later run and is told apart by its
    run's number.
    """
    word = jnp.cumsum(starts) - 1  # [L] number of the word that a token belongs to
    run = jnp.cumsum(run_starts)  # [L] number of the run, from 1
    steps = jnp.where(starts, span_words, 0)
    laid = jnp.cumsum(steps)
    run_first = _last(run_starts)
    following = word[run_first] + laid - (laid - steps)[run_first]  # [L] word with which the next span begins
    begun = jnp.zeros_like(run).at[jnp.where(starts, following, len(run))].max(run, mode="drop")
    return starts & (run_starts | (begun[word] == run))


def _walk(
    priority: UInt32[Array, " L"],
    ordinary: Bool[Array, " L"],
    starts: Bool[Array, " L"],
    span_starts: Bool[Array, " L"],
    segments: Int[Array, " L"],
    table: Int[Array, " sizes"],
    windows: int,
) -> Bool[Array, " L"]:
    """Rules 3 and 4: what is predicted. A word is known by its first token; sizes and budgets are counted in tokens."""
    length = len(segments)
    place = jnp.arange(length)
    word_first = _last(starts)
    sizes = jnp.zeros(length, jnp.int32).at[word_first].add(ordinary.astype(jnp.int32))

    members = segments[None] == jnp.arange(1, windows + 1)[:, None]  # [P, L]
    budgets = table[jnp.sum(members, axis=1)]  # [P]

    # One number a word sorts them into the walk: window, priority, place. Sorting single numbers is several times
    # faster than sorting tuples. What is no word comes last, in a window that does not exist.
    place_bits, window_bits = (length - 1).bit_length(), windows.bit_length()
    if place_bits + window_bits + PRIORITY_BITS > 32:
        raise ValueError(f"{windows} windows in a row of {length} tokens are too many to be sorted")
    window = jnp.where(starts, segments - 1, windows).astype(jnp.uint32)
    walk = (window << PRIORITY_BITS | priority[_last(span_starts)]) << place_bits | place.astype(jnp.uint32)
    walk = jnp.sort(walk)
    walk_place = (walk & np.uint32(2**place_bits - 1)).astype(jnp.int32)
    walk_window = (walk >> (place_bits + PRIORITY_BITS)).astype(jnp.int32)
    walk_sizes = jnp.where(walk_window < windows, sizes[walk_place], 0)
    walk_members = walk_window[None] == jnp.arange(windows)[:, None]  # [P, L]

    def left(taken: Array) -> Array:  # [L] bool in the order of the walk -> [P] tokens
        return budgets - jnp.sum(jnp.where(walk_members & taken[None], walk_sizes[None], 0), axis=1)

    def fitting(taken: Array) -> Array:
        return ~taken & (walk_sizes > 0) & (walk_sizes <= left(taken)[walk_window])

    def take_next(taken: Array) -> Array:
        fits = fitting(taken)
        # A window in which nothing fits points at place 0: that is taken only if it fits, and then it is next anyway.
        first = jnp.argmax(walk_members & fits[None], axis=1)
        return taken.at[first].max(fits[first])

    # As long as every word fits, the walk is a prefix. After that less than one word is left to give away.
    begins = ~jnp.concatenate([jnp.zeros(1, bool), walk_window[1:] == walk_window[:-1]])
    total = jnp.cumsum(walk_sizes)
    total -= (total - walk_sizes)[_last(begins)]
    taken = (walk_sizes > 0) & (total <= budgets[walk_window])
    taken = jax.lax.while_loop(lambda taken: jnp.any(fitting(taken)), take_next, taken)
    cut = begins & (left(taken) == budgets)[walk_window]
    allowed = jnp.where(taken, walk_sizes, jnp.where(cut, budgets[walk_window], 0))
    allowed = jnp.zeros(length, jnp.int32).at[walk_place].set(allowed)
    return ordinary & (place - word_first < allowed[word_first])


def hide(
    draws: Draws, tokens: Int[Array, " L"], chosen: Bool[Array, " L"], config: Mask, slots: int, mask_id: int
) -> Masked:
    """Rule 5 and the slots of one row.

    Args:
      draws: of the row.
      tokens: ids.
      chosen: what is predicted, at most `slots` tokens.
      config: shares of [MASK] and of random pieces.
      slots: K.
      mask_id: the id of [MASK].

    Returns:
      `Masked` without the batch axis.
    """
    masked = chosen & (draws.share < config.mask_share)
    random = chosen & (draws.share < config.mask_share + config.random_share)
    inputs = jnp.where(masked, mask_id, jnp.where(random, draws.substitute, tokens))
    count = jnp.cumsum(chosen)
    used = jnp.arange(slots) < count[-1]
    places = jnp.arange(len(tokens), dtype=jnp.int32)
    positions = jnp.zeros(slots, jnp.int32).at[jnp.where(chosen, count - 1, slots)].set(places, mode="drop")
    labels = jnp.where(used, tokens[positions], 0)
    return Masked(inputs, positions, labels, used.astype(jnp.float32), used & masked[positions])
