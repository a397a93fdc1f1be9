"""ALBERT's Table 3 at a reduced scale: the size of the embeddings, with shared layers and with layers of their own.

    bertlite quickstart
    bertlite ablate ablate_embedding_size --workdir runs/embedding --data.corpus runs/quickstart-data/corpus \
      --data.tokenizer runs/quickstart-data/tokenizer

Vectors of 16 to 128 numbers for each piece beside hidden states of 128, as the 64 to 768 of the paper beside 768. The
losses can be compared, since all members predict the same pieces under the one masking of all evaluations. Muon and
causal steps shorten the plateau (docs/learning.md).

Each run has 236,890 to 1,356,778 parameters; the 24 runs take 1.9e+14 FLOP in all, about 52 minutes
on two cores that reach 30 GFLOP/s each.

The averages that the paper has for the eight members rank ours:

    python tools/score_grid.py runs/embedding --published 82.3 81.8 81.7 81.3 79.8 79.6 80.1 79.0
"""

from bertlite_jax.config import Data, Grid, Mask, Model, Objective, Optim, Pretrain, Run

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
    mask=Mask(scheme="token", rate=0.3),
    objective=Objective(causal_every=4),
    optim=Optim(name="muon", learning_rate=4e-3, warmup_steps=100, end_fraction=0.0, bias_correction=True),
    run=Run(steps=1000, log_every=50, eval_every=250, eval_rows=0, checkpoint_every=1000, spike_factor=0),
)
config = Grid(
    base=base,
    axes={"model.share": ("none", "all"), "model.embed_size": (128, 64, 32, 16)},
    seeds=(0, 1, 2),
)
