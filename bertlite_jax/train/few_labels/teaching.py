"""How far a task model is from its teacher, for every kind of task. Labels play no part in it.

Letters: B rows, L tokens, P windows a row, C outputs. A teacher's outputs are an entry `teacher` of the rows, like the
logits that they are compared with; t are its logits, z the student's, T the temperature:

    one label       T^2 KL(softmax(t / T) || softmax(z / T))
    several labels  the mean over labels of T^2 KL(Bernoulli(sigmoid(t / T)) || Bernoulli(sigmoid(z / T)))
    numbers         the mean over numbers of (z - t)^2
    choices         as for one label, over the choices of an example
    tags            as for one label, for each word that both have answered
    spans           1/2 (start + end), each as for one label, over the tokens of a window

Sources: Hinton et al. 2015 (arXiv 1503.02531), section 2, for the temperature; Jiao et al. 2020 (arXiv 1909.10351),
section 3.1, for logits of one label and the squared error of numbers.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bertlite_jax.config.model import Head
from bertlite_jax.train import losses
from bertlite_jax.train.step import Batch
from bertlite_jax.train.tasks import span_loss, task_loss


def sum_of(head: Head, logits: Float[Array, "B places C"], rows: Batch, temperature: float) -> Float[Array, ""]:
    """The weighted sum of the distances of all examples; for tags of all words.

    Args:
      head: of the student.
      logits: for each window, or for each token where the head tags or asks for spans.
      rows: `weights` as for the task's loss, `teacher` like the logits; for tags `teacher_known` [B, L], 1 where the
        teacher answered; for choices `choices` [B, P].
      temperature: T; numbers have none.
    """
    teacher, weights = rows["teacher"], rows["weights"]
    if head.kind == "choose":
        return choices(logits[..., 0], teacher[..., 0], rows["choices"], temperature)
    if head.kind == "span":
        return jnp.sum(spans(logits, teacher, rows["segments"], weights.shape[1], temperature) * weights)
    if head.problem == "multi_label":
        return jnp.sum(several(logits, teacher, temperature) * weights)
    if head.problem == "regression":
        return jnp.sum(numbers(logits, teacher) * weights)
    each = losses.distilled(logits, teacher, temperature)
    return jnp.sum(each * weights * rows["teacher_known"] if head.kind == "tag" else each * weights)


def several(logits: Float[Array, "B P C"], teacher: Float[Array, "B P C"], temperature: float) -> Float[Array, "B P"]:
    """The mean over independent labels of T^2 KL between the two distributions of yes and no.

    The gradient of a logit is T (sigmoid(z / T) - sigmoid(t / T)) / C.
    """
    t, z = jax.lax.stop_gradient(teacher) / temperature, logits / temperature
    yes = jax.nn.sigmoid(t) * (jax.nn.log_sigmoid(t) - jax.nn.log_sigmoid(z))
    no = jax.nn.sigmoid(-t) * (jax.nn.log_sigmoid(-t) - jax.nn.log_sigmoid(-z))
    return temperature**2 * jnp.mean(yes + no, axis=-1)


def numbers(values: Float[Array, "B P C"], teacher: Float[Array, "B P C"]) -> Float[Array, "B P"]:
    """The mean squared distance to the teacher's numbers."""
    return jnp.mean(jnp.square(values - jax.lax.stop_gradient(teacher)), axis=-1)


def choices(
    scores: Float[Array, "B P"], teacher: Float[Array, "B P"], examples: Int[Array, "B P"], temperature: float
) -> Float[Array, ""]:
    """The sum over examples of T^2 KL between the softmaxes over the windows of each, which share a row.

    Args:
      scores: of each window.
      teacher: its scores.
      examples: number of the example that a window belongs to, from 1; 0 for no window.
      temperature: T.
    """

    def log_softmax(x: Float[Array, "B P"]) -> Float[Array, "B P"]:
        x = x / temperature
        return x - jax.nn.logsumexp(task_loss.by_example(x, examples), axis=-1)

    log_t, log_p = log_softmax(jax.lax.stop_gradient(teacher)), log_softmax(scores)
    each = jnp.exp(log_t) * (log_t - log_p)
    return temperature**2 * jnp.sum(each * (examples > 0).astype(each.dtype))


def spans(
    logits: Float[Array, "B L 2"],
    teacher: Float[Array, "B L 2"],
    segments: Int[Array, "B L"],
    windows: int,
    temperature: float,
) -> Float[Array, "B {windows}"]:
    """Of each window, the mean for start and end of T^2 KL over its tokens; 0 for an empty window."""
    each = jnp.zeros((logits.shape[0], windows))
    for end in range(2):
        z, t = (span_loss.by_window(x[..., end], segments, windows) for x in (logits, teacher))
        each = each + 0.5 * losses.distilled(z, t, temperature)
    return each
