"""TinyBERT of 4 layers and width 312, its general stage: hidden states and attention scores of a BERT, nothing else.

    bertlite tokenizer BERT_FOLDER --out tok
    bertlite corpus TEXT --tokenizer tok --out corpus --length 128
    bertlite distill distil_tinybert --teacher BERT_FOLDER --workdir runs/tinybert --data.corpus corpus \
      --data.tokenizer tok

14,381,394 parameters, 28 GFLOP a row of 128 in training with a teacher like BERT base, 2.1e+18 FLOP in all.
Layer m learns from layer 3 m of a teacher of twelve, which must have 12 heads too. The masked-LM head learns nothing,
so judge the encoder by fine-tuning. Rate, batch and length are those of `general_distill.py`; its learned projection
has a bias, and here it has none, as in the paper. The steps are a guess at its three epochs. Not measured here.
Source: Jiao et al. 2020 (arXiv 1909.10351); huawei-noah/Pretrained-Language-Model:TinyBERT/general_distill.py.
"""

from bertlite_jax.config import Data, Distill, Distillation, Mask, Model, Optim, Run

config = Distill(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        embed_size=312,
        hidden_size=312,
        num_layers=4,
        num_heads=12,
        ffn_size=1200,
        share="none",
        activation="gelu_erf",
        hidden_dropout=0.1,
        attention_dropout=0.1,
        pooler=False,
        pair_classes=0,
    ),
    data=Data(length=128, batch_rows=256, pair_task="none"),
    mask=Mask(scheme="token"),
    optim=Optim(name="adamw", learning_rate=5e-5, warmup_steps=30_000),
    run=Run(steps=300_000, checkpoint_every=5000, keep_every=100_000),
    distill=Distillation(
        soft_weight=0.0, mlm_weight=0.0, cosine_weight=0.0, states_weight=1.0, attention_weight=1.0, start="random"
    ),
)
