"""Which score is explained: the blueprint's own choice, one found in its graph, or why there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.errors import UserError
from compose_vlp.runtime.inference.explained import FOUND, relevance_of
from compose_vlp.runtime.inference.relevance import Explainer
from tests.models import tiny

WHERE = "{relevance: matched, to: v, through: fusion, layer: 1}"


@pytest.mark.parametrize(("paper", "through", "layer"), [("albef", "fusion", 0), ("blip", "text", 1)])
def test_the_first_score_that_words_reach_is_found(paper: str, through: str, layer: int) -> None:
    asker, name = relevance_of(tiny(f"tiny/{paper}"))
    settings = asker.blueprint.outputs[name].settings
    assert (name, settings.relevance, settings.to) == (FOUND, "matched", "v")
    assert (settings.through, settings.layer) == (through, layer)
    Explainer(asker, name)


def test_at_albef_s_size_it_is_layer_8_of_12() -> None:
    asker, name = relevance_of(tiny("tiny/albef", overrides=["components.fusion.depth=6"]))
    assert asker.blueprint.outputs[name].settings.layer == 2, "six layers of text come before"


def test_an_output_of_the_blueprint_comes_first() -> None:
    asker = tiny("tiny/albef", overrides=[f"+outputs.where={WHERE}"])
    assert relevance_of(asker) == (asker, "where")
    two = tiny("tiny/albef", overrides=[f"+outputs.where={WHERE}", f"+outputs.there={WHERE}"])
    assert relevance_of(two, "there") == (two, "there")
    with pytest.raises(UserError, match="several outputs of albef_tiny explain a score") as caught:
        relevance_of(two)
    assert caught.value.problems[0].hints == ("choose: `where`, `there`",)


def test_pooled_positions_cannot_be_explained() -> None:
    coca = tiny(
        "tiny/coca",
        small=(
            "inputs.image.size=16",
            "components.vision.patch=8",
            "components.vision.stem=patch",
            "components.vision.stem_depth=0",
        ),
    )
    with pytest.raises(
        UserError, match=r"nothing of coca_tiny could be explained: `multimodal` looks at `visual`, .*were pooled"
    ):
        relevance_of(coca)


def test_without_cross_attention_there_is_nothing_to_explain(tmp_path: Path) -> None:
    (tmp_path / "towers.yaml").write_text(
        "extends: tiny/albef\ndrop: [losses.itm, losses.mlm, outputs.match]\n"
        "stages:\n  pretrain: {data: pairs, batch: 4, length: 1 steps, losses: [itc]}\n"
    )
    towers = tiny(str(tmp_path / "towers.yaml"))
    with pytest.raises(UserError, match="none of its components has a context that it looks at"):
        relevance_of(towers)
