"""ALBERT's Table 5 at a reduced scale: sentence order, next sentence, or no loss of pairs.

    bertlite quickstart
    bertlite ablate ablate_sentence_loss --workdir runs/sentences --data.corpus runs/quickstart-data/corpus \
      --data.tokenizer runs/quickstart-data/tokenizer
    python tools/score_grid.py runs/sentences --pair-tasks none sop nsp

Members see rows of different pairs, so the losses in the grid's own table are those of different text. The second
command scores each run on the rows of each task: the masked language model on text without pairs, which all of them can
read, and the accuracies in both tasks. A run without a loss of pairs has no head, and no accuracies.

Each run has up to 365,418 parameters; the 9 runs take 2.1e+14 FLOP in all, about 60 minutes
on two cores that reach 30 GFLOP/s each.
"""

from bertlite_jax.config import Data, Grid, Mask, Model, Optim, Pretrain, Run

base = Pretrain(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        embed_size=128,
        hidden_size=128,
        num_layers=6,
        num_heads=4,
        ffn_size=512,
        max_positions=0,  # As many as a row has tokens.
        init_std=0.088,
        position_init="sinusoidal",
        residual_scale="depth",
    ),
    data=Data(length=32, batch_rows=32),
    mask=Mask(scheme="ngram", rate=0.15),
    optim=Optim(name="adamw", learning_rate=2e-3, warmup_steps=100, end_fraction=0.0, bias_correction=True),
    run=Run(steps=3000, log_every=50, eval_every=250, eval_rows=0, checkpoint_every=1000, spike_factor=0),
)
config = Grid(
    base=base,
    variants={
        "nsp": {"data.pair_task": "nsp"},
        "none": {"data.pair_task": "none", "model.pair_classes": 0},
    },
    seeds=(0, 1, 2),
)
