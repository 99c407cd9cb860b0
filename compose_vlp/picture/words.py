"""How wide words are, without a font at hand: widths of a common sans-serif face, rounded up."""

from __future__ import annotations

from typing import Final

_NARROW: Final = frozenset("iljtfrI.,:;'|!()[]{}/ ·")
_WIDE: Final = frozenset("mwMW@%×—")
_MARGIN: Final = 1.04  # faces differ


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Measure one line of text in pixels at a font size in pixels."""
    units = sum(_units(character) for character in text)
    return units * size * _MARGIN * (1.06 if bold else 1.0)


def _units(character: str) -> float:
    if character in _NARROW:
        return 0.34
    if character in _WIDE:
        return 0.86
    if character.isupper():
        return 0.68
    return 0.56


def shortened(text: str, size: float, room: float) -> str:
    """Return the text, or its beginning with an ellipsis where it is wider than `room`."""
    if width(text, size) <= room:
        return text
    while text and width(text + "…", size) > room:
        text = text[:-1]
    return text + "…"
