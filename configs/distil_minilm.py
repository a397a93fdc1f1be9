"""MiniLM v2 of 6 layers and width 384: its last layer relates tokens to each other as a BERT's last layer does.

    bertlite tokenizer BERT_FOLDER --out tok
    bertlite corpus TEXT --tokenizer tok --out corpus --length 512
    bertlite distill distil_minilm --teacher BERT_FOLDER --workdir runs/minilm --data.corpus corpus \
      --data.tokenizer tok

22,744,506 parameters, 143 GFLOP a row of 512 in training with a teacher like BERT base, 5.8e+19 FLOP in all.
The teacher may have any width, depth and number of heads, shared layers, and no masked-LM head. From one of 24 layers
the paper learns layer 21: --distill.relation-layer 21 --distill.relation-heads 64. The masked-LM head learns nothing,
so judge the encoder by fine-tuning. Batch, rate, warm-up and steps are the paper's. Not measured here.
Source: Wang et al. 2021 (arXiv 2012.15828).
"""

from bertlite_jax.config import Data, Distill, Distillation, Mask, Model, Optim, Run

config = Distill(
    model=Model(
        vocab_size=0,  # As many pieces as the tokenizer has.
        embed_size=384,
        hidden_size=384,
        num_layers=6,
        num_heads=12,
        ffn_size=1536,
        share="none",
        activation="gelu_erf",
        hidden_dropout=0.1,
        attention_dropout=0.1,
        pooler=False,
        pair_classes=0,
    ),
    data=Data(length=512, batch_rows=1024, pair_task="none"),
    mask=Mask(scheme="token"),
    optim=Optim(name="adamw", learning_rate=6e-4, warmup_steps=4000, bias_correction=True, micro_batches=32),
    run=Run(steps=400_000, checkpoint_every=5000, keep_every=100_000),
    distill=Distillation(
        soft_weight=0.0, mlm_weight=0.0, cosine_weight=0.0, relations_weight=1.0, relation_heads=48, start="random"
    ),
)
