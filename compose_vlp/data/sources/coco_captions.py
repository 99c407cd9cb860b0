"""COCO's captions: its annotation file and its folder of pictures."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from compose_vlp.data.captioned import EACH, Captioned, CaptionedPictures, read_annotations
from compose_vlp.registry import Settings, source


@source("coco_captions")
class CocoCaptions(CaptionedPictures):
    """Captions as COCO publishes them: `captions_train2017.json` and the folder `train2017` (Chen et al. 2015).

    Fields of a record: `image`, `caption`, `captions`, `id` (COCO's number of the picture), `file`. A caption of a
    picture that the file does not list, and a picture without a caption, are broken records.
    """

    class Config(Settings):
        """Where the annotations and the pictures are."""

        path: str = Field(description="the annotation file")
        images: str = Field(description="folder that the file names of pictures start from")
        each: Literal["picture", "caption"] = Field("picture", description=EACH)

    def __init__(self, config: Config) -> None:
        _, content = read_annotations(config.path, "images", "annotations")
        super().__init__(config, _entries(content["images"], content["annotations"]))


def _entries(images: list[Any], annotations: list[Any]) -> list[Captioned]:
    """List the pictures in the order of the file, then what is wrong."""
    files: dict[Any, str] = {}
    broken: list[str] = []
    for number, image in enumerate(images):
        if _has(image, id=int, file_name=str):
            files[image["id"]] = image["file_name"]
        else:
            broken.append(f"entry {number} of `images` has no `id` and `file_name`")
    captions: dict[Any, list[str]] = {key: [] for key in files}
    for number, note in enumerate(annotations):
        if not _has(note, image_id=int, caption=str):
            broken.append(f"entry {number} of `annotations` has no `image_id` and `caption`")
        elif note["image_id"] not in files:
            broken.append(f"entry {number} of `annotations` is of picture {note['image_id']}, which is not listed")
        else:
            captions[note["image_id"]].append(note["caption"].strip())
    whole = [Captioned(file, tuple(captions[key]), key) for key, file in files.items()]
    return [*whole, *(Captioned("", (), 0, reason) for reason in broken)]


def _has(entry: object, **fields: type) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in fields.items())
