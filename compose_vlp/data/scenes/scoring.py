"""How much of a scene a caption names: the measure of captions where the truth is known."""

from __future__ import annotations

import re
from collections import Counter

from compose_vlp.data.scenes.wording import NUMBERS, SIZE_WORDS, plural
from compose_vlp.data.scenes.world import COLOURS, SHAPES, Scene

_SIZES = "|".join(word for words in SIZE_WORDS.values() for word in words)
_COUNTS = {word: number for number, word in enumerate(NUMBERS) if number}
_SINGULAR = {plural(shape): shape for shape in SHAPES} | {shape: shape for shape in SHAPES}
_MENTION = re.compile(
    rf"\b(?:({'|'.join(_COUNTS)})\s+)?(?:(?:{_SIZES})\s+)*({'|'.join(COLOURS)})\s+({'|'.join(_SINGULAR)})\b"
)


def mentions(caption: str) -> Counter[tuple[str, str]]:
    """Count how often a caption names each colour with a shape: 'two red circles' names a red circle twice."""
    counts: Counter[tuple[str, str]] = Counter()
    for number, colour, shape in _MENTION.findall(caption.lower()):
        counts[colour, _SINGULAR[shape]] += _COUNTS.get(number, 1)
    return counts


def named_objects(caption: str, truth: Scene) -> float:
    """Measure the share of the scene's things that a caption names by colour and shape; a mention serves one thing."""
    there = Counter((thing.colour, thing.shape) for thing in truth.things)
    return (there & mentions(caption)).total() / there.total()
