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
    tiles,
    titled,
)
from compose_vlp.evaluation.reranking import Reranked
from compose_vlp.evaluation.results import Results
from compose_vlp.evaluation.retrieval import Retrieval
from compose_vlp.evaluation.zero_shot import Classification
from compose_vlp.pages import Markup, join, table
from compose_vlp.readable import percent, several
from compose_vlp.runtime.inference.outputs import Asker

SHOWN: Final = 12
"""Right examples, and as many wrong ones, in a section; twice as many where nothing is right or wrong."""
LISTED: Final = 30
"""Lines of a table."""


def page_of(results: Results, asker: Asker, source: Source, *, title: str, subtitle: str) -> str:
    """Show the results with pictures, as the records hold them, before any resizing."""
    sections: list[Section] = []
    for task, measured in results.tasks.items():
        if isinstance(measured, Classified):
            sections += [_choices(name, choices) for name, choices in measured.outputs.items()]
        elif isinstance(measured, Answered):
            sections += [_answers(name, answers) for name, answers in measured.outputs.items()]
        elif isinstance(measured, Retrieval):
            heading = "Retrieval, re-ranked" if isinstance(measured, Reranked) else "Retrieval"
            sections.append(_retrieval(measured, _Pictures(asker, source, task), heading))
        elif isinstance(measured, Captions):
            sections.append(_captions(measured, _Pictures(asker, source, task)))
        elif isinstance(measured, Classification):
            sections.append(_classes(measured, _Pictures(asker, source, task)))
    return results_page(title, subtitle, [Section("Scores", tiles(tiles_of(results))), *sections])


def tiles_of(results: Results) -> list[Tile]:
    """Give the numbers that matter most, each beside what to hold it against; the page and the terminal show them."""
    return [tile for measured in results.tasks.values() for tile in _tiles(measured)]


def _tiles(measured: Any) -> list[Tile]:
    if isinstance(measured, Classified):
        return _choice_tiles(measured)
    if isinstance(measured, Answered):
        return _answer_tiles(measured)
    if isinstance(measured, Grounded):
        return _pointing_tiles(measured)
    if isinstance(measured, Retrieval):
        return _retrieval_tiles(measured)
    if isinstance(measured, Captions):
        return _caption_tiles(measured)
    return _class_tiles(measured) if isinstance(measured, Classification) else []


class _Pictures:
    """The pictures of records, by the field that a task shows its model."""

    def __init__(self, asker: Asker, source: Source, task: str) -> None:
        output = "caption" if task == "captioning" else "image_embedding"
        self._field = next(field for field, kind in asker.types_read(output).items() if kind == "image")
        self._source = source

    def of(self, row: int) -> Image.Image:
        """Return the picture of a record that the task has read."""
        value: Any = self._source.record(row)[self._field]
        return drawn_picture(value() if callable(value) else value, self._field)


def _chosen(right: Sequence[bool]) -> list[int]:
    """Choose the first places that are wrong and the first that are right, in their order."""
    wrong = [place for place, ok in enumerate(right) if not ok][:SHOWN]
    return sorted(wrong + [place for place, ok in enumerate(right) if ok][:SHOWN])


def _examples(places: Iterable[int], make: Callable[[int], Example]) -> Markup:
    return gallery([make(place) for place in places])


def _pointing_tiles(grounded: Grounded) -> list[Tile]:
    return [
        Tile(
            f"pointing into the box, {name}",
            percent(pointing.accuracy),
            note=f"anywhere {percent(pointing.chance)}, the middle {percent(pointing.middle)}; {NOT_COMPARABLE}",
        )
        for name, pointing in grounded.outputs.items()
    ]


def _retrieval_tiles(retrieval: Retrieval) -> list[Tile]:
    recall, chance = retrieval.recall, f"chance {percent(retrieval.recall.chance)}"
    how = ", re-ranked" if isinstance(retrieval, Reranked) else ""
    return [
        Tile(f"text for a picture, recall@1{how}", percent(recall.image_to_text[1]), note=chance),
        Tile(f"picture for a text, recall@1{how}", percent(recall.text_to_image[1]), note=chance),
    ]


