"""Bort's shape at a quarter of its widths: does a teacher help when it costs as much as more steps?

    bertlite corpus enwiki_train.txt books_train.txt --tokenizer reference-en --out corpus --length 128 \
      --validation-fraction 0.005
    bertlite ablate ablate_teacher_or_steps --workdir runs/bort --data.corpus corpus --data.tokenizer reference-en

<4,8,256,192> learns the predictions of reference-en at masked tokens and the text, with the weights of Bort's script,
or the text alone. The teacher's forward pass costs as much as 0.75 steps of this student, so the text alone gets 1.75
times the steps.

Each run has 3,607,360 parameters; the 6 runs take 1.3e+14 FLOP in all, without those of the teacher, about 40 minutes
on two cores.
"""

from dataclasses import replace

from bertlite_jax.config import Data, Distillation, Grid, Mask, Model, Optim, Pretrain, Run, taught

base = Pretrain(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        embed_size=256,
        hidden_size=256,
        num_layers=4,
        num_heads=8,
        ffn_size=192,
        max_positions=0,  # As many as a row has tokens.
        share="none",
        token_types=0,  # As in Bort: no segments, no pairs, no pooler.
        pooler=False,
        pair_classes=0,
        activation="gelu_erf",
        norm_epsilon=1e-5,
        init_std=0.0625,
        position_init="sinusoidal",
        residual_scale="depth",
    ),
    data=Data(length=128, batch_rows=16, pair_task="none"),
    mask=Mask(scheme="token", rate=0.15),
    optim=Optim(name="muon", learning_rate=2e-3, warmup_steps=50, end_fraction=0.0, bias_correction=True),
    run=Run(steps=1050, log_every=50, eval_every=150, eval_rows=512, checkpoint_every=1050, spike_factor=0),
)
teaching = Distillation(
    teachers=("reference-en",), soft_weight=0.5, mlm_weight=0.1, cosine_weight=0.0, temperature=2.0, start="random"
)
of_equal_cost = replace(base, run=replace(base.run, steps=600))
config = Grid(base=base, variants={"taught": taught(of_equal_cost, teaching)}, seeds=(0, 1, 2))
