"""GLUE, SuperGLUE, tagging and your own tables: BERT's recipe (batch 32, three epochs, a tenth of them warm-up).

    bertlite finetune finetune_glue --task sst2 --data GLUE --init RUN_OR_FOLDER --workdir runs/sst2
    bertlite predict runs/sst2 --input texts.txt

The encoder comes from `--init`: a pretraining run, a folder of transformers, or what `convert from-hf` wrote. BERT's
grid is --optim.learning-rate 5e-5, 3e-5, 2e-5 and --data.batch-examples 16, 32; ALBERT's rates are in its paper's
Table 14. RTE, MRPC and STS-B gain from an encoder that has learnt MNLI: --init runs/mnli.
Devlin et al. 2018 (arXiv 1810.04805), section A.3; Lan et al. 2020 (arXiv 1909.11942), appendix A.4.
"""

from bertlite_jax.config import Head, Optim
from bertlite_jax.config.finetune import Examples, Finetune, TuneRun

config = Finetune(
    data=Examples(length=128, batch_examples=32),
    head=Head(dropout=0.1),
    optim=Optim(name="adamw", learning_rate=3e-5, warmup_steps=0, bias_correction=True),
    run=TuneRun(epochs=3.0, warmup_fraction=0.1),
)
