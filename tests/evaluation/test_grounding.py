"""Pointing at what is named: what counts as right, in stretched, cropped and padded pictures, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from compose_vlp.data import open_source
from compose_vlp.errors import UserError
from compose_vlp.evaluation.grounding import NOT_COMPARABLE, evaluate_grounding
from compose_vlp.evaluation.heatmap import Frame, frame_of, over, peak
from compose_vlp.evaluation.report import page_of
from compose_vlp.evaluation.results import evaluate, possible_tasks
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.relevance import Explainer, Maps
from tests.evaluation.test_tasks import Given
from tests.models import tiny

WHERE = "+outputs.where={relevance: matched, to: v, through: fusion, layer: 0}"
PICTURE = np.zeros((16, 16, 3), np.uint8)


def asker(*overrides: str) -> Asker:
    return tiny("tiny/albef", overrides=[WHERE, *overrides])


def heat(row: int, column: int, side: int = 4) -> torch.Tensor:
    actual = torch.zeros(side, side)
    actual[row, column] = 1
    return actual


@pytest.fixture
def points_up_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every map is highest in the first of 4 x 4 patches."""

    def maps(self: Explainer, batch: Any) -> Maps:
        words = heat(0, 0).expand(len(batch["image"].pixels), batch["caption"].ids.shape[1], 4, 4)
        return Maps(words, batch["caption"], torch.zeros(len(words)))

    monkeypatch.setattr(Explainer, "maps_of_batch", maps)


@pytest.mark.usefixtures("points_up_left")
def test_a_point_in_the_box_is_right() -> None:
    records = [
        {"image": PICTURE, "caption": "a circle and a ring", "phrase": "a ring", "box": (0, 0, 0.3, 0.3)},
        {"image": PICTURE, "caption": ["a square", "a ring"], "box": lambda: [0.5, 0.5, 0.5, 0.5]},
        {"image": PICTURE, "caption": "a star", "box": None},
    ]
    actual = evaluate_grounding(asker(), Given(records)).outputs["where"]
    assert actual.rows == (0, 1) and actual.texts == ("a ring", "a square")
    assert actual.right == (True, False) and actual.accuracy == 0.5
    assert actual.chance == pytest.approx((0.09 + 0.25) / 2)
    assert actual.middle == 0.5, "the middle is the second box's corner"


@pytest.mark.usefixtures("points_up_left")
@pytest.mark.parametrize(
    ("resize", "place"), [("stretch", (0.04, 0.04)), ("crop", (0.27, 0.04)), ("pad", (0.04, -0.42))]
)
def test_points_are_told_in_the_whole_picture(resize: str, place: tuple[float, float]) -> None:
    wide = Image.new("RGB", (32, 16))
    record = {"image": wide, "caption": "a ring", "box": (0, 0, 0.5, 0.5)}
    actual = evaluate_grounding(asker(f"inputs.image.resize={resize}"), Given([record])).outputs["where"]
    assert actual.points[0] == pytest.approx(place, abs=0.01)


def test_scenes_know_where_a_named_thing_is() -> None:
    source = open_source({"use": "scenes", "size": 16, "count": 40, "min_objects": 2, "max_objects": 4})
    model = asker()
    assert "grounding" in possible_tasks(model, source)
    results = evaluate(model, source, ("grounding",), 12)
    scores = results.scores
    assert set(scores) == {f"grounding.pointing_accuracy{of}" for of in ("", "_of_chance", "_of_middle")}
    assert 0.02 < scores["grounding.pointing_accuracy_of_chance"] < 0.3
    assert results.as_json()["grounding"]["note"] == NOT_COMPARABLE
    assert NOT_COMPARABLE.replace("'", "&#x27;") in page_of(results, model, source, title="run", subtitle="")


def test_a_scene_s_box_is_around_the_thing_that_the_phrase_names() -> None:
    source = open_source({"use": "scenes", "min_objects": 3, "max_objects": 3})
    for index in range(20):
        record = source.record(index)
        if "phrase" not in record:
            continue
        left, top, width, height = record["box"]
        (named,) = [thing for thing in record["scene"].things if f"{thing.colour} {thing.shape}" in record["phrase"]]
        assert (left + width / 2, top + height / 2) == pytest.approx((named.x, named.y))
        assert width == height == pytest.approx(2 * named.radius)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"caption": "a ring", "box": [0, 0, 20, 30]}, "record 0: .* is no 'box'"),
        ({"caption": "a ring", "box": "left"}, "record 0: 'left' is no 'box'"),
        ({"caption": "a ring"}, "none of the first 1000 records has a picture, words and a 'box'"),
    ],
)
def test_boxes_that_are_none(record: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        evaluate_grounding(asker(), Given([{"image": PICTURE, **record}]))


def test_without_an_output_that_points_the_task_says_what_it_asks_for() -> None:
    with pytest.raises(UserError, match="grounding asks for an output of the form `relevance`"):
        evaluate_grounding(tiny("tiny/albef"), Given([]))


# --- maps ---------------------------------------------------------------------------------------------------------


def test_the_highest_place_lies_in_the_highest_patch() -> None:
    assert peak(heat(2, 1)) == pytest.approx((0.375, 0.625), abs=0.02)


def test_what_a_square_shows_of_a_picture() -> None:
    assert frame_of("stretch", 30, 20) == Frame(0, 0, 1, 1)
    assert frame_of("crop", 40, 20) == Frame(0.25, 0, 0.5, 1)
    assert frame_of("pad", 40, 20) == Frame(0, -0.5, 1, 2)


def test_colours_are_laid_where_the_map_is_high() -> None:
    grey = Image.new("RGB", (64, 32), (128, 128, 128))
    drawn = np.asarray(over(grey, heat(0, 3), "crop")).astype(int)
    assert drawn[4, 44].tolist() != [128] * 3, "the crop's upper right"
    assert drawn[28, 20].tolist() == [128] * 3 and drawn[4, 60].tolist() == [128] * 3
    assert np.asarray(over(grey, torch.zeros(4, 4))).tolist() == np.asarray(grey).tolist()
