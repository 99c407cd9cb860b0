"""All that is measured of one model on one source, task by task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol, TypeAlias

from compose_vlp.blueprint.sections import Evaluate, Rerank, ZeroShot
from compose_vlp.data.source import Source
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.evaluation.answering import answerers, evaluate_answering
from compose_vlp.evaluation.batches import need, no_outputs, values_of
from compose_vlp.evaluation.captioning import Captions, evaluate_captioning
from compose_vlp.evaluation.classification import classifiers, evaluate_classification
from compose_vlp.evaluation.embeddings import OUTPUTS
from compose_vlp.evaluation.grounding import BOX, evaluate_grounding, grounders
from compose_vlp.evaluation.reranking import MATCH, evaluate_reranking
from compose_vlp.evaluation.retrieval import Retrieval, evaluate_retrieval
from compose_vlp.evaluation.zero_shot import Classes, evaluate_zero_shot
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.training.stage_evaluation import Seen

TASKS: Final[Mapping[str, tuple[str, ...]]] = {
    "retrieval": OUTPUTS,
    "reranking": (*OUTPUTS, MATCH),
    "captioning": ("caption",),
    "zero_shot": OUTPUTS,
    "classification": (),
    "answering": (),
    "grounding": (),
}
"""Tasks, and the outputs that each asks for by name."""
FOUND: Final[Mapping[str, Callable[[Asker], Mapping[str, str]]]] = {
    "classification": classifiers,
    "answering": answerers,
    "grounding": grounders,
}
"""Tasks whose outputs have any name: what finds them, with the input that holds what is right."""
_RECALLS: Final = (
    *(f"{side}_recall_at_{rank}" for side in ("image_to_text", "text_to_image") for rank in (1, 5, 10)),
    "mean_recall",
)
SCORES: Final[Mapping[str, tuple[str, ...]]] = {
    "retrieval": _RECALLS,
    "reranking": _RECALLS,
    "captioning": (*(f"bleu_{n}" for n in range(1, 5)), "rouge_l", "cider", "distinct_captions", "exact_captions"),
    "zero_shot": ("accuracy_top_1", "accuracy_top_5", "accuracy_mean_of_classes"),
    "classification": ("accuracy", "accuracy_of_commonest_class"),
    "answering": ("vqa_accuracy",),
    "grounding": ("pointing_accuracy", "pointing_accuracy_of_chance", "pointing_accuracy_of_middle"),
}
"""What each task gives; those of `FOUND` may have the name of an output before them, and an underscore."""
ON_REQUEST: Final = frozenset({"reranking"})
"""Tasks that are dear, and measured only where they are asked for."""

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

    @property
    def scores(self) -> dict[str, float]:
        """All numbers, by task and name: `retrieval.mean_recall`."""
        return {
            f"{task}.{name}": value for task, measured in self.tasks.items() for name, value in measured.flat().items()
        }

    def as_json(self) -> dict[str, Any]:
        """For `--json`: the numbers, and what each of them is made of."""
        tasks = {task: measured.as_json() for task, measured in self.tasks.items()}
        return {"records": self.records, "scores": self.scores, **tasks}


LOOKED_AT = 50
"""Records in which classes are looked for where nobody names any."""


def possible_tasks(asker: Asker, source: Source, zero_shot: ZeroShot | None = None) -> tuple[str, ...]:
    """List the tasks whose outputs the blueprint has, and whose truth the first record has; none of `ON_REQUEST`.

    For `zero_shot` it is enough that classes are named.
    """
    named = (task for task, outputs in TASKS.items() if all(name in asker.blueprint.outputs for name in outputs))
    return tuple(task for task in named if task not in ON_REQUEST and _has_truth(asker, source, task, zero_shot))


def is_score(name: str) -> bool:
    """Tell whether some task may give a score of this name, such as `retrieval.mean_recall`."""
    task, _, own = name.partition(".")
    return own in SCORES.get(task, ()) or (task in FOUND and any(own.endswith(f"_{known}") for known in SCORES[task]))


def _has_truth(asker: Asker, source: Source, task: str, zero_shot: ZeroShot | None) -> bool:
    """Tell whether the first record has what answers are compared with, where it is no caption."""
    if task == "zero_shot":
        return zero_shot is not None or _has_classes(source, ZeroShot().label)
    if task == "grounding":
        return bool(grounders(asker)) and _has(source, BOX)
    if task not in FOUND:
        return True
    inputs = asker.blueprint.inputs
    labels = set(FOUND[task](asker).values())
    return bool(labels) and all(_has(source, inputs[name].field or name) for name in labels)


def _has_classes(source: Source, field: str) -> bool:
    """Tell whether the first records are of two classes at least; one alone is nothing to tell apart."""
    first = range(min(LOOKED_AT, len(source)))
    return len({value for value in map(str, values_of(source, first, field)) if value != "None"}) > 1


def _has(source: Source, field: str) -> bool:
    return any(value is not None for value in values_of(source, range(1), field))


def check_tasks(
    asker: Asker, source: Source, tasks: Sequence[str], count: int, zero_shot: ZeroShot | None = None
) -> None:
    """Refuse what could not be measured.

    Raises:
        UserError: no task at all, one that is unknown or whose outputs the blueprint lacks, or classes not known.
    """
    if not tasks:
        named = {task: outputs for task, outputs in TASKS.items() if task not in FOUND}
        needs = [f"{task} asks for the outputs {' and '.join(outputs)}" for task, outputs in named.items()]
        raise UserError(f"{asker.blueprint.name} has no outputs that could be measured", hints=needs)
    for task in tasks:
        if task not in TASKS:
            raise UserError(f"no task is called {task!r}", hints=did_you_mean(task, TASKS) or (", ".join(TASKS),))
        need(asker, task, *TASKS[task])
        if task in FOUND and not FOUND[task](asker):
            raise no_outputs(asker, task)
    if "zero_shot" in tasks:
        Classes.of(asker, source, zero_shot or ZeroShot(), count)


class Measure(Protocol):
    """Measures a task that needs no settings."""

    def __call__(self, asker: Asker, source: Source, count: int, *, tick: Callable[[int], None]) -> Measured: ...


MEASURES: Final[Mapping[str, Measure]] = {
    "retrieval": evaluate_retrieval,
    "captioning": evaluate_captioning,
    "classification": evaluate_classification,
    "answering": evaluate_answering,
    "grounding": evaluate_grounding,
}


def evaluate(
    asker: Asker,
    source: Source,
    tasks: Sequence[str],
    count: int,
    tick: Tick = lambda *_: None,
    zero_shot: ZeroShot | None = None,
    rerank: Rerank | None = None,
) -> Results:
    """Measure these tasks on the first `count` records of a source.

    Raises:
        UserError: what `check_tasks` refuses.
    """
    check_tasks(asker, source, tasks, count, zero_shot)
    measured: dict[str, Measured] = {}
    for task in dict.fromkeys(tasks):

        def done(records: int, task: str = task) -> None:
            tick(task, records)

        if task == "reranking":
            measured[task] = evaluate_reranking(asker, source, count, rerank, tick=done)
        elif task == "zero_shot":
            measured[task] = evaluate_zero_shot(asker, source, count, zero_shot, tick=done)
        else:
            measured[task] = MEASURES[task](asker, source, count, tick=done)
    return Results(min(count, len(source)), measured)


SAMPLES: Final = 2
"""Records of which an evaluation in training shows what came out."""


def samples(results: Results) -> tuple[str, ...]:
    """Show what came out for the first records, beside what is right; and what a blind guess would have scored."""
    lines: list[str] = []
    for measured in results.tasks.values():
        if isinstance(measured, Captions):
            written = zip(measured.rows, measured.captions, measured.references, strict=True)
            lines += [
                f"record {row}: {text!r} is written for {_first(own)}" for row, text, own in islice(written, SAMPLES)
            ]
        elif isinstance(measured, Retrieval):
            ranked = zip(measured.rows, measured.first, measured.right, measured.captions, strict=True)
            for row, text, right, own in islice(ranked, SAMPLES):
                lines.append(f"record {row}: {text!r} is found" + (", rightly" if right else f" for {_first(own)}"))
            lines.append(f"recall@1 of a blind guess: {measured.recall.chance:.3f}")
    return tuple(lines)


def _first(texts: Sequence[str]) -> str:
    return repr(texts[0]) if texts else "no text"


def ready(asker: Asker, source: Source, settings: Evaluate) -> Callable[[], Seen]:
    """Check now what a stage's `evaluate` asks for, and measure it at each call.

    Raises:
        UserError: what `check_tasks` refuses.
    """
    tasks = settings.tasks or possible_tasks(asker, source, settings.zero_shot)
    check_tasks(asker, source, tasks, settings.count, settings.zero_shot)

    def measure() -> Seen:
        count, zero_shot, rerank = settings.count, settings.zero_shot, settings.rerank
        results = evaluate(asker, source, tasks, count, zero_shot=zero_shot, rerank=rerank)
        return Seen(results.scores, samples(results))

    return measure
