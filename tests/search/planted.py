"""Bort's search with errors that a test plants: the space, its costs and the maximum point by formula."""

from collections.abc import Callable

from bertlite_jax.config import presets
from bertlite_jax.config.pretrain import Data
from bertlite_jax.config.search.settings import Search, Shape, Space
from bertlite_jax.report.cost import flops
from bertlite_jax.search import costs, score, space
from bertlite_jax.search.trials import Evaluation, Trial

FORMULAS = costs.Formulas(flops.parameters, flops.forward_flops_per_row, flops.train_flops_per_step)
CONFIG = Search(model=presets.BORT, data=Data(length=128, batch_rows=8, pair_task="none"))
MACHINE = costs.Machine(flops_per_second=1e11)
BORT = Shape(4, 8, 1024, 768, 1024)
SECONDS = costs.by_formula(CONFIG.cost, FORMULAS, MACHINE)
CANDIDATES = costs.candidates(space.points(Space()), CONFIG, FORMULAS, SECONDS)
"""300 shapes, V = 50,265, answers of 512 tokens, in the order of size."""
COSTS = {each.shape: each.cost for each in CANDIDATES}
MAXIMUM = costs.candidate(CONFIG.maximum, CONFIG, FORMULAS, SECONDS)
"""RoBERTa-large's layers with Bort's embeddings: 355.4 M parameters with the masked-LM head."""


def evaluation(error: Callable[[Shape], float], rates: tuple[float, ...] = (1e-4,), steps: int = 8) -> Evaluation:
    """Errors that depend on the shape only, under the published W."""

    def of_trial(trial: Trial) -> float:
        return error(trial.shape)

    return Evaluation(of_trial, w, rates, steps)


def w(cost: costs.Cost, error: float) -> float:
    """The published W-coefficient against `MAXIMUM`."""
    return score.w_coefficient(cost, error, MAXIMUM.cost)


def without_heads(shape: Shape) -> tuple[int, int, int]:
    """N, D and F, by which costs and most planted errors differ."""
    return shape.num_layers, shape.hidden_size, shape.ffn_size
