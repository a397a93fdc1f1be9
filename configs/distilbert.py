"""DistilBERT's shape, trained with masked LM alone (distil_distilbert has a teacher).

    bertlite tokenizer TEXT --out tok --vocab-size 30522 --kind wordpiece
    bertlite corpus TEXT --tokenizer tok --out corpus --length 512
    bertlite pretrain distilbert --workdir runs/distilbert --data.corpus corpus --data.tokenizer tok

66,985,530 parameters, 157 GFLOP a row of 512 in training, 2.6e+19 FLOP in all.
Batch, rate and length are those of the distillation recipe. Not measured here.
"""

from dataclasses import replace

from bertlite_jax.config import Data, Mask, Optim, Pretrain, Run, presets

config = Pretrain(
    model=replace(presets.DISTILBERT, vocab_size=0),  # As many pieces as the tokenizer has.
    data=Data(length=512, batch_rows=4096, pair_task="none"),
    mask=Mask(scheme="token"),
    optim=Optim(name="adamw", learning_rate=5e-4, warmup_steps=4000, micro_batches=8, bias_correction=True),
    run=Run(steps=40000, checkpoint_every=1000, keep_every=10_000),
)
