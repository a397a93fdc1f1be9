"""What a user says about weights of another program: `bertlite convert from-hf` and `from-tf`."""

from __future__ import annotations

import dataclasses

from bertlite_jax.config.model import ResidualScale
from bertlite_jax.convert.weights.head_choice import HeadChoice


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """How weights of another program and their vocabulary are read, and where the result may stand."""

    head: HeadChoice = "auto"
    """What the task head is for. auto: what the class in config.json says; for TensorFlow, spans for the head of
    run_squad and otherwise classification. none: leave the head out."""
    labels: tuple[str, ...] = ()
    """Names of the head's outputs, in their order, instead of those in config.json or LABEL_0, LABEL_1, ..."""
    tokenizer: str = "auto"
    """Vocabulary file or folder to use instead of the one beside the weights. none: write no tokenizer."""
    drop_rows: bool = False
    """Drop rows of the word table beyond the tokenizer's pieces, whatever their number."""
    residual_scale: ResidualScale = "published"
    """The model.residual_scale to train on with. The kernels that it scales are divided by it, so that the outputs stay
    the same."""
    overwrite: bool = False
    """Replace the folder if it is an earlier result."""
