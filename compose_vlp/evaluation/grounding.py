"""Pointing: does the highest place of a text's map lie in the box of what the text names?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from compose_vlp.blueprint.inputs import ImageInput
from compose_vlp.data.record_pictures import drawn_picture
from compose_vlp.data.source import Record, Source
from compose_vlp.errors import UserError
from compose_vlp.evaluation.batches import batches, finite, no_outputs
from compose_vlp.evaluation.embeddings import Tick, silent
from compose_vlp.evaluation.heatmap import Frame, frame_of, peak
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.relevance import Explainer

BOX: Final = "box"
"""The field that holds where it is: left, top, width and height, in shares of the picture's."""
PHRASE: Final = "phrase"
"""The field that holds the words for it, where a record's text says more than that."""
NOT_COMPARABLE: Final = "not comparable with figures that rank a detector's boxes, as those of papers on RefCOCO+ do"


@dataclass(frozen=True)
class Pointing:
    """Where an output pointed, (x, y) in shares of each picture, and the box that it should have pointed into."""

    rows: tuple[int, ...]
    texts: tuple[str, ...]
    points: tuple[tuple[float, float], ...]
    boxes: tuple[Frame, ...]

    @property
    def right(self) -> tuple[bool, ...]:
        """Tell whether each point lies in its box."""
        return tuple(_inside(*point, box) for point, box in zip(self.points, self.boxes, strict=True))

    @property
    def accuracy(self) -> float:
        """Return the share of points in their boxes (the pointing game of Zhang et al. 2018, without its margin)."""
        return sum(self.right) / len(self.rows)

    @property
    def chance(self) -> float:
        """Return the accuracy of a point anywhere: the boxes' mean area."""
        return sum(box.width * box.height for box in self.boxes) / len(self.rows)

    @property
    def middle(self) -> float:
        """Return the accuracy of always pointing at the middle."""
        return sum(_inside(0.5, 0.5, box) for box in self.boxes) / len(self.rows)


@dataclass(frozen=True)
class Grounded:
    """Pointing by output."""

    outputs: Mapping[str, Pointing]

    def flat(self) -> dict[str, float]:
        """One name for each number; an output that is the only one is not named in them."""
        numbers: dict[str, float] = {}
        for name, pointing in self.outputs.items():
            before = f"{name}_" if len(self.outputs) > 1 else ""
            numbers |= {
                f"{before}pointing_accuracy": pointing.accuracy,
                f"{before}pointing_accuracy_of_chance": pointing.chance,
                f"{before}pointing_accuracy_of_middle": pointing.middle,
            }
        return numbers

    def as_json(self) -> dict[str, Any]:
        """Return the numbers, and every point with its box."""
        outputs = {
            name: [
                {"record": row, "text": text, "point": list(point), "box": list(box), "right": right}
                for row, text, point, box, right in zip(
                    pointing.rows, pointing.texts, pointing.points, pointing.boxes, pointing.right, strict=True
                )
            ]
            for name, pointing in self.outputs.items()
        }
        return {**self.flat(), "note": NOT_COMPARABLE, "outputs": outputs}


class _Named(Source):
    """Records whose text is the words for one thing alone."""

    def __init__(self, source: Source, field: str) -> None:
        super().__init__(source.config)
        self.source, self.field, self.skip_limit = source, field, source.skip_limit

    def __len__(self) -> int:
        return len(self.source)

    def record(self, index: int) -> Record:
        record = self.source.record(index)
        return {**record, self.field: record[PHRASE]} if PHRASE in record else record


def grounders(asker: Asker) -> dict[str, str]:
    """List outputs that point (of the form `relevance` of a picture and a text), each with the input of its text."""
    texts = {}
    for name, output in asker.blueprint.outputs.items():
        types = asker.types_read(name) if output.form == "relevance" else {}
        if sorted(types.values()) == ["image", "text"]:
            texts[name] = next(inputs for field, inputs in asker.fields_read(name).items() if types[field] == "text")[0]
    return texts


def evaluate_grounding(asker: Asker, source: Source, count: int = 1000, *, tick: Tick = silent) -> Grounded:
    """Compare where `relevance` outputs point in the first `count` records with the field `box`.

    The words are those of the field `phrase`, of the text's own where there is none. Records without a box or without
    words are left out.

    Raises:
        UserError: no output points, a box is no box, or no record has one.
    """
    texts = grounders(asker)
    if not texts:
        raise no_outputs(asker, "grounding")
    return Grounded({output: _pointing(asker, source, count, output, text, tick) for output, text in texts.items()})


def _pointing(asker: Asker, source: Source, count: int, output: str, text: str, tick: Tick) -> Pointing:
    inputs, explainer = asker.blueprint.inputs, Explainer(asker, output)
    settings, field = inputs[explainer.shown], inputs[text].field or text
    assert isinstance(settings, ImageInput)
    named = _Named(source, field)
    pointed: list[tuple[int, str, tuple[float, float], Frame]] = []
    done = 0
    for rows, values in batches(asker, named, asker.inputs_read(output), count):
        maps = finite(explainer.maps_of_batch(values).whole, output)
        for row, heat in zip(rows, maps, strict=True):
            record = named.record(row)
            if record.get(BOX) is None:
                continue
            seen = _seen(settings, record[settings.field or explainer.shown])
            x, y = peak(heat)
            words = record[field]() if callable(record[field]) else record[field]
            phrase = words if isinstance(words, str) else words[0]
            pointed.append((row, phrase, (seen.left + x * seen.width, seen.top + y * seen.height), _box(record, row)))
        done += len(rows)
        tick(done)
    if not pointed:
        raise UserError(f"none of the first {count} records has a picture, words and a {BOX!r}")
    numbers, texts, points, boxes = zip(*pointed, strict=True)
    return Pointing(numbers, texts, points, boxes)


def _seen(settings: ImageInput, value: Any) -> Frame:
    """Frame what the model sees of a record's picture; its size is asked for where it is not stretched."""
    if settings.resize == "stretch":
        return frame_of("stretch", 1, 1)
    value = value() if callable(value) else value
    return frame_of(settings.resize, *drawn_picture(value, "the picture").size)


def _box(record: Record, row: int) -> Frame:
    value = record[BOX]() if callable(record[BOX]) else record[BOX]
    numbers = [float(number) for number in value] if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(numbers) != 4 or min(numbers[2:]) <= 0 or max(numbers) > 1:
        raise UserError(
            f"record {row}: {value!r} is no {BOX!r}",
            hints=["left, top, width and height, in shares of the picture's width and height"],
        )
    return Frame(*numbers)


def _inside(x: float, y: float, box: Frame) -> bool:
    return box.left <= x <= box.left + box.width and box.top <= y <= box.top + box.height
