"""All that is measured of one model on one source, as numbers and as a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from compose_vlp.blueprint.sections import Evaluate
from compose_vlp.data.source import Source
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.evaluation.batches import need
from compose_vlp.evaluation.page import Example, Section, Tile, gallery, results_page, table, tiles
from compose_vlp.evaluation.retrieval import Recall
from compose_vlp.evaluation.tasks import Captions, evaluate_captioning, evaluate_retrieval
from compose_vlp.readable import percent
from compose_vlp.runtime.outputs import Asker

TASKS: Final = {"retrieval": ("image_embedding", "text_embedding"), "captioning": ("caption",)}
"""Tasks, and the outputs that each asks for."""
SHOWN: Final = 24
"""Captions with their pictures on the page."""

Tick = Callable[[str, int], None]
"""Told the task and how many records are done."""


@dataclass(frozen=True)
class Results:
    """What was measured; a task that was not asked for is None."""

    records: int
    retrieval: Recall | None = None
    captions: Captions | None = None

    def flat(self) -> dict[str, float]:
        """One name for each number."""
        found = self.retrieval.flat() if self.retrieval else {}
        return found | (self.captions.scores.flat() if self.captions else {})

    def as_json(self) -> dict[str, Any]:
        """For `--json`: the numbers, and every caption with its references."""
        captions = None
        if self.captions:
            rows = zip(self.captions.rows, self.captions.captions, self.captions.references, strict=True)
            captions = [{"record": row, "caption": said, "references": list(true)} for row, said, true in rows]
        return {
            "records": self.records,
            "scores": self.flat(),
            "retrieval": asdict(self.retrieval) if self.retrieval else None,
            "captions": captions,
        }


def possible_tasks(asker: Asker) -> list[str]:
    """The tasks whose outputs the blueprint has."""
    return [task for task, outputs in TASKS.items() if all(name in asker.blueprint.outputs for name in outputs)]


def evaluate(asker: Asker, source: Source, tasks: Sequence[str], count: int, tick: Tick = lambda *_: None) -> Results:
    """Measure these tasks on the first `count` records of a source.

    Raises:
        UserError: no such task, or one whose outputs the blueprint lacks.
    """
    check_tasks(asker, tasks)
    retrieval = captions = None
    if "retrieval" in tasks:
        retrieval = evaluate_retrieval(asker, source, count, tick=lambda done: tick("retrieval", done))
    if "captioning" in tasks:
        captions = evaluate_captioning(asker, source, count, tick=lambda done: tick("captioning", done))
    return Results(min(count, len(source)), retrieval, captions)


def ready(asker: Asker, source: Source, settings: Evaluate) -> Callable[[], dict[str, float]]:
    """What a stage's `evaluate` asks for, looked over now and measured at each call.

    Raises:
        UserError: no such task, or one whose outputs the blueprint lacks.
    """
    tasks = settings.tasks or tuple(possible_tasks(asker))
    if not tasks:
        raise UserError("`evaluate` finds nothing to measure", hints=_wanted())
    check_tasks(asker, tasks)
    return lambda: evaluate(asker, source, tasks, settings.count).flat()


def check_tasks(asker: Asker, tasks: Sequence[str]) -> None:
    """Refuse tasks that are unknown, or whose outputs a blueprint lacks.

    Raises:
        UserError: names what is missing.
    """
    for task in tasks:
        if task not in TASKS:
            raise UserError(f"no task is called {task!r}", hints=did_you_mean(task, TASKS) or (", ".join(TASKS),))
        need(asker, task, *TASKS[task])


def _wanted() -> list[str]:
    return [f"{task} asks for the outputs {' and '.join(outputs)}" for task, outputs in TASKS.items()]


def page_of(results: Results, asker: Asker, source: Source, *, title: str, subtitle: str) -> str:
    """The results with the first captions beside their pictures."""
    sections = [Section("Scores", tiles(_tiles(results)))]
    if results.retrieval:
        sections.append(Section("Retrieval", _recalls(results.retrieval), _chance(results.retrieval)))
    if results.captions:
        examples = _examples(results.captions, asker, source)
        note = f"The first {len(examples)} of {len(results.captions.captions)}; below each what its record says."
        sections.append(Section("Captions", gallery(examples), note))
    return results_page(title, subtitle, sections)


def _tiles(results: Results) -> list[Tile]:
    found = []
    if recall := results.retrieval:
        chance = f"chance {percent(recall.chance)}"
        found.append(Tile("text for a picture, recall@1", percent(recall.image_to_text[1]), note=chance))
        found.append(Tile("picture for a text, recall@1", percent(recall.text_to_image[1]), note=chance))
    if results.captions:
        scores = results.captions.scores
        found.append(Tile("CIDEr-D", f"{scores.cider:.2f}", note="10 is its top"))
        found.append(Tile("BLEU-4", f"{scores.bleu[3]:.3f}", note=f"words cut by: {scores.tokenizer}"))
    return found


def _recalls(recall: Recall) -> Any:
    rows = (("text for a picture", recall.image_to_text), ("picture for a text", recall.text_to_image))
    headings = ["", *(f"recall@{rank}" for rank in recall.image_to_text)]
    return table(headings, [[name, *(percent(share) for share in ranks.values())] for name, ranks in rows])


def _chance(recall: Recall) -> str:
    return f"{recall.images} pictures, {recall.texts} texts; a blind guess is right in {percent(recall.chance)}."


def _examples(captions: Captions, asker: Asker, source: Source) -> list[Example]:
    """Pictures as the records hold them, before any resizing."""
    (image,) = (name for name in asker.inputs_read("caption") if asker.blueprint.inputs[name].type == "image")
    field = asker.blueprint.inputs[image].field or image
    found = []
    for row, said, true in zip(captions.rows[:SHOWN], captions.captions, captions.references, strict=False):
        value = source.record(row)[field]
        found.append(Example(_picture(value() if callable(value) else value), said, " / ".join(true)))
    return found


def _picture(value: Any) -> Image.Image | Path:
    """A record's picture: a path, a picture of Pillow's, or bytes `[height, width, 3]`."""
    if isinstance(value, str | Path):
        return Path(value)
    return value if isinstance(value, Image.Image) else Image.fromarray(np.asarray(value))
