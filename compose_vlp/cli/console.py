"""Where commands print: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from compose_vlp.readable import UNSEEN, visible


class SafeConsole(Console):
    """A console that obeys nothing which stands in a text: what a terminal would obey is shown."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Give the segments of what is printed."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


class _Voice:
    """How much this process says beside results and mistakes; set once, from the command line."""

    quiet = False


def be_quiet(quiet: bool) -> None:
    """Leave notes and progress out from here on, or not."""
    _Voice.quiet = quiet


def is_quiet() -> bool:
    """Tell whether notes and progress are left out: as asked, or since the first process that `torchrun` started says
    them."""
    return _Voice.quiet or ("LOCAL_RANK" in os.environ and os.environ.get("RANK", "0") != "0")


def out() -> Console:
    """For results. Made anew at each use, so that it follows redirection."""
    return SafeConsole(highlight=False, markup=False)


def err() -> Console:
    """For progress and notes; says nothing where `is_quiet`."""
    return SafeConsole(stderr=True, highlight=False, markup=False, quiet=is_quiet())


def mistakes() -> Console:
    """For what went wrong."""
    return SafeConsole(stderr=True, highlight=False, markup=False)


def print_json(value: Any) -> None:
    """One JSON document on standard output, and nothing else there.

    Numbers that are none are null: JSON has neither NaN nor infinity.
    """
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(UNSEEN.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(own) for key, own in value.items()}
    return [_plain(own) for own in value] if isinstance(value, list | tuple) else value
