"""Which shapes pruning can leave."""

from __future__ import annotations

from bertlite_jax.config.model import Model
from bertlite_jax.errors import UserError


def check_pruned(model: Model) -> None:
    """Raises UserError for heads or widths that pruning cannot have left."""
    if bool(model.pruned_heads) != bool(model.pruned_ffn):
        raise UserError("config: model.pruned_heads and model.pruned_ffn are set together, by pruning")
    if not model.pruned:
        return
    sizes = model.stack_sizes
    for name, part, most in (("heads", "attention", model.num_heads), ("ffn", "ffn", model.ffn_size)):
        values = getattr(model, f"pruned_{name}")
        if len(values) != sizes[part] or not all(0 <= value <= most for value in values):
            raise UserError(f"config: model.pruned_{name} = {values} should be {sizes[part]} numbers from 0 to {most}")
    if model.low_rank or model.residual_factor != 1:
        field = "low_rank" if model.low_rank else "residual_scale"
        raise UserError(f"config: model.{field} = {getattr(model, field)} cannot be combined with pruned layers")


def refuse_pruned(model: Model, what: str) -> None:
    """Raises UserError where a pruned model is given to something that needs layers of one shape.

    Args:
      model: any.
      what: begins the message, such as `config: learn.domains`.
    """
    if model.pruned:
        raise UserError(
            f"{what} needs layers of one shape, and pruning has left {', '.join(map(str, model.pruned_heads))} heads "
            f"and feed-forward widths of {', '.join(map(str, model.pruned_ffn))}"
        )
