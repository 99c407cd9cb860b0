"""Freshly initialised models of a few thousand weights, with a vocabulary: what tests of a model's use ask."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import build
from compose_vlp.data import open_source
from compose_vlp.data.corpus import prepare_tokenizers
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.sources import open_tokenizers

TOWERS = (
    "inputs.image.size=16",
    "components.vision.patch=8",
    "components.vision.stem=patch",
    "components.vision.stem_depth=0",
    "components.vision.width=32",
    "components.text.width=32",
    "components.*.mlp_width=48",
    "components.image_proj.out=24",
    "components.text_proj.out=24",
    "components.bert.vocab_size=320",
)
"""What makes the towers of tiny/albef and tiny/blip smaller still, also in their tasks."""

TINY = (*TOWERS, "components.memory.size=64")
"""The same for their pretraining, which has a queue."""


def tiny(*names: str, overrides: Sequence[str] = (), small: Sequence[str] = TINY, seed: int = 0) -> Asker:
    """A model of these blueprints with fresh weights, on vocabularies learnt from `scenes`."""
    return _asker(names, (*small, *overrides), seed)


@cache
def _asker(names: tuple[str, ...], overrides: tuple[str, ...], seed: int) -> Asker:
    checked = Blueprint.load(*names, overrides=list(overrides)).check()
    tokenizers = open_tokenizers(checked)
    prepare_tokenizers(tokenizers, checked.inputs, {"main": open_source({"use": "scenes", "count": 300, "size": 16})})
    return Asker(checked, build(checked, "cpu", seed).eval(), tokenizers, torch.device("cpu"))
