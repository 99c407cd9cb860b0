"""Overrides as Python has them: a list, one text, a mapping; and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compose_vlp import Blueprint, BlueprintError, UserError
from compose_vlp.blueprint.arguments import override_texts
from compose_vlp.blueprint.write import write


def written(overrides: Any) -> str:
    blueprint = Blueprint.load("tiny/coca", overrides=overrides)
    blueprint.raise_problems()
    return re.sub(r"""['"]|\s*#.*""", "", write(blueprint.document))  # YAML's quotes, and places


SAME: list[tuple[list[str], dict[str, Any]]] = [
    (["components.vision.depth=6"], {"components.vision.depth": 6}),
    (["components.vision.depth=6"], {"components.vision.depth": "6"}),
    (["components.vision.depth=6"], {"components.vision.depth": np.int64(6)}),
    (["losses.captioning.weight=0.5"], {"losses.captioning.weight": np.float32(0.5)}),
    (["stages.pretrain.length=2 steps"], {"stages.pretrain.length": "2 steps"}),
    (["stages.pretrain.losses=[contrastive]"], {"stages.pretrain.losses": ["contrastive"]}),
    (["stages.pretrain.losses=[contrastive]"], {"stages.pretrain.losses": ("contrastive",)}),
    (
        ["start=[{from: a.pt, to: {image_proj: vision}}]"],
        {"start": [{"from": Path("a.pt"), "to": {"image_proj": "vision"}}]},
    ),
    (["~losses.captioning"], {"~losses.captioning": None}),
    (["+params.beta={start: 0, end: 1, over: 10 steps}"], {"+params.beta": {"start": 0, "end": 1, "over": "10 steps"}}),
    (["outputs.caption=normalize(image_embedding)"], {"outputs.caption": "normalize(image_embedding)"}),
]


@pytest.mark.parametrize(("typed", "mapping"), SAME, ids=[typed[0] for typed, _ in SAME])
def test_a_mapping_means_what_is_typed(typed: list[str], mapping: dict[str, Any]) -> None:
    def problems(overrides: Any) -> list[str]:
        return [problem.message for problem in Blueprint.load("tiny/coca", overrides=overrides).problems]

    assert problems(mapping) == problems(typed)
    if not problems(typed):
        assert written(mapping) == written(typed) != written(())


def test_one_text_is_one_override() -> None:
    assert written("components.vision.depth=6") == written(["components.vision.depth=6"])
    assert written("stages.pretrain.length=2 steps") == written(("stages.pretrain.length=2 steps",))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (6, "overrides are 6"),
        (None, "overrides are None"),
        (b"a=1", "overrides are b'a=1'"),
        ([6], "overrides have 6, which is no text"),
        ([["a=1"]], r"overrides have \['a=1'\]"),
        ({6: "a"}, "overrides have the path 6"),
        ({"components.vision.depth": object()}, "override 'components.vision.depth' is object"),
        ({"components.vision": {"depth": {6}}}, "is no text, number, list or mapping"),
    ],
)
def test_another_form_is_refused_with_those_that_are_taken(given: Any, says: str) -> None:
    with pytest.raises(UserError, match=says) as refused:
        Blueprint.load("tiny/coca", overrides=given)
    assert "a mapping {path: value}" in refused.value.problems[0].hints[0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"~losses.captioning": 3}, "`~path` takes no value"),
        ({"components.vision.depht": 3}, "has no field `depht`"),
        ({"": 3}, "`=3` is no override"),
        ("tiny/albef", "is no override"),
    ],
)
def test_a_mistake_in_an_override_is_one_of_the_blueprint(given: Any, says: str) -> None:
    with pytest.raises(BlueprintError) as refused:
        Blueprint.load("tiny/coca", overrides=given).check()
    assert any(says in problem.message for problem in refused.value.problems)


def test_texts_inside_a_list_stay_texts() -> None:
    assert override_texts({"a.b": ["yes: no", "ä", True, None, Path("x")]}) == ['a.b=["yes: no", "ä", true, null, "x"]']
    assert override_texts({"a.b": ""}) == ['a.b=""']
