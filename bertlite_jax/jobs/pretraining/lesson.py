"""What a run has beside its text and its config: first weights, and perhaps teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bertlite_jax.data.rows.batches import Batch
from bertlite_jax.jobs.pretraining.step import MakePretraining, make_pretraining


class Lesson(NamedTuple):
    """Made before a run touches its work directory. Without arguments: random weights, and no teacher."""

    make: MakePretraining = make_pretraining
    """Builds the step."""
    start: Any = None
    """Parameters that the run starts from, nested arrays; what they lack is drawn. None: all is."""
    source: str = ""
    """Where they come from, for messages."""
    notes: tuple[str, ...] = ()
    """Lines about them."""
    teachers: tuple[Any, ...] = ()
    """Parameters that the step reads and does not change, nested arrays of each teacher."""
    digests: Mapping[str, str] = {}
    """Folder of each teacher to the SHA-256 of its weights: a run that resumes has to find the same ones."""
    stores: Mapping[str, str] = {}
    """The same for a folder of what teachers said of the rows, if the step reads one."""
    beside: Callable[[int, Batch], Batch] = lambda step, batch: {}
    """What a step has beside a batch of its rows, [B, ...] each. Threads call it."""
    flops: Callable[[Any], int] = lambda config: 0
    """FLOPs of a step of a config beside those of training the model."""
    memory: Callable[..., dict[str, int]] = lambda config, devices, compute, scores: {}
    """Bytes on a device beside those of training the model, by what they are for; see `flops.step_memory_bytes`."""
