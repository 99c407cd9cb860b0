"""Who watches training: a progress bar, a log, a tracker, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from compose_vlp.runtime.training.loop import StepReport
from compose_vlp.runtime.training.summary import Summary


class Listener(Protocol):
    """Told of everything that happens in training, in order."""

    def stage(self, name: str, first: int, steps: int) -> None:
        """Hear that a stage begins at step `first` of `steps`."""

    def step(self, report: StepReport) -> None:
        """Hear that a step is done."""

    def evaluated(self, data: str, step: int, scores: Mapping[str, float]) -> None:
        """Hear that the outputs were measured on a source after `step` steps of the run."""

    def note(self, text: str) -> None:
        """Something that a person should read."""

    def end(self, summary: Summary) -> None:
        """Hear that the stage is over, or was stopped."""


class Silent:
    """Watches nothing."""

    def stage(self, name: str, first: int, steps: int) -> None: ...

    def step(self, report: StepReport) -> None: ...

    def evaluated(self, data: str, step: int, scores: Mapping[str, float]) -> None: ...

    def note(self, text: str) -> None: ...

    def end(self, summary: Summary) -> None: ...
