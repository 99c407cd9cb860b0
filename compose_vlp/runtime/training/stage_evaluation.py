"""Evaluation while a stage trains: what is measured, how often, and that training notices nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from compose_vlp.blueprint.sections import Evaluate, Stage
from compose_vlp.data.source import Source
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.sources import data_of, declared_source
from compose_vlp.runtime.stage import Scale
from compose_vlp.runtime.state import generators


@dataclass(frozen=True)
class Seen:
    """What a measurement found: numbers by their names, and a few lines that show it, such as captions written."""

    scores: Mapping[str, float]
    samples: tuple[str, ...] = ()


class Measure(Protocol):
    """Makes ready what `settings` ask for: mistakes are raised now, and what it gives measures when it is called."""

    def __call__(self, asker: Asker, source: Source, settings: Evaluate) -> Callable[[], Seen]: ...


@dataclass(frozen=True)
class Evaluation:
    """What a stage measures on the source `data` after every so many steps (0: never in between) and at its end."""

    data: str
    every: int
    measure: Callable[[], Seen]

    def is_due(self, done: int, steps: int) -> bool:
        """Tell whether to measure when `done` of the stage's `steps` are done."""
        return done == steps or (self.every > 0 and done % self.every == 0)

    def seen(self) -> Seen:
        """Measure now. All generators are put back, so that training goes on as if nothing had been drawn."""
        state = generators.capture()
        try:
            return self.measure()
        finally:
            generators.restore(state)


def stage_evaluation(asker: Asker, stage: Stage, scale: Scale, measure: Measure) -> Evaluation | None:
    """Make ready what a stage asks to be measured; None where it asks for nothing.

    Raises:
        UserError: no such data, or a task that the outputs or the data do not allow.
    """
    if stage.evaluate is None:
        return None
    settings = stage.evaluate if isinstance(stage.evaluate, Evaluate) else Evaluate(every=stage.evaluate)
    data = settings.data or data_of(stage)
    source = declared_source(asker.blueprint, data)
    return Evaluation(data, scale.in_steps(settings.every), measure(asker, source, settings))
