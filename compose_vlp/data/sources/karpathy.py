"""The splits of COCO and Flickr30k that papers report on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from compose_vlp.data.captioned import EACH, Captioned, CaptionedPictures, read_annotations
from compose_vlp.errors import UserError
from compose_vlp.registry import Settings, source


@source("karpathy")
class Karpathy(CaptionedPictures):
    """Captions by Karpathy and Fei-Fei's splits (2015): `dataset_coco.json`, `dataset_flickr30k.json`.

    Fields of a record: `image`, `caption`, `captions`, `id` (the file's `imgid`), `file`. Papers that train on COCO
    take `split: [train, restval]`, 113,287 pictures.
    """

    class Config(Settings):
        """Where the annotations and the pictures are, and which of them."""

        path: str = Field(description="the annotation file")
        images: str = Field(description="folder that the file names of pictures start from")
        each: Literal["picture", "caption"] = Field("picture", description=EACH)
        split: str | tuple[str, ...] = Field("train", description="a split or several: train, restval, val, test")

    def __init__(self, config: Config) -> None:
        _, content = read_annotations(config.path, "images")
        splits = (config.split,) if isinstance(config.split, str) else config.split
        known = {image["split"]: None for image in content["images"] if isinstance(image, dict) and "split" in image}
        for split in splits:
            if split not in known:
                raise UserError(f"{config.path} has no split {split!r}", hints=[f"splits: {', '.join(known)}"])
        super().__init__(config, list(_entries(content["images"], splits)))


def _entries(images: list[Any], splits: tuple[str, ...]) -> Iterator[Captioned]:
    for number, image in enumerate(images):
        if isinstance(image, dict) and image.get("split") not in (*splits, None):
            continue
        try:
            name, sentences, own = image["filename"], image["sentences"], image.get("imgid", number)
            folder = f"{image['filepath']}/" if image.get("filepath") else ""
            yield Captioned(folder + name, tuple(sentence["raw"].strip() for sentence in sentences), own)
        except (KeyError, TypeError, AttributeError) as error:
            yield Captioned("", (), number, f"entry {number} of `images` is no picture with sentences: {error!r}")
