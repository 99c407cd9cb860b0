"""The page itself: one file, that asks nobody but its own server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from compose_vlp.pages import Markup, document, tag, theme_button
from compose_vlp.web.answers import Answers

FOLDER = Path(__file__).parent
SCALES = {
    "match": "The probability that the text is the picture's, by the output match.",
    "similarity": "The cosine of the picture's and the text's embeddings; every model has its own scale.",
}


def page(answers: Answers) -> str:
    """Write the page with what this model can be asked."""
    name, title = answers.asker.blueprint.name, answers.asker.blueprint.document.text("title")
    body = (
        tag("header", tag("div", tag("h1", name), tag("p", title, class_="dim")), theme_button(), class_="top"),
        tag("main", _picture(), tag("div", *_sections(answers), class_="asks")),
    )
    return document(name, *body, style=_file("page.css"), script=_file("page.js"))


def _picture() -> Markup:
    words = tag("span", "Drop a picture here, or choose one", id="words")
    shown = tag("img", id="shown", alt="the picture", hidden=True)
    return tag("label", tag("input", type="file", accept="image/*", id="file"), words, shown, id="drop", tabindex=0)


def _sections(answers: Answers) -> Iterator[Markup]:
    for name, (_, text) in answers.writers.items():
        yield _section("write", name, "What this output says of the picture.", text, name)
    if answers.judge is not None:
        title = "Which text fits"
        yield _section("fit", title, f"One text a line. {SCALES[answers.judge.by]}", "texts")
    if answers.explains:
        yield _section("heat", "Where it is seen", "Grad-CAM of the attention that the text pays to patches.", "text")


def _section(ask: str, title: str, about: str, field: str | None, output: str = "") -> Markup:
    box: Markup | None = None
    if field == "texts":
        box = tag("textarea", rows=4, aria_label="texts", placeholder="a red circle\na blue square")
    elif field is not None:
        box = tag("input", type="text", aria_label=field, placeholder=field)
    button = tag("button", "Ask", type="button", disabled=True)
    answer = tag("div", class_="answer", aria_live="polite")
    heading = tag("h2", title)
    return tag("section", heading, tag("p", about, class_="dim"), box, button, answer, data_ask=ask, data_output=output)


def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
