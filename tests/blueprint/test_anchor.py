"""Paths of a blueprint are those of the folder in which it was used first."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.blueprint.anchor import absolute, anchored
from compose_vlp.blueprint.resolve import resolve
from compose_vlp.blueprint.write import write


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for folder in ("photos", "train", "image", "shards"):
        (tmp_path / folder).mkdir()
    for file in ("a.jsonl", "vocab", "photos/x.png", "notes.v1"):
        (tmp_path / file).write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "text", "moved"),
    [
        ("path", "a.jsonl", True),
        ("path", "later.jsonl", True),  # not there yet, and a data file by its ending
        ("path", "./a.jsonl", True),
        ("path", "../elsewhere/a.jsonl", True),
        ("path", "shards/{000..031}.tar", True),
        ("path", "*.tar", True),
        ("path", "nowhere/flickr30k", False),  # may be a name on a hub
        ("images", "photos", True),
        ("file", "vocab", True),
        ("my_folder", "photos", True),
        ("whatever", "photos/x.png", True),
        ("whatever", "notes.v1", True),
        ("split", "train", False),
        ("from", "image", False),
        ("path", "http://host/a.jsonl", False),
        ("path", "/somewhere/a.jsonl", False),
        ("path", "~/a.jsonl", False),
        ("path", "", False),
        ("path", "x" * 5000, False),
    ],
)
def test_what_names_a_file_is_made_absolute(place: Path, setting: str, text: str, moved: bool) -> None:
    actual = absolute(text, place, setting)
    assert (actual != text) == moved
    if moved:
        assert Path(actual).is_absolute() and "/./" not in actual and "/../" not in actual
        assert Path(actual).name == Path(text).name


def test_a_blueprint_keeps_everything_else(place: Path) -> None:
    file = place / "mine.yaml"
    file.write_text(
        """name: mine
inputs:
  image: {type: image, size: 16}
  other: {type: image, size: 16, from: image}
  kind: {type: label, classes: [photos, train]}
data:
  pairs: {use: jsonl, path: a.jsonl, images: photos, fields: {file: image}}
  shards: {use: webdataset, path: [shards/a.tar, "shards/*.tar"]}
start:
  - {from: vocab, to: "vision.**"}
"""
    )
    document = resolve([str(file)], []).document
    text = write(anchored(document, place))
    for kept in ("from: image", "classes: [photos, train]", "fields: {file: image}", "use: jsonl", "vision.**"):
        assert kept in text
    for path in ("a.jsonl", "photos", "shards/a.tar", "shards/*.tar", "vocab"):
        assert f"{place}/{path}" in text
    assert write(anchored(document, place)) == text
