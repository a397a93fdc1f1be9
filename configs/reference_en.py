"""The English encoder that comes with the package, as `reference-en`."""

from bertlite_jax.config import Data, Mask, Model, Objective, Optim, Pretrain, Run

config = Pretrain(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        embed_size=128,
        hidden_size=256,
        num_layers=5,
        num_heads=4,
        ffn_size=1024,
        max_positions=0,  # As many as a row has tokens.
        share="none",
        init_std=0.0625,
        position_init="sinusoidal",
        residual_scale="depth",
        pair_classes=0,
    ),
    data=Data(length=128, batch_rows=32, pair_task="none"),
    mask=Mask(scheme="token", first_rate=0.3, rate=0.15),
    objective=Objective(causal_every=3),
    optim=Optim(name="muon", learning_rate=4e-3, warmup_steps=100, end_fraction=0.0, bias_correction=True),
    run=Run(
        steps=5200, log_every=50, eval_every=650, eval_rows=512, checkpoint_every=650, keep_every=1300, spike_factor=0
    ),
)
