"""The colours of a picture, light and dark, as CSS. Literal values: many viewers of SVG know no variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Tone(NamedTuple):
    """Of one family of boxes."""

    fill: str
    edge: str


class Palette(NamedTuple):
    """Of one mode."""

    ground: str
    ink: str
    dim: str
    wire: str
    teacher: str
    families: Mapping[str, Tone]


LIGHT: Final = Palette(
    ground="#ffffff",
    ink="#1b2330",
    dim="#5d6878",
    wire="#a3aebd",
    teacher="#7440d0",
    families={
        "input": Tone("#e3f5ec", "#2b9567"),
        "tower": Tone("#e6effd", "#2f6bd8"),
        "head": Tone("#e0f3f7", "#12839d"),
        "choice": Tone("#fdeedd", "#c26a06"),
        "function": Tone("#f1f3f6", "#99a4b3"),
        "loss": Tone("#fde9ec", "#cf3a55"),
        "output": Tone("#fbf2d3", "#9d7b06"),
    },
)
DARK: Final = Palette(
    ground="#11151b",
    ink="#e7ebf1",
    dim="#9aa6b6",
    wire="#56627a",
    teacher="#b596f5",
    families={
        "input": Tone("#14302a", "#49b987"),
        "tower": Tone("#17294a", "#6a9df5"),
        "head": Tone("#12323b", "#43b4cd"),
        "choice": Tone("#3b2a14", "#e29a46"),
        "function": Tone("#20272f", "#6b7787"),
        "loss": Tone("#3d1b25", "#ee7389"),
        "output": Tone("#363013", "#d2b143"),
    },
)


def css() -> str:
    """Rules for both modes; a page's `data-theme` outdoes the system's wish."""
    dark = _rules(DARK)
    return (
        f"{_prefixed(':root', _rules(LIGHT))}"
        f"{_prefixed(':root[data-theme=dark]', dark)}"
        f"@media (prefers-color-scheme: dark){{{_prefixed(':root:not([data-theme=light])', dark)}}}"
    )


def _rules(palette: Palette) -> dict[str, str]:
    rules = {
        ".ground": f"fill:{palette.ground}",
        ".ink": f"fill:{palette.ink}",
        ".dim": f"fill:{palette.dim}",
        ".wire": f"stroke:{palette.wire}",
        ".tip": f"fill:{palette.wire}",
    }
    for name, tone in palette.families.items():
        rules[f".{name} .body"] = f"fill:{tone.fill};stroke:{tone.edge}"
        rules[f".{name} .bar"] = f"fill:{tone.edge}"
    rules[".teacher .body"] = f"stroke:{palette.teacher}"  # after the families, to outdo them
    rules[".teacher .world"] = f"fill:{palette.teacher}"
    return rules


def _prefixed(root: str, rules: Mapping[str, str]) -> str:
    return "".join(f"{root} {selector}{{{style}}}" for selector, style in rules.items())
