"""DistilBERT: half of a BERT's layers, taken from it, then trained to predict and to see as the BERT does.

    bertlite tokenizer BERT_FOLDER --out tok
    bertlite corpus TEXT --tokenizer tok --out corpus --length 512
    bertlite distill distil_distilbert --teacher BERT_FOLDER --workdir runs/distil --data.corpus corpus \
      --data.tokenizer tok

66,985,530 parameters, 352 GFLOP a row of 512 in training with a teacher like BERT base, 5.6e+19 FLOP in all.
BERT_FOLDER is a folder of `transformers` or a run; a run has its tokenizer in RUN/tokenizer, and the first command is
not needed. Losses 5, 2 and 1 at T = 2, optimiser, rate and batch are those of the released script and of its author
(issue 2013 of transformers); it masks rare pieces more often, and here all are alike. Not measured here.
Source: Sanh et al. 2019 (arXiv 1910.01108); huggingface/transformers-research-projects:distillation.
"""

from dataclasses import replace

from bertlite_jax.config import Data, Distill, Distillation, Mask, Optim, Run, presets

config = Distill(
    model=replace(presets.DISTILBERT, vocab_size=0),  # As many pieces as the tokenizer has.
    data=Data(length=512, batch_rows=4000, pair_task="none"),
    mask=Mask(scheme="token"),
    optim=Optim(
        name="adamw",
        learning_rate=5e-4,
        warmup_steps=2000,
        beta2=0.98,
        weight_decay=0.0,
        clip_norm=5.0,
        bias_correction=True,
        micro_batches=125,  # Predictions are compared at every token: 32 rows of logits take 2 GB.
    ),
    run=Run(steps=40_000, checkpoint_every=1000, keep_every=10_000),
    distill=Distillation(
        soft_weight=5.0, soft_tokens="all", mlm_weight=2.0, cosine_weight=1.0, temperature=2.0, start="alternate"
    ),
)
