"""All that is measured of one model on one source, task by task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from compose_vlp.blueprint.sections import Evaluate, ZeroShot
from compose_vlp.data.source import Source
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.evaluation.batches import need, values_of
from compose_vlp.evaluation.captioning import evaluate_captioning
from compose_vlp.evaluation.embeddings import OUTPUTS
from compose_vlp.evaluation.retrieval import evaluate_retrieval
from compose_vlp.evaluation.zero_shot import Classes, evaluate_zero_shot
from compose_vlp.runtime.outputs import Asker

TASKS: Final[Mapping[str, tuple[str, ...]]] = {
    "retrieval": OUTPUTS,
    "captioning": ("caption",),
    "zero_shot": OUTPUTS,
}
"""Tasks, and the outputs that each asks for."""

Tick: TypeAlias = Callable[[str, int], None]
"""Told the task and how many records are done."""


class Measured(Protocol):
    """What a task found."""

    def flat(self) -> dict[str, float]:
        """One name for each number."""

    def as_json(self) -> dict[str, Any]:
        """Everything, for scripts."""


@dataclass(frozen=True)
class Results:
    """What was measured of the first `records` records, by task."""

    records: int
    tasks: Mapping[str, Measured]

    def flat(self) -> dict[str, float]:
        """One name for each number."""
        return {name: value for found in self.tasks.values() for name, value in found.flat().items()}

    def as_json(self) -> dict[str, Any]:
        """For `--json`: the numbers, and what each of them is made of."""
        tasks = {task: found.as_json() for task, found in self.tasks.items()}
        return {"records": self.records, "scores": self.flat(), **tasks}


def possible_tasks(asker: Asker, source: Source, zero_shot: ZeroShot | None = None) -> tuple[str, ...]:
    """The tasks whose outputs the blueprint has; zero-shot where classes are named or a record has one."""
    found = [task for task, outputs in TASKS.items() if all(name in asker.blueprint.outputs for name in outputs)]
    if zero_shot is None and not any(value is not None for value in values_of(source, range(1), ZeroShot().label)):
        found = [task for task in found if task != "zero_shot"]
    return tuple(found)


def check_tasks(
    asker: Asker, source: Source, tasks: Sequence[str], count: int, zero_shot: ZeroShot | None = None
) -> None:
    """Refuse what could not be measured.

    Raises:
        UserError: no task at all, one that is unknown or whose outputs the blueprint lacks, or classes not known.
    """
    if not tasks:
        wanted = [f"{task} asks for the outputs {' and '.join(outputs)}" for task, outputs in TASKS.items()]
        raise UserError(f"{asker.blueprint.name} has no outputs that could be measured", hints=wanted)
    for task in tasks:
        if task not in TASKS:
            raise UserError(f"no task is called {task!r}", hints=did_you_mean(task, TASKS) or (", ".join(TASKS),))
        need(asker, task, *TASKS[task])
    if "zero_shot" in tasks:
        Classes.of(asker, source, zero_shot or ZeroShot(), count)


def evaluate(
    asker: Asker,
    source: Source,
    tasks: Sequence[str],
    count: int,
    tick: Tick = lambda *_: None,
    zero_shot: ZeroShot | None = None,
) -> Results:
    """Measure these tasks on the first `count` records of a source.

    Raises:
        UserError: what `check_tasks` refuses.
    """
    check_tasks(asker, source, tasks, count, zero_shot)
    found: dict[str, Measured] = {}
    for task in dict.fromkeys(tasks):

        def done(records: int, task: str = task) -> None:
            tick(task, records)

        if task == "retrieval":
            found[task] = evaluate_retrieval(asker, source, count, tick=done)
        elif task == "captioning":
            found[task] = evaluate_captioning(asker, source, count, tick=done)
        else:
            found[task] = evaluate_zero_shot(asker, source, count, zero_shot, tick=done)
    return Results(min(count, len(source)), found)


def ready(asker: Asker, source: Source, settings: Evaluate) -> Callable[[], dict[str, float]]:
    """What a stage's `evaluate` asks for, looked over now and measured at each call.

    Raises:
        UserError: what `check_tasks` refuses.
    """
    tasks = settings.tasks or possible_tasks(asker, source, settings.zero_shot)
    check_tasks(asker, source, tasks, settings.count, settings.zero_shot)
    return lambda: evaluate(asker, source, tasks, settings.count, zero_shot=settings.zero_shot).flat()
