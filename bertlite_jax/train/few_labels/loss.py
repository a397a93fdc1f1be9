"""The loss of a recipe with `learn`: the parts of labelled rows, of unlabelled rows and of domains, added up.

Every part is a sum over this device's rows divided by a weight of the global batch, so micro-batches and devices add
up; only partners (mixtures, peer loss) are drawn among the rows of one micro-batch on one device.

Letters: B rows, L tokens, P windows a row, C labels, D hidden, E embedding, K domains. Rows hold what
`jobs/finetuning/few_labels/few_label_batches.py` adds to them:

    progress         [B] float32, the step's share of the run
    teacher          [B, P, C] float32, a teacher's logits; [B, L, C] for tags and spans
    teacher_known    [B, L] float32, for tags: 1 at the first pieces of words that the teacher answered
    ensemble         [B, P, C] float32, average of earlier predictions; ensemble_weight [B, P] float32
    slot             [B, P] int32, place in the batch's list of predictions; as many as there are slots: none
    domain           [B, P] int32, number of the window's domain; -1: no window
    unlabelled/..    the same of rows without labels, which have `changed` [B, P] int32 too: 1 where a window is the
                     augmentation of the one before it; their weights are 1 for each text's first window, and for tags
                     `teacher_known`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.model import Head, Model
from bertlite_jax.train import losses
from bertlite_jax.train.few_labels import adversarial, consistency, domains, label_noise, mixing, teaching
from bertlite_jax.train.step import Batch, Loss, Prepare, row_keys
from bertlite_jax.train.tasks import span_loss, task_loss

UNLABELLED = "unlabelled/"
MIXTURE_KEY, _PEERS, _UNLABELLED, GUESSES_KEY = ((1 << 21) + number for number in range(4))
"""Where their randomness is drawn, apart from the places of dropout."""

Private = Callable[..., Float[Array, "B P D"]]
"""(one domain's parameters, embedded [B, L, D], segments, cls, dropout keys) -> states of the windows."""


def make_prepare() -> Prepare:
    """Counts what the parts divide by; the rows need no preparation."""
    counted = task_loss.make_prepare()

    def prepare(key: Key[Array, ""], batch: Batch, updates: Int[Array, ""]) -> tuple[Batch, dict[str, Array]]:
        batch, weights = counted(key, batch, updates)
        if UNLABELLED + "weights" in batch:
            weights["unlabelled"] = jnp.sum(batch[UNLABELLED + "weights"])
        if "domain" in batch:
            weights["windows"] = jnp.sum(batch["domain"] >= 0).astype(jnp.float32)
        return batch, weights

    return prepare


def make_loss(
    apply: task_loss.Apply,
    head: Head,
    model: Model,
    learn: Learn,
    slots: tuple[int, int] = (0, 0),
    private: Private | None = None,
    class_weights: tuple[float, ...] = (),
) -> Loss:
    """The loss that a recipe's `learn` describes; with nothing switched on that of `task_loss` or `span_loss`.

    Args:
      apply: of the task model.
      head: what its logits mean.
      model: its encoder's shape.
      learn: what is switched on.
      slots: predictions that a batch reports, of labelled and unlabelled texts, for temporal ensembling.
      private: a domain's own encoder, where there are such.
      class_weights: of each label, if they are not all 1.
    """
    if learn == Learn():
        return (span_loss if head.kind == "span" else task_loss).make_loss(apply, head, model)
    drops = head.dropout > 0 or model.hidden_dropout > 0 or model.attention_dropout > 0
    supervised = _make_supervised(apply, head, learn, private, class_weights)

    def loss(
        params: Any, rows: Batch, weights: dict[str, Array], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        keys = row_keys(key, rows["rows"]) if drops else None
        labelled = {name: array for name, array in rows.items() if not name.startswith(UNLABELLED)}
        drawn = jax.random.fold_in(key, rows["rows"][0])
        total, (logits, pooled, correct) = supervised(params, labelled, keys, drawn, None)
        if learn.fgm:
            total = total + _adversarial(supervised, params, labelled, keys, drawn, model.embed_size, learn.fgm)
        total = total / jnp.maximum(weights["weight"], 1.0)
        sums = {"correct": correct, "label_loss": total}
        if "teacher" in labelled:  # To be looked at; the total has it already.
            taught = teaching.sum_of(head, logits, labelled, learn.temperature)
            sums["distance_loss"] = jax.lax.stop_gradient(taught) / jnp.maximum(weights["weight"], 1.0)
        if "ensemble" in labelled:
            total, sums = _with_ensemble(total, sums, logits, labelled, weights["weight"], slots[0], "")
        if pooled is not None and "domain" in labelled:
            value = _domain_loss(learn, params["domains"], pooled, labelled) / jnp.maximum(weights["windows"], 1.0)
            total, sums = total + value, sums | {"domain_loss": value}
        if UNLABELLED + "tokens" in rows:
            more = {name.removeprefix(UNLABELLED): a for name, a in rows.items() if name.startswith(UNLABELLED)}
            keys = row_keys(jax.random.fold_in(key, _UNLABELLED), more["rows"]) if drops else None
            logits, vectors = logits_of(apply, head, params, more, keys)
            values = _unlabelled(head, logits, more, learn, weights["unlabelled"])
            sums |= _share_of_sure(logits, more, learn, weights["unlabelled"])
            if learn.mix_guessed and pooled is not None and vectors is not None:
                both = (labelled, pooled), (more, vectors)
                value = _guessed_mixtures(apply, params, *both, logits, learn, keys, drawn)
                values["mixture_loss"] = learn.mix_guessed * value / jnp.maximum(2 * weights["unlabelled"], 1.0)
            total, sums = total + sum(values.values()), sums | values
            if "ensemble" in more:
                total, sums = _with_ensemble(total, sums, logits, more, weights["unlabelled"], slots[1], UNLABELLED)
        return total, sums

    return loss


# --- Labelled rows ---------------------------------------------------------------------------------------------------


Supervised = Callable[..., tuple[Array, tuple[Array, Array | None, Array]]]
"""(params, rows, dropout keys, key, shift of the word vectors) -> (sum of losses, (logits, pooled, sum of right))."""


def _make_supervised(
    apply: task_loss.Apply, head: Head, learn: Learn, private: Private | None, class_weights: tuple[float, ...]
) -> Supervised:
    def of_label(logits: Float[Array, "B P C"], labels: Int[Array, "B P"]) -> Float[Array, "B P"]:
        each = label_noise.each(learn, logits, labels)
        return each * jnp.array(class_weights, each.dtype)[labels] if class_weights else each

    sum_of_labels = span_loss.sum_of if head.kind == "span" else task_loss.sum_of

    def supervised(
        params: Any,
        rows: Batch,
        keys: Key[Array, " B"] | None,
        key: Key[Array, ""],
        shift: Float[Array, "B L E"] | None,
    ) -> tuple[Float[Array, ""], tuple[Float[Array, "B places C"], Float[Array, "B P D"] | None, Float[Array, ""]]]:
        chosen = _Mixture(learn, jax.random.fold_in(key, MIXTURE_KEY), rows) if learn.mix != "none" else None
        logits, pooled = logits_of(apply, head, params, rows, keys, shift, chosen, private)
        total, correct = sum_of_labels(head, logits, rows)
        if not (head.kind == "classify" and head.problem == "single_label"):
            if "teacher" in rows:
                taught = teaching.sum_of(head, logits, rows, learn.temperature)
                total = (1 - learn.teacher_weight) * total + learn.teacher_weight * taught
            return total, (logits, pooled, correct)
        each = of_label(logits, rows["labels"])
        if chosen is not None:
            each = chosen.of_both(each, of_label(logits, chosen.labels(rows["labels"])))
        if learn.annealing != "none":
            right = -label_noise.each(Learn(), logits, rows["labels"])
            progress = jnp.broadcast_to(rows["progress"][:, None], right.shape)
            each = each * consistency.released(right, logits.shape[-1], progress, learn.annealing)
        if learn.loss == "peer":
            partner = mixing.partners(jax.random.fold_in(key, _PEERS), rows["weights"].ravel() > 0)
            others = jnp.take(rows["labels"].ravel(), partner).reshape(rows["labels"].shape)
            each = each - learn.peer_alpha * label_noise.peer(logits, others)
        if "teacher" in rows:
            taught = losses.distilled(logits, rows["teacher"], learn.temperature)
            each = (1 - learn.teacher_weight) * each + learn.teacher_weight * taught
        return jnp.sum(each * rows["weights"]), (logits, pooled, correct)

    return supervised


def _adversarial(
    supervised: Supervised,
    params: Any,
    rows: Batch,
    keys: Key[Array, " B"] | None,
    key: Key[Array, ""],
    width: int,
    size: float,
) -> Float[Array, ""]:
    """The same loss with the words moved to where it grows fastest; parameters learn from it, the shift does not."""
    fixed = jax.lax.stop_gradient(params)

    def of_shift(shift: Float[Array, "B L E"]) -> Float[Array, ""]:
        return supervised(fixed, rows, keys, key, shift)[0]

    shift = adversarial.worst_shift(of_shift, rows["segments"], width, rows["cls"].shape[1], size)
    return supervised(params, rows, keys, key, shift)[0]


class _Mixture:
    """Which examples are mixed, and how: rows for `hidden`, windows for `pooled`."""

    def __init__(self, learn: Learn, key: Key[Array, ""], rows: Batch):
        self.layer = learn.mix_layer if learn.mix == "hidden" else None
        real = rows["weights"] > 0
        real = real[:, 0] if learn.mix == "hidden" else real.ravel()
        who, much = jax.random.split(key)
        self.partner = mixing.partners(who, real)
        self.share = mixing.shares(much, learn.mix_alpha, real.shape[0])

    def pooled(self, x: Float[Array, "B P D"]) -> Float[Array, "B P D"]:
        """The mixtures of pooled states."""
        return mixing.mix(x.reshape(-1, x.shape[-1]), self.partner, self.share).reshape(x.shape)

    def labels(self, labels: Int[Array, "B P"]) -> Int[Array, "B P"]:
        """Those of the partners; where rows are mixed they hold one window, the first."""
        if self.layer is not None:
            return jnp.take(labels, self.partner, axis=0)
        return jnp.take(labels.ravel(), self.partner).reshape(labels.shape)

    def of_both(self, own: Float[Array, "B P"], other: Float[Array, "B P"]) -> Float[Array, "B P"]:
        """Losses with the own and the partner's label, by shares."""
        share = self.share[:, None] if self.layer is not None else self.share.reshape(own.shape)
        return share * own + (1 - share) * other


def logits_of(
    apply: task_loss.Apply,
    head: Head,
    params: Any,
    rows: Batch,
    keys: Key[Array, " B"] | None,
    shift: Float[Array, "B L E"] | None = None,
    mixture: _Mixture | None = None,
    private: Private | None = None,
) -> tuple[Float[Array, "B places C"], Float[Array, "B P D"] | None]:
    """The task model in parts: its logits, and the pooled states before mixing (`classify` and `choose`; else None)."""
    variables, segments = {"params": params}, rows["segments"]
    x = apply(variables, rows["tokens"], rows["positions"], rows["token_types"], keys, shift, method="embed")
    embedded, first = x, 0
    if mixture is not None and mixture.layer is not None:
        first = mixture.layer
        if first:
            x = apply(variables, x, segments, keys, 0, first, method="apply_layers")
        x, segments = mixing.mix_rows(x, segments, mixture.partner, mixture.share)
    x = apply(variables, x, segments, keys, first, method="apply_layers")
    if not head.pooled:
        return apply(variables, x, keys, method="answer"), None
    pooled = apply(variables, x, rows["cls"], method="pooled")
    read = mixture.pooled(pooled) if mixture is not None and mixture.layer is None else pooled
    logits = apply(variables, read, keys, method="answer")
    if private is not None:
        own = domains.private_states(private, params["domains"], embedded, rows, keys)
        logits = logits + domains.private_logits(params["domains"], own)
    return logits, pooled


# --- Unlabelled rows, ensembles, domains -----------------------------------------------------------------------------


def _unlabelled(
    head: Head, logits: Float[Array, "B places C"], rows: Batch, learn: Learn, weight: Float[Array, ""]
) -> dict[str, Float[Array, ""]]:
    """Agreement of texts, whose logits these are, with their augmentations, and with a teacher."""
    values = {}
    if learn.consistency:
        flat = logits.reshape(-1, logits.shape[-1])
        # The original stands before its augmentation in the same row, so nothing crosses from row to row.
        each = consistency.divergence(jnp.roll(flat, 1, axis=0), flat, learn.sharpen, learn.confidence)
        sure = jnp.sum(each * rows["changed"].ravel().astype(each.dtype))
        values["consistency_loss"] = learn.consistency * sure / jnp.maximum(weight, 1.0)
    if "teacher" in rows:
        taught = learn.teacher_weight * teaching.sum_of(head, logits, rows, learn.temperature)
        values["teacher_loss"] = taught / jnp.maximum(weight, 1.0)
    return values


def _share_of_sure(
    logits: Float[Array, "B places C"], rows: Batch, learn: Learn, weight: Float[Array, ""]
) -> dict[str, Float[Array, ""]]:
    """The share of the unlabelled texts that consistency is learnt from."""
    if not learn.consistency:
        return {}
    flat = jax.lax.stop_gradient(logits.reshape(-1, logits.shape[-1]))
    sure = consistency.is_sure(jnp.roll(flat, 1, axis=0), learn.confidence)
    used = jnp.sum(sure.astype(flat.dtype) * rows["changed"].ravel().astype(flat.dtype))
    return {"consistency_share": used / jnp.maximum(weight, 1.0)}


def _guessed_mixtures(
    apply: task_loss.Apply,
    params: Any,
    labelled: tuple[Batch, Float[Array, "B P D"]],
    unlabelled: tuple[Batch, Float[Array, "U Q D"]],
    logits: Float[Array, "U Q C"],
    learn: Learn,
    keys: Key[Array, " U"] | None,
    key: Key[Array, ""],
) -> Float[Array, ""]:
    """MixText on pooled vectors: each unlabelled text and augmentation is mixed with any text of the batch.

    Args:
      apply: of the task model.
      params: its parameters.
      labelled: rows and their pooled vectors.
      unlabelled: U rows of Q windows and their pooled vectors.
      logits: of the unlabelled ones; labels are guessed from them.
      learn: how labels are sharpened and shares drawn.
      keys: of dropout in the unlabelled rows.
      key: of the draw of partners and shares.

    Returns:
      Sum of KL(mixed labels || prediction for the mixed vectors) over unlabelled texts and augmentations.

    Source: Chen et al. 2020 (arXiv 2004.12239), section 4.
    """
    (given, known), (rows, vectors) = labelled, unlabelled
    width, classes = vectors.shape[-1], logits.shape[-1]
    guesses = consistency.guess_labels(logits.reshape(-1, classes), rows["changed"].ravel(), learn.sharpen)
    labels = jax.nn.one_hot(given["labels"].ravel(), classes)
    real = jnp.concatenate(
        [given["weights"].ravel() > 0, (rows["weights"] > 0).ravel() | (rows["changed"] > 0).ravel()]
    )
    who, much = jax.random.split(jax.random.fold_in(key, GUESSES_KEY))
    partner, share = mixing.partners(who, real), mixing.shares(much, learn.mix_alpha, real.shape[0])

    def mixed(first: Array, second: Array) -> Array:
        return mixing.mix(jnp.concatenate([first, second]), partner, share)[labels.shape[0] :]

    x = mixed(known.reshape(-1, width), vectors.reshape(-1, width)).reshape(vectors.shape)
    log_p = jax.nn.log_softmax(apply({"params": params}, x, keys, method="answer")).reshape(-1, classes)
    target = mixed(labels, guesses)
    each = jnp.sum(jax.scipy.special.xlogy(target, target) - target * log_p, axis=-1)
    return jnp.sum(each * real[labels.shape[0] :].astype(each.dtype))


def _with_ensemble(
    total: Float[Array, ""],
    sums: dict[str, Array],
    logits: Float[Array, "B P C"],
    rows: Batch,
    weight: Float[Array, ""],
    slots: int,
    prefix: str,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Adds the disagreement with earlier epochs, and reports this step's predictions, [slots, C]."""
    each = consistency.squared(logits, rows["ensemble"])
    value = jnp.sum(each * rows["ensemble_weight"]) / jnp.maximum(weight, 1.0)
    predictions = jnp.zeros((slots, logits.shape[-1])) + 0 * jnp.sum(logits)  # varies over devices as logits do
    predictions = predictions.at[rows["slot"]].add(jax.lax.stop_gradient(jax.nn.softmax(logits)), mode="drop")
    return total + value, sums | {prefix + "ensemble_loss": value, prefix + "predictions": predictions}


def _domain_loss(learn: Learn, params: Any, pooled: Float[Array, "B P D"], rows: Batch) -> Float[Array, ""]:
    """Sum over windows of the domain classifier's cross-entropy, behind the reversal."""
    strength = learn.domain_weight * domains.strength(rows["progress"])
    logits = domains.tell_apart(params, domains.reverse(pooled, strength[:, None, None]))
    each = label_noise.each(Learn(), logits, jnp.maximum(rows["domain"], 0))
    return jnp.sum(each * (rows["domain"] >= 0).astype(each.dtype))
