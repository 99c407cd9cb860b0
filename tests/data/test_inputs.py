"""The typed mappings of inputs, and the mistakes that they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from compose_vlp.blueprint.inputs import INPUTS, ImageInput, TextInput, parse_input


def test_from_names_the_field_and_text_is_read_by_type() -> None:
    image = parse_input({"type": "image", "size": "64", "from": "left", "augment": {"crop": ["0.5", "1"]}})
    assert isinstance(image, ImageInput)
    assert (image.field, image.size) == ("left", 64)
    assert image.augment is not None
    assert image.augment.crop == (0.5, 1.0)


@pytest.mark.parametrize("kind", INPUTS)
def test_every_type_reads_main_by_its_own_name_unless_told_otherwise(kind: str) -> None:
    needed = {"image": {"size": 8}, "text": {"tokenizer": "t", "max_length": 8}}.get(kind, {})
    plain = parse_input({"type": kind, **needed})
    assert (plain.field, plain.source, plain.like) == (None, "main", None)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"type": "image", "size": 0}, "greater than 0"),
        ({"type": "image", "size": 8, "std": (0.5, 0, 0.5)}, "greater than 0"),
        ({"type": "image", "size": 8, "augment": {"crop": (0.9, 0.2)}}, "smaller one first"),
        ({"type": "image", "size": 8, "augment": {"crop": (0, 0.2)}}, "above 0"),
        ({"type": "image", "size": 8, "augment": {"ratio": (2, 1)}}, "smaller bound comes first"),
        ({"type": "image", "size": 8, "augment": {"flip": 1.5}}, "less than or equal to 1"),
        ({"type": "image", "size": 8, "resize": "squash"}, "stretch"),
        ({"type": "text", "tokenizer": "t", "max_length": 1}, "greater than or equal to 2"),
        ({"type": "text", "tokenizer": "t", "max_length": 8, "many": True, "table": "a.txt"}, "only one of them"),
        ({"type": "text", "tokenizer": "t", "max_length": 8, "templates": "a.txt"}, "set table too"),
        ({"type": "number", "size": 3}, "Extra inputs"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        parse_input(settings)


def test_they_are_frozen() -> None:
    text = TextInput(tokenizer="t", max_length=8)
    with pytest.raises(ValidationError, match="frozen"):
        text.max_length = 9  # type: ignore[misc]
