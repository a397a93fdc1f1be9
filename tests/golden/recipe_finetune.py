"""The fine-tuning run of `make.py`: which of two animals a sentence names, without dropout and in float32."""

from bertlite_jax.config import Head, Optim
from bertlite_jax.config_finetune import Adapt, Examples, Finetune, TuneRun

config = Finetune(
    data=Examples(length=64, batch_examples=16, row_length=128),
    adapt=Adapt(dropout=0.0, compute="float32"),
    head=Head(dropout=0.0),
    optim=Optim(name="adamw", learning_rate=2e-3, warmup_steps=0, bias_correction=True),
    run=TuneRun(steps=40, log_every=1, eval_every=20, keep_last=2),
)
