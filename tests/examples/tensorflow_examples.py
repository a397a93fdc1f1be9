"""Variables as the graphs of google-research/albert and google-research/bert name them.

They are spelt out here from the releases' code; the tables of `convert/tensorflow_names.py` are not used.
"""

import numpy as np

V, E, D, F, P, N = 31, 6, 8, 12, 16, 4
ALBERT = {
    "vocab_size": V, "embedding_size": E, "hidden_size": D, "num_hidden_layers": N, "num_hidden_groups": 2,
    "num_attention_heads": 2, "intermediate_size": F, "inner_group_num": 1, "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2, "max_position_embeddings": P,
    "type_vocab_size": 2, "initializer_range": 0.02, "down_scale_factor": 1, "net_structure_type": 0, "gap_size": 0,
    "num_memory_blocks": 0, "layers_to_keep": [],
}  # fmt: skip
BERT = {
    key: value
    for key, value in ALBERT.items()
    if key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
               "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings",
               "type_vocab_size", "initializer_range")
}  # fmt: skip
CONFIGS = {"albert": ALBERT, "bert": BERT}


def dense(scope: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{scope}/kernel": (rows, columns), f"{scope}/bias": (columns,)}


def norm(scope: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{scope}/gamma": (width,), f"{scope}/beta": (width,)}


def layer(scope: str, self: str, output: str, up: str, down: str, norms: tuple[str, str]) -> dict:
    shapes = {}
    for name in ("query", "key", "value"):
        shapes |= dense(f"{scope}/{self}/{name}", D, D)
    shapes |= dense(f"{scope}/{output}", D, D) | dense(f"{scope}/{up}", D, F) | dense(f"{scope}/{down}", F, D)
    return shapes | norm(f"{scope}/{norms[0]}", D) | norm(f"{scope}/{norms[1]}", D)


def released_shapes(family: str) -> dict[str, tuple[int, ...]]:
    """Variables of `modeling.py` and of the two pretraining losses in `run_pretraining.py`, with their shapes."""
    e = E if family == "albert" else D
    shapes = {
        "bert/embeddings/word_embeddings": (V, e),
        "bert/embeddings/token_type_embeddings": (2, e),
        "bert/embeddings/position_embeddings": (P, e),
        **norm("bert/embeddings/LayerNorm", e),
    }
    if family == "albert":
        shapes |= dense("bert/encoder/embedding_hidden_mapping_in", E, D)
        for group in range(2):
            shapes |= layer(
                f"bert/encoder/transformer/group_{group}/inner_group_0",
                "attention_1/self", "attention_1/output/dense",
                "ffn_1/intermediate/dense", "ffn_1/intermediate/output/dense", ("LayerNorm", "LayerNorm_1"),
            )  # fmt: skip
    else:
        for i in range(N):
            shapes |= layer(
                f"bert/encoder/layer_{i}", "attention/self", "attention/output/dense",
                "intermediate/dense", "output/dense", ("attention/output/LayerNorm", "output/LayerNorm"),
            )  # fmt: skip
    return shapes | {
        **dense("bert/pooler/dense", D, D),
        **dense("cls/predictions/transform/dense", D, e),
        **norm("cls/predictions/transform/LayerNorm", e),
        "cls/predictions/output_bias": (V,),
        "cls/seq_relationship/output_weights": (2, D),
        "cls/seq_relationship/output_bias": (2,),
    }


def released(family: str, slots: bool = True) -> dict[str, np.ndarray]:
    """A checkpoint as training leaves it: weights, the two moments of each, the counter."""
    draw = np.random.default_rng(0)
    weights = {name: draw.normal(size=shape).astype(np.float32) for name, shape in released_shapes(family).items()}
    if not slots:
        return weights
    moments = {f"{name}/{slot}": value * 0.1 for name, value in weights.items() for slot in ("adam_m", "adam_v")}
    return weights | moments | {"global_step": np.array(125_000, np.int64)}
