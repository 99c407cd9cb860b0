"""The frame of every page: one file, no request to anywhere, light and dark."""

from __future__ import annotations

from pathlib import Path

from compose_vlp.pages.markup import Markup, tag

FOLDER = Path(__file__).parent


def document(title: str, *body: object, style: str = "", script: str = "") -> str:
    """Write a whole HTML page. `style` and `script` are added to what every page has."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(shared("page.css")), Markup(style)),
        tag("script", Markup(shared("theme.js"))),
    )
    end = tag("script", Markup(script)) if script else None
    return f"<!doctype html>\n{tag('html', head, tag('body', *body, end), lang='en')}\n"


def theme_button() -> Markup:
    """Switches between light and dark; the page begins as the system has it."""
    return tag("button", "◐", class_="theme", type="button", title="light or dark", aria_label="light or dark")


def shared(name: str) -> str:
    """Read a style or script of this folder: `chart.css`, `chart.js` belong to `curves`."""
    return (FOLDER / name).read_text(encoding="utf-8")
