"""What each model has to show for the losses of a config."""

from __future__ import annotations

from bertlite_jax.config.distillation.settings import Distill, learnt_layers, losses_of
from bertlite_jax.config.model import Model
from bertlite_jax.model.observed import Request


def of_student(config: Distill) -> Request:
    """Of the student: its layers stand beside `learnt_layers` of the teacher, its last beside that of the relations."""
    every = tuple(range(1, config.model.num_layers + 1))
    return _request(config, every, config.model.num_layers, ("mlm",), ("pair", "pair_soft"))


def of_teacher(config: Distill, teacher: Model) -> Request:
    """Of a teacher of this shape."""
    layer = config.distill.relation_layer or teacher.num_layers
    return _request(config, learnt_layers(config, teacher), layer, (), ("pair_soft",))


def _request(
    config: Distill, layers: tuple[int, ...], relation_layer: int, masked: tuple[str, ...], pairs: tuple[str, ...]
) -> Request:
    wanted = losses_of(config)
    soft_at = config.distill.soft_tokens if "soft" in wanted else ""
    return Request(
        masked_logits=soft_at == "masked" or any(name in wanted for name in masked),
        all_logits=soft_at == "all",
        pair_logits=any(name in wanted for name in pairs),
        states=(0, *layers) if "states" in wanted else (),
        projections=(layers if "attention" in wanted else ()) + ((relation_layer,) if "relations" in wanted else ()),
    )
