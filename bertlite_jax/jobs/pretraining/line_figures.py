"""What a line of metrics.jsonl says of the steps since the last line, where some of them are causal.

The loss of a causal step is another one, so it has names of its own and never stands in for that of the masked
language model. A line has the figures of its own step; if that one is causal, those of the step before. Beside them it
has what the newest causal step says, if there was one since the last line. All of it goes into checkpoints, so that a
run that is resumed writes the lines that it would have written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Figures = dict[str, float]


class LineFigures:
    """Takes the figures of each step, and gives them out when a line is due."""

    def __init__(self, stored: Mapping[str, Figures]):
        """Continues from the `stored` of an earlier process; empty: no step yet."""
        self._newest = dict(stored.get("newest", {}))
        self._causal = dict(stored.get("causal", {}))

    def add(self, values: Figures, causal: bool) -> None:
        """Takes the figures of a step, as of `objective.readable`."""
        if causal:
            self._causal = {name: value for name, value in values.items() if name.startswith("causal_")}
        else:
            self._newest = dict(values)

    def take(self) -> Figures:
        """What a line says that is due now."""
        line, self._causal = self._newest | self._causal, {}
        return line

    def stored(self) -> dict[str, Any]:
        """For a checkpoint: whatever JSON can hold."""
        return {"newest": self._newest, "causal": self._causal}
