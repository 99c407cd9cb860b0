"""Patterns over paths of parameters: `vision`, `**.bias`, `text.layers.*.norm`; `**` stands for any depth."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


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