def _retrieval(retrieval: Retrieval, pictures: _Pictures, title: str) -> Section:
    recall = retrieval.recall
    sides = (("text for a picture", recall.image_to_text), ("picture for a text", recall.text_to_image))
    headings = ["", *(f"recall@{rank}" for rank in recall.image_to_text)]
    numbers = table(headings, [[name, *(percent(share) for share in ranks.values())] for name, ranks in sides])

    def example(place: int) -> Example:
        own = " / ".join(retrieval.captions[place])
        return Example(pictures.of(retrieval.rows[place]), retrieval.first[place], own, right=retrieval.right[place])

    shown = titled("The first text for a picture", _examples(_chosen(retrieval.right), example))
    size = f"{several(recall.images, 'picture')}, {several(recall.texts, 'text')}"
    note = f"{size}; a blind guess is right in {percent(recall.chance)}."
    return Section(title, join([numbers, shown]), note)


def _caption_tiles(captions: Captions) -> list[Tile]:
    scores = captions.scores
    return [
        *([Tile("CIDEr-D", f"{scores.cider:.2f}", note="10 is its top")] if scores.cider is not None else []),
        Tile("BLEU-4", f"{scores.bleu[3]:.3f}", note=f"words cut by: {scores.tokenizer}"),
        Tile("different captions", percent(scores.distinct), note=f"of {scores.captions}"),
    ]


def _captions(captions: Captions, pictures: _Pictures) -> Section:
    def example(place: int) -> Example:
        caption, true = captions.captions[place], captions.references[place]
        words = words_of(caption)
        exact = (words != "" and words in map(words_of, true)) or None  # other words may be as right
        return Example(pictures.of(captions.rows[place]), caption, " / ".join(true), right=exact)

    shown = range(min(2 * SHOWN, len(captions.rows)))
    note = f"The first {len(shown)} of {len(captions.rows)}; below each what its record says."
    return Section("Captions", _examples(shown, example), note)


def _class_tiles(classification: Classification) -> list[Tile]:
    chance = f"chance {percent(classification.chance)}; the commonest class {percent(classification.commonest)}"
    return [
        Tile("class named rightly", percent(classification.top[1]), note=chance),
        Tile(
            "mean of the classes",
            percent(classification.mean_of_classes),
            note=f"{len(classification.per_class)} classes with records",
        ),
    ]


def _classes(result: Classification, pictures: _Pictures) -> Section:
    worst = sorted(result.per_class.items(), key=lambda scored: scored[1])[:LISTED]
    counts = dict(zip(result.classes, result.confusion.sum(1).tolist(), strict=True))
    each = table(["class", "records", "right"], [[name, counts[name], percent(share)] for name, share in worst])
    mistaken = table(["class", "taken for", "records"], result.mistaken()[:LISTED])
    right = [true == chosen for true, chosen in zip(result.truth, result.said, strict=True)]

    def example(place: int) -> Example:
        named, true = result.classes[result.said[place]], result.classes[result.truth[place]]
        return Example(pictures.of(result.rows[place]), named, true, right=right[place])

    tables = side_by_side(titled("Classes, the worst first", each), titled("What is taken for what", mistaken))
    note = f"{len(result.classes)} classes, each in {len(result.templates)} templates, such as “{result.templates[0]}”."
    return Section("Zero-shot classes", join([tables, _examples(_chosen(right), example)]), note)


def _choice_tiles(classified: Classified) -> list[Tile]:
    return [
        Tile(
            f"{choices.label} chosen rightly",
            percent(choices.accuracy),
            note=f"the commonest class {percent(choices.commonest)}",
        )
        for choices in classified.outputs.values()
    ]


def _choices(output: str, choices: Choices) -> Section:
    counts = Counter(choices.truth)
    lines = [
        [choices.classes[number], counts[number], percent(choices.per_class[choices.classes[number]])]
        for number in sorted(counts)
    ]
    note = f"{several(len(choices.rows), 'record')}, held against `{choices.label}`."
    return Section(output, table(["class", "records", "right"], lines[:LISTED]), note)


def _answer_tiles(answered: Answered) -> list[Tile]:
    numbers = zip(answered.outputs.items(), answered.flat().values(), strict=True)
    return [
        Tile(f"{name}, VQA accuracy", percent(share), note=f"of {len(answers)}") for (name, answers), share in numbers
    ]


def _answers(output: str, answers: Sequence[Answer]) -> Section:
    lines = [
        [answer.row, answer.said, " / ".join(answer.given), percent(answer.accuracy)] for answer in answers[:LISTED]
    ]
    return Section(output, table(["record", "said", "people said", "accuracy"], lines))
