"""SQuAD 2.0: where the answer to a question stands, or that the text does not hold it.

    bertlite finetune finetune_squad2 --data SQUAD --init RUN_OR_FOLDER --workdir runs/squad2
    bertlite predict runs/squad2 --input questions.jsonl --null-threshold 0.5

ALBERT's way: the end is found given the start, and a third output says whether there is an answer. BERT's way, which
transformers has a class for, is --head.span independent: "no answer" is where start and end both point to [CLS].
Scores are those of the threshold 0. `best_f1_threshold` in summary.json is the one that would have been best for these
very questions; its score stands beside, and is what ALBERT's own script reports.
Lan et al. 2020 (arXiv 1909.11942), Table 14; google-research/albert, run_squad_v2.py.
"""

from bertlite_jax.config import Head, Optim
from bertlite_jax.config.finetune import Examples, Finetune, TuneRun

config = Finetune(
    data=Examples(task="squad2", length=512, window_step=128, question_length=64, answer_length=30, batch_examples=48),
    head=Head(span="conditioned", dropout=0.1),
    optim=Optim(name="adamw", learning_rate=3e-5, warmup_steps=0, bias_correction=True),
    run=TuneRun(epochs=3.0, warmup_fraction=0.1),
)
