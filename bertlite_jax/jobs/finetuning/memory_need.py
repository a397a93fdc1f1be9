"""Whether a fine-tuning step fits into the memory of this machine, asked before anything is compiled."""

from __future__ import annotations

import dataclasses

from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Optim, Pretrain
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.jobs.pretraining import memory_need
from bertlite_jax.model.ops import attention
from bertlite_jax.model.ops.precision import activation_dtype
from bertlite_jax.report.cost import flops


def check(setup: Setup) -> dict[str, int]:
    """Compares the estimate for a step with the memory that there is.

    It is that of pretraining in rows of the same shape, without its heads. The task's own head, an average of the
    weights and the further passes of `learn` are not counted: what is refused would not fit without them either.

    Returns:
      The parts of the estimate, as of `flops.step_memory_bytes`.

    Raises:
      UserError: the step does not fit, and what to lower.
    """
    config, shape, device = setup.start.config, setup.shape, setup.mesh.devices.flat[0]
    compute = setup.model.compute
    scores = attention.choose_for(config.model, shape.length, device.platform, compute) == "einsum"
    alike = Pretrain(
        model=_alike(config.model),
        data=Data(length=shape.length, batch_rows=shape.rows),
        optim=Optim(micro_batches=config.optim.micro_batches),
    )
    parts = flops.step_memory_bytes(alike, setup.mesh.size, activation_dtype(compute).name, scores)
    parts |= {"logits": 0, "total": parts["total"] - parts["logits"]}
    advice = (
        f"raise optim.micro_batches (now {config.optim.micro_batches}), or lower data.batch_examples (now "
        f"{config.data.batch_examples}) or data.length (now {config.data.length})"
    )
    memory_need.compare(parts, setup.mesh, "finetune", advice)
    return parts


def _alike(model: Model) -> Model:
    """A model of equal layers for which the estimate is that of the pruned model, or a little more; others as given."""
    if not model.pruned:
        return model
    heads, widths = (sum(map(of, range(model.num_layers))) for of in (model.heads_in, model.ffn_size_in))
    equal = {"num_heads": heads // model.num_layers, "ffn_size": widths // model.num_layers}
    return dataclasses.replace(model, pruned_heads=(), pruned_ffn=(), **equal)
