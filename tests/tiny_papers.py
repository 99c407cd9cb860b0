"""The five papers at a few thousand weights, on drawn pictures: for what reaches all of them by one override."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from compose_vlp.api import Blueprint

_PICTURES: Final = ("inputs.image.size=16", "inputs.caption.max_length=12")
_TOWERS: Final = (
    "inputs.image.size=16",
    "components.vision.patch=8",
    "components.vision.stem=patch",
    "components.vision.stem_depth=0",
    "components.*.mlp_width=24",
    "components.image_proj.out=16",
    "components.text_proj.out=16",
)
_QUEUED: Final = (*_TOWERS, "components.*.width=16", "components.bert.vocab_size=300", "components.memory.size=32")
_MULTIWAY: Final = (
    *_PICTURES,
    "components.patches_of.width=16",
    "components.patches_of.patch=8",
    "components.words_of.width=16",
    "components.*.heads=2",
    "components.*.mlp_width=24",
)
PAPERS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "ALBEF": ("tiny/albef", _QUEUED),
    "BLIP": ("tiny/blip", _QUEUED),
    "CoCa": (
        "tiny/coca",
        (*_TOWERS, "components.*.width=32", "components.pool_many.queries=5", "components.bpe.vocab_size=300"),
    ),
    "VLMo": (
        "vlmo_base",
        (
            *_MULTIWAY,
            "components.lower.depth=1",
            "components.upper.depth=1",
            "components.lower.layers_after=1",
            "components.upper.layers_before=1",
            "components.*_proj.out=12",
            "components.*_vl.out=12",
            "components.bert.vocab_size=300",
            "stages.language.set={inputs.caption.max_length: 14}",
        ),
    ),
    "BEiT-3": (
        "beit3_base",
        (
            *_MULTIWAY,
            "components.backbone.depth=2",
            "components.words_of.length=16",
            "components.spm={use: wordpiece, vocab_size: 300}",
            "components.hide_pair.patch=8",
            "~losses.images",  # their codes are those of a tokenizer that a file brings
            "~losses.pair_images",
            "stages.pretrain.data={main: pairs, texts: texts}",
            "~start",
            "~freeze",
        ),
    ),
}
"""Each paper's blueprint, and the overrides that make it tiny."""


def tiny_paper(paper: str, *overrides: str, plugins: Sequence[Path] = (), batch: int = 4, steps: int = 2) -> Blueprint:
    """A paper in its tiny form, on the drawn pictures of `scenes`, with further overrides in place of its own."""
    name, small = PAPERS[paper]
    document = Blueprint.load(name, overrides=small).document
    data = [
        f"data.{source}={{use: scenes, size: 16, count: 24, fields: {{text: caption}}}}"
        for source in document.data.names
    ]
    lengths = [
        f"stages.{stage}.{setting}"
        for stage in document.stages.names
        for setting in (f"batch={batch}", f"length={steps} steps")
    ]
    given = {override.split("=")[0] for override in overrides}
    chosen = [override for override in (*small, *data, *lengths) if override.split("=")[0] not in given]
    return Blueprint.load(name, overrides=[*chosen, *overrides], plugins=plugins)
