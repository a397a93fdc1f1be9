"""The pretraining run of `make.py`: an ALBERT of two layers of 24, long enough for the loss to fall.

Without dropout and in float32, so that the losses are the same on any CPU.
"""

from bertlite_jax.config import Data, Mask, Model, Optim, Pretrain, Run

config = Pretrain(
    model=Model(
        vocab_size=300,
        embed_size=16,
        hidden_size=24,
        num_layers=2,
        num_heads=2,
        ffn_size=48,
        max_positions=64,
        init_std=0.2,
        compute="float32",
    ),
    data=Data(corpus=("corpus",), tokenizer="tokenizer", length=64, batch_rows=8, windows_per_row=4, read_threads=1),
    mask=Mask(scheme="ngram", rate=0.15),
    optim=Optim(name="lamb", learning_rate=2e-3, warmup_steps=5),
    run=Run(steps=30, log_every=1, eval_every=10, eval_rows=16, checkpoint_every=10, tensorboard=False),
)
