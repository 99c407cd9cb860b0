"""Results as a page: numbers against chance, and pictures with what the model made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from PIL import Image

from compose_vlp.data.record_pictures import drawn_picture
from compose_vlp.data.source import Source
from compose_vlp.evaluation.answering import Answer, Answered
from compose_vlp.evaluation.captioning import Captions, words_of
from compose_vlp.evaluation.classification import Choices, Classified
from compose_vlp.evaluation.grounding import NOT_COMPARABLE, Grounded
from compose_vlp.evaluation.page import (
    Example,
    Section,
    Tile,
    gallery,
    results_page,
    side_by_side,
    table,
    tiles,
    titled,
)
from compose_vlp.evaluation.reranking import Reranked
from compose_vlp.evaluation.results import Results
from compose_vlp.evaluation.retrieval import Retrieval
from compose_vlp.evaluation.zero_shot import Classification
from compose_vlp.pages import Markup, join
from compose_vlp.readable import percent
from compose_vlp.runtime.inference.outputs import Asker

SHOWN: Final = 12
"""Right examples, and as many wrong ones, in a section; twice as many where nothing is right or wrong."""
LISTED: Final = 30
"""Lines of a table."""


def page_of(results: Results, asker: Asker, source: Source, *, title: str, subtitle: str) -> str:
    """The results with pictures, as the records hold them, before any resizing."""
    numbers: list[Tile] = []
    sections: list[Section] = []
    for task, found in results.tasks.items():
        if isinstance(found, Classified):
            numbers += _choice_tiles(found)
            sections += [_choices(name, one) for name, one in found.outputs.items()]
            continue
        if isinstance(found, Answered):
            numbers += _answer_tiles(found)
            sections += [_answers(name, answers) for name, answers in found.outputs.items()]
            continue
        if isinstance(found, Grounded):
            numbers += _pointing_tiles(found)
            continue
        pictures = _Pictures(asker, source, task)
        if isinstance(found, Retrieval):
            title = "Retrieval, re-ranked" if isinstance(found, Reranked) else "Retrieval"
            numbers += _retrieval_tiles(found)
            sections.append(_retrieval(found, pictures, title))
        elif isinstance(found, Captions):
            numbers += _caption_tiles(found)
            sections.append(_captions(found, pictures))
        elif isinstance(found, Classification):
            numbers += _class_tiles(found)
            sections.append(_classes(found, pictures))
    return results_page(title, subtitle, [Section("Scores", tiles(numbers)), *sections])


class _Pictures:
    """The pictures of records, by the field that a task shows its model."""

    def __init__(self, asker: Asker, source: Source, task: str) -> None:
        output = "caption" if task == "captioning" else "image_embedding"
        self._field = next(field for field, kind in asker.types_read(output).items() if kind == "image")
        self._source = source

    def of(self, row: int) -> Image.Image:
        """The picture of a record that the task has read."""
        value: Any = self._source.record(row)[self._field]
        return drawn_picture(value() if callable(value) else value, self._field)


def _chosen(right: Sequence[bool]) -> list[int]:
    """The first places that are wrong and the first that are right, in their order."""
    wrong = [place for place, ok in enumerate(right) if not ok][:SHOWN]
    return sorted(wrong + [place for place, ok in enumerate(right) if ok][:SHOWN])


def _examples(places: Iterable[int], make: Callable[[int], Example]) -> Markup:
    return gallery([make(place) for place in places])


def _pointing_tiles(found: Grounded) -> list[Tile]:
    return [
        Tile(
            f"pointing into the box, {name}",
            percent(one.accuracy),
            note=f"anywhere {percent(one.chance)}, the middle {percent(one.middle)}; {NOT_COMPARABLE}",
        )
        for name, one in found.outputs.items()
    ]


def _retrieval_tiles(found: Retrieval) -> list[Tile]:
    recall, chance = found.recall, f"chance {percent(found.recall.chance)}"
    how = ", re-ranked" if isinstance(found, Reranked) else ""
    return [
        Tile(f"text for a picture, recall@1{how}", percent(recall.image_to_text[1]), note=chance),
        Tile(f"picture for a text, recall@1{how}", percent(recall.text_to_image[1]), note=chance),
    ]


def _retrieval(found: Retrieval, pictures: _Pictures, title: str) -> Section:
    recall = found.recall
    sides = (("text for a picture", recall.image_to_text), ("picture for a text", recall.text_to_image))
    headings = ["", *(f"recall@{rank}" for rank in recall.image_to_text)]
    numbers = table(headings, [[name, *(percent(share) for share in ranks.values())] for name, ranks in sides])

    def example(place: int) -> Example:
        own = " / ".join(found.captions[place])
        return Example(pictures.of(found.rows[place]), found.first[place], own, right=found.right[place])

    shown = titled("The first text for a picture", _examples(_chosen(found.right), example))
    note = f"{recall.images} pictures, {recall.texts} texts; a blind guess is right in {percent(recall.chance)}."
    return Section(title, join([numbers, shown]), note)


def _caption_tiles(found: Captions) -> list[Tile]:
    scores = found.scores
    return [
        *([Tile("CIDEr-D", f"{scores.cider:.2f}", note="10 is its top")] if scores.cider is not None else []),
        Tile("BLEU-4", f"{scores.bleu[3]:.3f}", note=f"words cut by: {scores.tokenizer}"),
        Tile("different captions", percent(scores.distinct), note=f"of {scores.captions}"),
    ]


def _captions(found: Captions, pictures: _Pictures) -> Section:
    def example(place: int) -> Example:
        said, true = found.captions[place], found.references[place]
        words = words_of(said)
        exact = (words != "" and words in map(words_of, true)) or None  # other words may be as right
        return Example(pictures.of(found.rows[place]), said, " / ".join(true), right=exact)

    shown = range(min(2 * SHOWN, len(found.rows)))
    note = f"The first {len(shown)} of {len(found.rows)}; below each what its record says."
    return Section("Captions", _examples(shown, example), note)


def _class_tiles(found: Classification) -> list[Tile]:
    chance = f"chance {percent(found.chance)}; the commonest class {percent(found.commonest)}"
    return [
        Tile("class named rightly", percent(found.top[1]), note=chance),
        Tile(
            "mean of the classes", percent(found.mean_of_classes), note=f"{len(found.per_class)} classes with records"
        ),
    ]


def _classes(found: Classification, pictures: _Pictures) -> Section:
    worst = sorted(found.per_class.items(), key=lambda one: one[1])[:LISTED]
    counts = dict(zip(found.classes, found.confusion.sum(1).tolist(), strict=True))
    each = table(["class", "records", "right"], [[name, counts[name], percent(share)] for name, share in worst])
    mistaken = table(["class", "taken for", "records"], found.mistaken()[:LISTED])
    right = [true == said for true, said in zip(found.truth, found.said, strict=True)]

    def example(place: int) -> Example:
        said, true = found.classes[found.said[place]], found.classes[found.truth[place]]
        return Example(pictures.of(found.rows[place]), said, true, right=right[place])

    tables = side_by_side(titled("Classes, the worst first", each), titled("What is taken for what", mistaken))
    note = f"{len(found.classes)} classes, each in {len(found.templates)} templates, such as “{found.templates[0]}”."
    return Section("Zero-shot classes", join([tables, _examples(_chosen(right), example)]), note)


def _choice_tiles(found: Classified) -> list[Tile]:
    return [
        Tile(f"{one.label} chosen rightly", percent(one.accuracy), note=f"the commonest class {percent(one.commonest)}")
        for one in found.outputs.values()
    ]


def _choices(output: str, found: Choices) -> Section:
    counts = Counter(found.truth)
    lines = [[found.classes[one], counts[one], percent(found.per_class[found.classes[one]])] for one in sorted(counts)]
    note = f"{len(found.rows)} records, held against `{found.label}`."
    return Section(output, table(["class", "records", "right"], lines[:LISTED]), note)


def _answer_tiles(found: Answered) -> list[Tile]:
    numbers = zip(found.outputs.items(), found.flat().values(), strict=True)
    return [Tile(f"{name}, VQA accuracy", percent(share), note=f"of {len(said)}") for (name, said), share in numbers]


def _answers(output: str, answers: Sequence[Answer]) -> Section:
    lines = [[one.row, one.said, " / ".join(one.given), percent(one.accuracy)] for one in answers[:LISTED]]
    return Section(output, table(["record", "said", "people said", "accuracy"], lines))
