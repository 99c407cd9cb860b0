"""Values that change with the step: `linear`, `cosine`, `exponential`, `step`, `constant`, with a warm-up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """A number as a function of the step.

    From `start` to `end` along a line, half a cosine or a geometric series over `over` steps, or all at once when these
    are done (`step`), after `warmup` steps that rise linearly from `warmup_from` to `start`; constant from then on.
    """

    form: Literal["linear", "cosine", "exponential", "step", "constant"]
    start: float
    end: float
    over: int
    warmup: int = 0
    warmup_from: float = 0.0

    def at(self, step: int) -> float:
        """Give the value at a step (steps count from 0)."""
        if step < self.warmup:
            return self.warmup_from + (self.start - self.warmup_from) * (step + 1) / self.warmup
        if self.form == "constant":
            return self.start
        if self.form == "step":
            return self.start if step < self.over else self.end
        span = max(self.over - self.warmup, 1)
        done = min((step - self.warmup) / span, 1.0)
        if self.form == "exponential":
            return float(self.start * (self.end / self.start) ** done)
        share = done if self.form == "linear" else (1 - math.cos(math.pi * done)) / 2
        return self.start + (self.end - self.start) * share
