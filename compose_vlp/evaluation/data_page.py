"""A page of what a model sees of a data set, beside what the data set holds. One file, no requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compose_vlp.blueprint.inputs import ImageInput
from compose_vlp.data.record_pictures import drawn_picture
from compose_vlp.data.source import BadRecord, Source
from compose_vlp.data.survey import Spread, Survey
from compose_vlp.evaluation.page import Section, Tile, picture_uri, results_page, tiles
from compose_vlp.evaluation.seeing import Example, Sight, TokenLengths, Tokens
from compose_vlp.pages import Markup, join, table, tag
from compose_vlp.readable import percent, several

EXAMPLES = 24
MOST_BROKEN = 50
MOST_PADDING = 60


def data_page(sight: Sight, survey: Survey, tokens: Mapping[str, TokenLengths], *, title: str) -> str:
    """Write the whole page."""
    sections = [
        Section("What there is", tiles(list(_tiles(survey, tokens))), _read(survey)),
        Section("What the model sees", _examples(sight), _note(sight)),
    ]
    repeated = [(name, text, count) for name, texts in survey.texts.items() for text, count in texts.repeated.items()]
    if repeated:
        rows = [(text[:200], name, f"{count:,}") for name, text, count in repeated]
        sections.append(Section("Texts that repeat", table(("text", "field", "times"), rows)))
    if survey.broken:
        first = [(reason, f"{index:,}") for index, reason in list(survey.broken.items())[:MOST_BROKEN]]
        note = f"The first {len(first)} of {len(survey.broken):,}; all are skipped."
        sections.append(Section("Broken records", table(("reason", "record"), first), note))
    style = Path(__file__).with_name("data_page.css").read_text(encoding="utf-8")
    subtitle = "; ".join(sight.notes) or "What training and evaluation are fed, read as they would read it"
    return results_page(title, subtitle, sections, style=style)


def _note(sight: Sight) -> str:
    augmented = any(
        isinstance(settings, ImageInput) and settings.augment is not None for settings in sight.inputs.values()
    )
    epochs = ", then after crop and flip as the first epochs of training show it" if augmented else ""
    return f"Each picture as it is evaluated{epochs}. Texts as tokens, with the padding of a batch of these records."


def _read(survey: Survey) -> str:
    return (
        ""
        if survey.read == survey.records
        else f"{survey.read:,} of {survey.records:,} records were read, evenly spread."
    )


def _tiles(survey: Survey, tokens: Mapping[str, TokenLengths]) -> Iterator[Tile]:
    yield Tile("records", f"{survey.records:,}")
    yield Tile("broken", f"{len(survey.broken):,}", note=percent(len(survey.broken) / max(1, survey.read)))
    for name, pictures in survey.pictures.items():
        size = f"{pictures.width.median:,.0f} × {pictures.height.median:,.0f}"
        span = f"{_range(pictures.width)} wide, {_range(pictures.height)} high"
        yield Tile(f"{name}: median size", size, note=f"{span}; {pictures.copies:,} copies")
    for name, texts in survey.texts.items():
        note = f"{_range(texts.words)}; {several(texts.count, 'text')}, {texts.copies:,} copies"
        yield Tile(f"{name}: median words", f"{texts.words.median:,.0f}", note=note)
    for name, spread in tokens.items():
        note = f"{_range(spread.lengths)}; {percent(spread.cut)} are cut at {spread.frame}"
        yield Tile(f"{name}: median tokens", f"{spread.lengths.median:,.0f}", note=note)


def _range(spread: Spread) -> str:
    return f"{spread.least:,.0f} to {spread.most:,.0f}"


def _examples(sight: Sight) -> Markup:
    return tag("div", *(_example(sight.source, example) for example in sight.examples(EXAMPLES)), class_="records")


def _example(source: Source, example: Example) -> Markup:
    views = [
        tag("div", *_views(name, [plain, *example.trained[name]]), class_="views")
        for name, plain in example.plain.items()
    ]
    texts = [_tokens(name, text) for name, several in example.texts.items() for text in several]
    others = [tag("p", tag("b", name), value, class_="tokens") for name, value in example.others.items()]
    return tag("div", _original(source, example), tag("div", *views, *texts, *others), class_="record")


def _original(source: Source, example: Example) -> Markup:
    """Show the record's first picture as it is, with its text."""
    record = source.record(example.index)
    words = [text for text in record.values() if isinstance(text, str)]
    caption = tag("figcaption", tag("p", f"record {example.index:,}", class_="dim"), tag("p", (words or [""])[0][:300]))
    for value in record.values():
        opened = value() if callable(value) else value
        uri = _uri(opened)
        if uri is not None:
            return tag("figure", tag("img", src=uri, alt="", loading="lazy"), caption)
    return tag("figure", caption)


def _uri(value: object) -> str | None:
    """Return a picture's address; None for a text, and for anything else that is no picture."""
    if isinstance(value, str):
        return None
    try:
        return picture_uri(drawn_picture(value, "the picture"))
    except BadRecord:
        return None


def _views(name: str, pictures: list[NDArray[np.uint8]]) -> Iterator[Markup]:
    for number, pixels in enumerate(pictures):
        caption = f"{name}, {pixels.shape[0]} px" if number == 0 else f"epoch {number}"
        image = tag("img", src=picture_uri(Image.fromarray(pixels)), alt=caption, loading="lazy")
        yield tag("figure", image, tag("figcaption", caption, class_="dim"))


def _tokens(name: str, text: Tokens) -> Markup:
    words = join(tag("span", word) for word in text.words)
    shown = min(text.padding, MOST_PADDING)
    padding = join(tag("span", "·", class_="pad") for _ in range(shown))
    return tag("p", tag("b", f"{name} ({len(text.words)})"), words, padding, class_="tokens")
