"""Twelve shared layers of width 128 on the quickstart's text: depth that learns from the first steps on.

    bertlite quickstart
    bertlite pretrain deep_shared --workdir runs/deep --data.corpus runs/quickstart-data/corpus \
      --data.tokenizer runs/quickstart-data/tokenizer

The recipe of the quickstart (rows of 32 tokens, 32 of them a step) with twelve layers instead of two. What attention
and feed-forward add is multiplied by 1/12: as published, the additions of a layer that is applied twelve times add up,
and the loss stays at the unigram entropy (docs/learning.md). Other depths, and the published branches for comparison:

    bertlite pretrain deep_shared --model.num-layers 24 ...
    bertlite pretrain deep_shared --model.residual-scale published ...

365,418 parameters with the quickstart's 1,000 pieces, 0.49 GFLOP a row of 32 in training, 6.2e+13 FLOP in all.
"""

from bertlite_jax.config import Data, Mask, Model, Optim, Pretrain, Run

config = Pretrain(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        embed_size=128,
        hidden_size=128,
        num_layers=12,
        num_heads=4,
        ffn_size=512,
        max_positions=0,  # As many as a row has tokens.
        init_std=0.088,
        position_init="sinusoidal",
        residual_scale="depth",
    ),
    data=Data(length=32, batch_rows=32),
    mask=Mask(scheme="token", rate=0.3),
    optim=Optim(name="adamw", learning_rate=2e-3, warmup_steps=100, end_fraction=0.1, bias_correction=True),
    run=Run(steps=4000, log_every=100, eval_every=100, eval_rows=256, checkpoint_every=1000, spike_factor=0),
)
