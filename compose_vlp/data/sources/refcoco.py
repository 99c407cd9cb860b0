"""Referring expressions: sentences that name one thing of a picture, and its box."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from compose_vlp.data.captioned import read_annotations
from compose_vlp.data.places import find_file, find_pictures
from compose_vlp.data.source import BadRecord, Record, Source
from compose_vlp.errors import UserError
from compose_vlp.registry import Settings, source


class _Expression(NamedTuple):
    """A sentence, the thing that it names, and its picture; or what is wrong with its entry."""

    sentence: str = ""
    file: str = ""
    picture: int = 0
    reference: int = 0
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    broken: str = ""


@source("refcoco")
class RefCoco(Source):
    """RefCOCO, RefCOCO+ and RefCOCOg (Yu et al. 2016) as their authors publish them: a record for every sentence.

    Fields of a record: `image`, `caption` (the sentence), `box` (left, top, width, height, in shares of the picture's),
    `id` (COCO's number of the picture), `reference` (the number of the thing that is named), `file`.
    """

    class Config(Settings):
        """Where the references, COCO's boxes and the pictures are."""

        path: str = Field(description="the references: `refs(unc).p`, or the same list as JSON")
        instances: str = Field(description="`instances.json`: sizes of pictures, and boxes")
        images: str = Field(description="folder of COCO's train2014")
        split: Literal["train", "val", "test", "testA", "testB"] = Field("train", description="split of the references")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.path, self.folder = config.path, find_pictures(config.images, config.path)
        references = _read(find_file(config.path))
        chosen = [
            reference
            for reference in references
            if not isinstance(reference, dict) or reference.get("split") in (config.split, None)
        ]
        if not chosen:
            splits = sorted({str(reference.get("split")) for reference in references})
            raise UserError(
                f"{config.path} has no split {config.split!r}", hints=[f"splits: {', '.join(splits) or 'none'}"]
            )
        _, content = read_annotations(config.instances, "images", "annotations")
        pictures = {picture.get("id"): picture for picture in content["images"] if isinstance(picture, dict)}
        things = {thing.get("id"): thing for thing in content["annotations"] if isinstance(thing, dict)}
        self.expressions = [
            expression for reference in chosen for expression in _expressions(reference, pictures, things)
        ]

    def __len__(self) -> int:
        return len(self.expressions)

    def record(self, index: int) -> Record:
        expression = self.expressions[index]
        if expression.broken:
            raise BadRecord(f"{self.path}: {expression.broken}")
        return {
            "image": self.folder / expression.file,
            "caption": expression.sentence,
            "box": expression.box,
            "id": expression.picture,
            "reference": expression.reference,
            "file": expression.file,
        }


class _Plain(pickle.Unpickler):
    """Reads numbers, texts, lists and dictionaries; what would import or call anything is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise UserError(f"the pickle wants {module}.{name}, and a list of references needs none: it is not opened")


def _read(file: Path) -> list[Any]:
    try:
        with file.open("rb") as stream:
            content = json.load(stream) if file.suffix == ".json" else _Plain(stream, encoding="utf-8").load()
    except (ValueError, EOFError, IndexError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{file} is no list of references: {error}") from error
    if not isinstance(content, list):
        raise UserError(f"{file} is no list of references", hints=[f"it holds {type(content).__name__}"])
    return content


def _expressions(entry: Any, pictures: dict[Any, Any], things: dict[Any, Any]) -> list[_Expression]:
    """List a reference's sentences, each with the thing's box in shares of its picture."""
    try:
        picture, thing = pictures[entry["image_id"]], things[entry["ann_id"]]
        left, top, width, height = map(float, thing["bbox"])
        across, down = float(picture["width"]), float(picture["height"])
        box = (left / across, top / down, width / across, height / down)
        file, number, reference = picture["file_name"], entry["image_id"], entry["ref_id"]
        return [_Expression(sentence["sent"].strip(), file, number, reference, box) for sentence in entry["sentences"]]
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        number = entry.get("ref_id") if isinstance(entry, dict) else entry
        return [_Expression(broken=f"reference {number!r} has no picture with a box and sentences: {error!r}")]
