"""Outputs of pairs from kept towers: the numbers of the whole program, however texts and pictures are paired."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.tower_cache import Row, Stored, join_rows
from compose_vlp.values import Part, Sequence, Text
from tests.models import tiny
from tests.support import assert_near

TEXTS = ("a red circle", "a tiny blue star to the left of a large green ring", "two crosses", "photo")


@pytest.fixture(scope="module", params=["tiny/albef", "tiny/blip"])
def asker(request: pytest.FixtureRequest) -> Asker:
    return tiny(request.param)


def pictures(count: int) -> list[Any]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8))


def kept(stored: Stored, asker: Asker, name: str, values: list[Any], at_once: int) -> list[Row]:
    collator = asker.collator(stored.fields[name])
    rows: list[Row] = []
    for start in range(0, len(values), at_once):
        rows += stored.keep(
            name, collator.stack([collator.read({name: value}) for value in values[start : start + at_once]])
        )
    return rows


def whole(asker: Asker, shown: list[Any]) -> Tensor:
    """[pictures, texts, 2], each pair by itself through the whole program."""
    return torch.stack(
        [
            torch.cat([asker.value("match", {"image": [picture], "caption": [text]}) for text in TEXTS])
            for picture in shown
        ]
    )


def test_pairs_of_kept_rows_score_as_the_whole_program_does(asker: Asker) -> None:
    shown, stored = pictures(3), Stored(asker, "match")
    images = kept(stored, asker, "image", shown, at_once=2)
    texts = kept(stored, asker, "caption", list(TEXTS), at_once=3)  # the last one is padded to another length
    actual = torch.stack([stored.ask([(image, text) for text in texts]) for image in images])
    assert_near(actual, whole(asker, shown))


def test_logits_are_what_the_output_is_the_softmax_of(asker: Asker) -> None:
    stored, logits = Stored(asker, "match"), Stored(asker, "match", logits=True)
    scores = []
    for cache in (stored, logits):
        images, texts = kept(cache, asker, "image", pictures(2), 2), kept(cache, asker, "caption", list(TEXTS[:2]), 2)
        scores.append(cache.ask(list(zip(images, texts, strict=True))))
    assert_near(scores[1].softmax(-1), scores[0])
    assert not torch.allclose(scores[1].sum(-1), torch.ones(2)), "these are no probabilities"


def test_an_image_tower_runs_once_a_picture(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    vision = asker.model.student.vision
    forward = vision.forward
    monkeypatch.setattr(vision, "forward", lambda x: (calls.append(len(x.pixels)), forward(x))[1])
    stored = Stored(asker, "match")
    images = kept(stored, asker, "image", pictures(2), 2)
    texts = kept(stored, asker, "caption", list(TEXTS), 4)
    stored.ask([(image, text) for image in images for text in texts])
    assert calls == [2]


def test_keys_and_values_of_a_picture_are_made_once_for_all_texts_that_look_at_it(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, made = Stored(asker, "match"), list[int]()
    for name in ("fusion", "text"):
        tower = getattr(asker.model.student, name, None)
        if hasattr(tower, "keys_values"):
            whole_keys = tower.keys_values
            counted = lambda x, keys=whole_keys: (made.append(len(x.features)), keys(x))[1]  # noqa: E731
            monkeypatch.setattr(tower, "keys_values", counted)
    images = kept(stored, asker, "image", pictures(2), 2)
    texts = kept(stored, asker, "caption", list(TEXTS), 4)
    pairs = [(image, text) for image in images for text in texts]
    mixed = [pairs[n] for n in (0, 5, 1, 4, 7, 2)]
    expected = torch.cat([stored.ask([pair]) for pair in mixed])
    made.clear()
    assert_near(stored.ask(mixed), expected)
    assert made == [2]


def test_rows_of_several_lengths_are_padded_to_the_longest() -> None:
    short = Text(torch.tensor([[1, 2]]), torch.tensor([2]), frame=9, pad=7)
    long = Text(torch.tensor([[3, 4, 5]]), torch.tensor([3]), frame=9, pad=7)
    words = join_rows([short, long])
    assert words.ids.tolist() == [[1, 2, 7], [3, 4, 5]] and words.lengths.tolist() == [2, 3] and words.frame == 9

    def sequence(text: Text) -> Sequence:
        length = text.ids.shape[1]
        return Sequence(torch.ones(1, length, 4), (Part("language", 0, length, "first", text),))

    both = join_rows([sequence(short), sequence(long)])
    assert both.features.shape == (2, 3, 4)
    assert both.valid is not None and both.valid.tolist() == [[True, True, False], [True, True, True]]
    assert both.parts[0].length == 3 and both.parts[0].text.ids.shape == (2, 3)
