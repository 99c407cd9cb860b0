"""The page of results."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from PIL import Image

from compose_vlp.evaluation.page import (
    PICTURE_SIDE,
    Example,
    Section,
    Tile,
    gallery,
    picture_uri,
    results_page,
    side_by_side,
    tiles,
    titled,
)
from compose_vlp.pages import Series, curves, table


def decoded(uri: str) -> Image.Image:
    _, _, data = uri.partition("base64,")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_small_pictures_stay_exact() -> None:
    picture = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
    uri = picture_uri(picture)
    assert uri.startswith("data:image/png;base64,")
    assert decoded(uri).tobytes() == picture.tobytes()


def test_large_pictures_are_made_smaller(tmp_path: Path) -> None:
    Image.new("RGBA", (1000, 500), (255, 0, 0, 128)).save(tmp_path / "large.png")
    uri = picture_uri(tmp_path / "large.png")
    assert uri.startswith("data:image/jpeg;base64,")
    assert decoded(uri).size == (PICTURE_SIDE, PICTURE_SIDE // 2)


def test_gallery_shows_what_was_said_before_and_after_and_whether_it_is_right() -> None:
    picture = Image.new("RGB", (8, 8))
    drawn = gallery([Example(picture, "a <b>", "truth", "before", right=True), Example(picture, "no", right=False)])
    assert '<p class="said right" title="what the model says">a &lt;b&gt;</p>' in drawn
    assert '<p class="before" title="before training">before</p>' in drawn
    assert '<p class="expected" title="what is true">truth</p>' in drawn
    assert drawn.count("<p ") == 4
    assert '<p class="said wrong"' in drawn


def test_tiles_tell_what_a_number_was_before() -> None:
    drawn = tiles([Tile("recall", "66 %", "1 %", "chance 0.1 %"), Tile("new", "3")])
    assert re.search(r'class="before">1 % → </span>66 %', drawn)
    assert drawn.count('class="before"') == 1


def test_page_is_one_file_with_all_sections() -> None:
    chart = titled("loss", curves([Series("loss", [(0, 2), (1, 1)])]))
    rows = table(["", "recall@1"], [["text", "66 %"]])
    sections = [Section("Curves", side_by_side(chart, chart), "of training"), Section("Scores", rows)]
    text = results_page("CoCa", "tiny", sections, {"steps": "900"})
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Curves", "Scores"]
    assert "<dt>steps</dt><dd>900</dd>" in text
    assert not re.search(r"https?:|@import|<link|<img src=\"(?!data:)", text)
