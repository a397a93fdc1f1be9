"""SQuAD 1.1, CMRC 2018 and files like them: where in a text the answer to a question stands.

    bertlite finetune finetune_squad --task squad1 --data SQUAD --init RUN_OR_FOLDER --workdir runs/squad1
    bertlite predict runs/squad1 --input questions.jsonl --n-best 5
    bertlite predict runs/squad1 --task squad1 --data SQUAD --split validation --predictions answers.json

`--task cmrc2018` learns Chinese from the same recipe. The rates and the batch are ALBERT's, whose batch counts windows;
BERT's are --optim.learning-rate 3e-5 --data.batch-examples 24 or 32, and an encoder of its size keeps its dropout of
0.1. Two epochs are what both come to. Start and end have no dropout of their own in either release.
Lan et al. 2020 (arXiv 1909.11942), Table 14; google-research/albert, run_squad_v1.py; google-research/bert, README.
"""

from bertlite_jax.config import Head, Optim
from bertlite_jax.config.finetune import Examples, Finetune, TuneRun

config = Finetune(
    data=Examples(task="squad1", length=384, window_step=128, question_length=64, answer_length=30, batch_examples=48),
    head=Head(span="independent", dropout=0.0),
    optim=Optim(name="adamw", learning_rate=5e-5, warmup_steps=0, bias_correction=True),
    run=TuneRun(epochs=2.0, warmup_fraction=0.1),
)
