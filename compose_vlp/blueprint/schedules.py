"""Values that follow the steps of a stage: `{linear: [0, 0.4], over: 1 epoch}`, `{cosine: [1e-4, 0], warmup: 5 %}`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compose_vlp.blueprint.scalars import Quantity

SHAPES = ("constant", "linear", "cosine", "step")


@dataclass(frozen=True)
class Clock:
    """How a stage counts: its length in optimizer steps, the steps of one epoch, the samples of one step."""

    steps: int
    steps_per_epoch: float
    samples_per_step: int

    def count(self, quantity: Quantity) -> float:
        """A quantity in steps."""
        if quantity.unit == "steps":
            return quantity.value
        if quantity.unit == "epochs":
            return quantity.value * self.steps_per_epoch
        if quantity.unit == "samples":
            return quantity.value / self.samples_per_step
        return quantity.value / 100 * self.steps


class Schedule(BaseModel):
    """A value that follows the steps of the running stage: one shape, after a linear warm-up from 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    constant: float | None = Field(None, description="one value")
    linear: tuple[float, float] | None = Field(None, description="from the first value to the second, in a line")
    cosine: tuple[float, float] | None = Field(None, description="from the first value to the second, in half a cosine")
    step: tuple[float, ...] | None = Field(None, min_length=2, description="values, each until its place in `at`")
    at: tuple[Quantity, ...] | None = Field(None, description="where the next value of `step` begins, counted from 0")
    over: Quantity | None = Field(
        None, description="how long `linear` and `cosine` take, warm-up included; the whole stage, if left out"
    )
    warmup: Quantity | None = Field(None, description="how long the value rises from 0 to its first value")

    @model_validator(mode="after")
    def _one_shape(self) -> Schedule:
        shapes = [name for name in SHAPES if getattr(self, name) is not None]
        if len(shapes) != 1:
            raise ValueError(f"a schedule has one of {', '.join(SHAPES)}, not {' and '.join(shapes) or 'none'}")
        if (self.step is None) != (self.at is None):
            raise ValueError("`step` and `at` go together")
        if self.step is not None and self.at is not None and len(self.at) != len(self.step) - 1:
            raise ValueError(f"{len(self.step)} values of `step` need {len(self.step) - 1} places in `at`")
        if self.over is not None and self.linear is None and self.cosine is None:
            raise ValueError("`over` belongs to `linear` and `cosine`")
        return self

    def value(self, step: int, clock: Clock) -> float:
        """The value at an optimizer step, counted from 0; after `over` the last one stays."""
        warmup = clock.count(self.warmup) if self.warmup else 0.0
        if step < warmup:
            return self._first * step / warmup
        if self.step is not None and self.at is not None:
            return self.step[sum(step >= clock.count(place) for place in self.at)]
        ends = self.linear or self.cosine
        if ends is None:
            return self._first
        length = (clock.count(self.over) if self.over else clock.steps) - warmup
        share = min(max((step - warmup) / length, 0.0), 1.0) if length > 0 else 1.0
        if self.cosine is not None:
            share = (1 - math.cos(math.pi * share)) / 2
        return ends[0] + (ends[1] - ends[0]) * share

    @property
    def _first(self) -> float:
        if self.constant is not None:
            return self.constant
        values = self.linear or self.cosine or self.step
        assert values is not None, "a schedule has one shape"
        return values[0]
