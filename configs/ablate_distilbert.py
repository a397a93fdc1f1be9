"""DistilBERT's ablation at a reduced scale: three of the five layers of reference-en, taught by it, without each part.

    bertlite corpus enwiki_train.txt books_train.txt --tokenizer reference-en --out corpus --length 128 \
      --validation-fraction 0.005
    bertlite ablate ablate_distilbert --workdir runs/distilbert --data.corpus corpus --data.tokenizer reference-en

The student starts from layers 0, 2 and 4 and learns predictions, text and the last hidden state, with DistilBERT's
weights. Variants leave one of the losses out, or start from random weights; `text_alone` has neither teacher nor its
layers. Any English text will do; this is what the teacher has read.

Each run has 3,550,144 parameters; the 18 runs take 3.1e+14 FLOP in all, without those of the teacher, about 95 minutes
on one core of a Xeon with AMX. RESULTS.md has what came of them.
"""

from bertlite_jax.config import Data, Distillation, Grid, Mask, Model, Optim, Pretrain, Run, taught

text_alone = Pretrain(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        embed_size=128,
        hidden_size=256,
        num_layers=3,
        num_heads=4,
        ffn_size=1024,
        max_positions=0,  # As many as a row has tokens.
        share="none",
        init_std=0.0625,
        position_init="sinusoidal",
        residual_scale="depth",
        pair_classes=0,
    ),
    data=Data(length=128, batch_rows=16, pair_task="none"),
    mask=Mask(scheme="token", rate=0.15),
    optim=Optim(name="muon", learning_rate=4e-3, warmup_steps=50, end_fraction=0.0, bias_correction=True),
    run=Run(steps=500, log_every=50, eval_every=250, eval_rows=512, checkpoint_every=500, spike_factor=0),
)
teaching = Distillation(
    teachers=("reference-en",), soft_weight=5.0, mlm_weight=2.0, cosine_weight=1.0, temperature=2.0, start="alternate"
)
config = Grid(
    base=taught(text_alone, teaching),
    variants={
        "no_predictions": {"distill.soft_weight": 0.0},
        "no_text": {"distill.mlm_weight": 0.0},
        "no_states": {"distill.cosine_weight": 0.0},
        "random_start": {"distill.start": "random"},
        "text_alone": text_alone,
    },
    seeds=(0, 1, 2),
)
