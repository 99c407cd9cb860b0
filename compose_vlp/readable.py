"""Quantities as people read them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What a terminal obeys and does not show: control characters but tabs and line breaks, marks of direction; and halves
of surrogate pairs, which cannot be written."""


def visible(text: str) -> str:
    """Show what a terminal would obey as one sign each, `\u241b` for an escape: names and captions are anybody's."""
    return UNSEEN.sub(_sign, text)


def _sign(match: re.Match[str]) -> str:
    number = ord(match[0])
    return chr(0x2400 + number) if number < 0x20 else "\u2421" if number == 0x7F else "\ufffd"


def count(number: float) -> str:
    """`86_300_000` is `86.3M`: three figures, with K, M, B or T."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(number) >= 0.9995 * size:
            return f"{_three(number / size)}{letter}"
    return _three(number) if number % 1 else f"{number:.0f}"


def several(number: int, noun: str) -> str:
    """`1 loss`, `3 losses`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}"


def summary(what: str, name: str, *facts: str) -> str:
    """Write the `repr` of what has a name: `<Blueprint coca_tiny: 11 components, 3 losses>`, on one line."""
    named = " ".join(visible(f"{what} {name}").split())
    return f"<{named}: {', '.join(facts)}>" if facts else f"<{named}>"


def with_article(noun: str) -> str:
    """`a component`, `an adapter`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def work(operations: float) -> str:
    """Floating-point operations as `17.0 TFLOP`."""
    for size, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if operations >= 0.9995 * size:
            return f"{_three(operations / size)} {letter}FLOP"
    return f"{operations:.0f} FLOP"


def storage(number: float) -> str:
    """Bytes as `1.5 GB` (decimal units)."""
    for size, letter in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(number) >= 0.9995 * size:
            return f"{_three(number / size)} {letter}"
    return f"{number:.0f} B"


def percent(share: float) -> str:
    """`0.4567` is `45.7 %`."""
    return f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """`75` is `1 min 15 s`; under ten seconds with a tenth."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _three(number: float) -> str:
    """Three significant figures, none of them after the point where there are three before it."""
    digits = 0 if abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
    return f"{number:.{digits}f}"


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names as they are; those that several have, each with its place: `missile (657)`, `missile (744)`."""
    often = Counter(names)
    return tuple(f"{name} ({place})" if often[name] > 1 else name for place, name in enumerate(names))
