"""Twelve shared layers on the quickstart's text, as deep_shared, with all that makes them learn in less time.

    bertlite quickstart
    bertlite pretrain deep_shared_fast --workdir runs/fast --data.corpus runs/quickstart-data/corpus \
      --data.tokenizer runs/quickstart-data/tokenizer
    bertlite bench learn deep_shared_fast --workdir runs/learn --corpus runs/quickstart-data/corpus \
      --tokenizer runs/quickstart-data/tokenizer

Three layers are applied at first, then six, then twelve; Muon moves the kernels; the mask rate falls from 30 to 15 %;
one step in four is causal.
`bench learn` trains it beside PyTorch, which takes half an hour for each of three learning rates. docs/learning.md has
what came of it, and what each part gives.

365,418 parameters with the quickstart's 1,000 pieces, 0.49 GFLOP a row of 32 in training, 2.4e+13 FLOP in all.
"""

from bertlite_jax.config import Data, Mask, Model, Objective, Optim, Pretrain, Run

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
    mask=Mask(scheme="token", first_rate=0.3, rate=0.15),
    objective=Objective(causal_every=4),
    optim=Optim(name="muon", learning_rate=4e-3, warmup_steps=100, end_fraction=0.0, bias_correction=True),
    run=Run(
        steps=2000,
        depths=((3, 400), (6, 800)),
        log_every=50,
        eval_every=100,
        eval_rows=256,
        checkpoint_every=1000,
        spike_factor=0,
    ),
)
