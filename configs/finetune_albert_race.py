"""RACE with the settings of ALBERT's paper: which of four answers follows from a passage.

    bertlite finetune finetune_albert_race --task race --data RACE --init ALBERT --workdir runs/race

`--task race_middle` and `race_high` train on one level. For the second version of the weights use
--optim.learning-rate 1e-5 --adapt.dropout 0: the paper's values let them diverge (google-research/albert:README.md).
Lan et al. 2020 (arXiv 1909.11942), Table 14.
"""

from bertlite_jax.config import Head, Optim
from bertlite_jax.config.finetune import Adapt, Examples, Finetune, TuneRun

config = Finetune(
    data=Examples(length=512, batch_examples=32),
    adapt=Adapt(dropout=0.1),
    head=Head(dropout=0.1),
    optim=Optim(name="adamw", learning_rate=2e-5, warmup_steps=1000, bias_correction=False),
    run=TuneRun(steps=12000, eval_every=1000),
)
