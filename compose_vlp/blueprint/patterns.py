"""Patterns over paths of parameters: `vision`, `**.bias`, `text.layers.*.norm`; `**` stands for any depth."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

from compose_vlp.errors import nearest


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    pieces = []
    for segment in pattern.split("."):
        if segment == "**":
            pieces.append(r"(?:[^.]+\.)*")
        else:
            pieces.append(re.escape(segment).replace(r"\*", r"[^.]*") + r"\.")
    return re.compile("".join(pieces) + r"(?:.*)")


def matches(pattern: str, path: str) -> bool:
    """Does the pattern name this path, or something that it lies below (`vision` names `vision.patch.weight`)?"""
    return _expression(pattern).fullmatch(path + ".") is not None


def matches_any(patterns: Iterable[str], path: str) -> bool:
    """Does any of the patterns name this path?"""
    return any(matches(pattern, path) for pattern in patterns)


def near_names(pattern: str, names: Collection[str]) -> tuple[str, ...]:
    """Hints for a pattern that names none of these paths: the nearest names at its first word that leads nowhere."""
    words = pattern.split(".")
    known = max(
        (n for n in range(len(words) + 1) if not n or any(matches(".".join(words[:n]), name) for name in names)),
        default=0,
    )
    below: list[str] = []
    if known and "**" not in words[:known]:
        inside = [name.split(".") for name in names if matches(".".join(words[:known]), name)]
        below = list(dict.fromkeys(name[known] for name in inside if len(name) > known))
    wrong = words[known] if known < len(words) else words[-1]
    near = nearest(wrong, below or sorted({word for name in names for word in name.split(".")}))
    hints: tuple[str, ...] = (f"did you mean {' or '.join(repr(name) for name in near)}?",) if near else ()
    return (*hints, f"`{'.'.join(words[:known])}` has {', '.join(below[:8])}") if below else hints
