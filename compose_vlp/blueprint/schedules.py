"""Values that follow the steps of a stage: `{linear: [0, 0.4], over: 1 epoch}`, `{cosine: [1e-4, 0], warmup: 5 %}`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compose_vlp.blueprint.scalars import Quantity

Shape = Literal["constant", "linear", "cosine", "exponential", "step"]
SHAPES: tuple[Shape, ...] = ("constant", "linear", "cosine", "exponential", "step")


class Schedule(BaseModel):
    """A value that follows the steps of the running stage: one shape, after a linear warm-up; constant afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    constant: float | None = Field(None, description="one value")
    linear: tuple[float, float] | None = Field(None, description="from the first value to the second, in a line")
    cosine: tuple[float, float] | None = Field(None, description="from the first value to the second, in half a cosine")
    exponential: tuple[float, float] | None = Field(
        None, description="from the first value to the second, by the same factor at every step; neither is 0"
    )
    step: tuple[float, float] | None = Field(None, description="the first value, and from `at` on the second")
    at: Quantity | None = Field(None, description="when a `step` comes: after so long, warm-up included")
    over: Quantity | None = Field(
        None,
        description="how long going from one value to another takes, warm-up included; the whole stage, if left out",
    )
    warmup: Quantity | None = Field(None, description="how long the value rises to its first value")
    warmup_from: float = Field(0.0, description="where the warm-up begins")

    @model_validator(mode="after")
    def _one_shape(self) -> Schedule:
        shapes = [name for name in SHAPES if getattr(self, name) is not None]
        if len(shapes) != 1:
            raise ValueError(f"a schedule has one of {', '.join(SHAPES)}, not {' and '.join(shapes) or 'none'}")
        if (self.at is None) != (self.step is None):
            missing = "`at` says when a `step` comes" if self.step is None else "a `step` comes `at` some time"
            raise ValueError(f"{missing}: {{step: [0, 0.2], at: 12000 steps}}")
        if self.over is not None and (self.constant is not None or self.step is not None):
            raise ValueError("`over` belongs to `linear`, `cosine` and `exponential`")
        if self.at is not None and self.at.value == 0:
            raise ValueError(f"`at: {self.at}` leaves no time for the first value: more than 0 is expected")
        if self.over is not None and self.over.value == 0:
            raise ValueError(f"`over: {self.over}` is no time at all: more than 0 is expected")
        if self.warmup is None and "warmup_from" in self.model_fields_set:
            raise ValueError("`warmup_from` is where a warm-up begins, and there is none: add `warmup`")
        if self.exponential is not None and min(self.exponential) <= 0:
            raise ValueError("exponential: two values above 0")
        return self

    @property
    def form(self) -> Shape:
        return next(name for name in SHAPES if getattr(self, name) is not None)

    @property
    def until(self) -> Quantity | None:
        """When the second value is reached; None at the stage's end."""
        return self.at if self.step is not None else self.over

    @property
    def start(self) -> float:
        """The value after the warm-up."""
        return self._ends[0]

    @property
    def end(self) -> float:
        """The value after `over`, or from `at` on."""
        return self._ends[1]

    @property
    def first(self) -> float:
        """The value at the first step."""
        return self.warmup_from if self.warmup is not None and self.warmup.value > 0 else self.start

    @property
    def extremes(self) -> tuple[tuple[str, float], ...]:
        """The values between which all others lie, each with the field that says it."""
        begun = (("warmup_from", self.first),) if self.first != self.start else ()
        return (*begun, (self.form, self.start), (self.form, self.end))

    @property
    def _ends(self) -> tuple[float, float]:
        if self.constant is not None:
            return self.constant, self.constant
        ends = self.linear or self.cosine or self.exponential or self.step
        assert ends is not None, "a schedule has one shape"
        return ends
