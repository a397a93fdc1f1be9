"""Every setting, its default, its unit. A recipe is a Python file whose `config` is one of these.

The names below are those that recipes use; the package itself imports them from their files.
"""

from bertlite_jax.config.ablation.grid import Grid
from bertlite_jax.config.distillation.settings import Distill, Distillation, taught
from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.finetune import Adapt, Examples, Finetune, TuneRun
from bertlite_jax.config.int8 import Quantise
from bertlite_jax.config.model import Head, Model
from bertlite_jax.config.pretrain import Data, Mask, Objective, Optim, Pretrain, Run
from bertlite_jax.config.search.settings import CostModel, Method, Search, Shape, Space, Surrogate

__all__ = [
    "Adapt",
    "CostModel",
    "Data",
    "Distill",
    "Distillation",
    "Examples",
    "Finetune",
    "Grid",
    "Head",
    "Learn",
    "Mask",
    "Method",
    "Model",
    "Objective",
    "Optim",
    "Pretrain",
    "Quantise",
    "Run",
    "Search",
    "Shape",
    "Space",
    "Surrogate",
    "TuneRun",
    "taught",
]
