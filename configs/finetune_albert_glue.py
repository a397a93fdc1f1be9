"""GLUE with the settings of ALBERT's paper, one for each task: what its released weights were fine-tuned with.

    bertlite finetune finetune_albert_glue --task mnli --data GLUE --init ALBERT --workdir runs/mnli
    bertlite finetune finetune_albert_glue --task rte --data GLUE --init runs/mnli --workdir runs/rte

RTE, MRPC and STS-B start from the model for MNLI (footnote 4); from ALBERT itself they come out points lower. The
figures of the paper are medians of five runs (--seeds 5). `--task` picks the row below. Texts of up to 512 tokens: an
encoder with fewer positions needs --data.length. The settings are for xxlarge; --sweep finds those of a small encoder.
Lan et al. 2020 (arXiv 1909.11942), Table 14; google-research/albert:run_glue.sh.
"""

from bertlite_jax.config import Head, Optim
from bertlite_jax.config.finetune import Adapt, Examples, Finetune, TuneRun

# task: learning rate, batch, dropout of the encoder, steps, warm-up steps; the head's dropout is 0.1 throughout.
TABLE_14 = {
    "cola": (1e-5, 16, 0.0, 5336, 320),
    "stsb": (2e-5, 16, 0.0, 3598, 214),
    "sst2": (1e-5, 32, 0.0, 20935, 1256),
    "mnli": (3e-5, 128, 0.0, 10000, 1000),
    "qnli": (1e-5, 32, 0.0, 33112, 1986),
    "qqp": (5e-5, 128, 0.1, 14000, 1000),
    "rte": (3e-5, 32, 0.1, 800, 200),
    "mrpc": (2e-5, 32, 0.0, 800, 200),
    "wnli": (2e-5, 16, 0.1, 2000, 250),
}


def row(rate: float, batch: int, dropout: float, steps: int, warmup: int) -> Finetune:
    """The recipe that a row of the table stands for."""
    return Finetune(
        data=Examples(length=512, batch_examples=batch),
        adapt=Adapt(dropout=dropout),
        head=Head(dropout=0.1),
        optim=Optim(name="adamw", learning_rate=rate, warmup_steps=warmup, bias_correction=False),
        run=TuneRun(steps=steps, eval_every=max(100, steps // 20)),
    )


tasks = {name: row(*settings) for name, settings in TABLE_14.items()}
config = tasks["mnli"]
