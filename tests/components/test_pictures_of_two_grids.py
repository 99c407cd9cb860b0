"""A tower that reads pictures of two grids: taken where no table of positions needs one, refused where one does."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.errors import BlueprintError
from tests.compiler.sameness import CHOICES, NONE, assert_same, outcome
from tests.compiler.test_adapting import SameChoices, batch_of, made

HYBRID = """
extends: tiny/vlmo
drop: [stages]
components:
  coarse: {use: patch_embedding, width: 128, patch: 16}
  lower:  {depth: 1, experts: [vision, language, region], layers_after: 1}
  upper:  {experts: [vision, language, region, vision_language], layers_before: 1}
graph:
  region: coarse(image)
  joint:  upper(lower(join(language=words, vision=patches, region=region)), expert="vision_language")
stages:
  pairs: {data: pairs, batch: 4, length: 2 steps, losses: [itm, mlm]}
"""
NO_TABLE = ("components.lower.positions=none", "components.upper.positions=none")


@pytest.fixture
def hybrid(tmp_path: Path) -> Path:
    path = tmp_path / "hybrid.yaml"
    path.write_text(HYBRID, encoding="utf-8")
    return path


def test_relative_positions_of_two_grids_are_a_mistake(hybrid: Path) -> None:
    with pytest.raises(BlueprintError, match="one grid, here of 8 x 8 patches; `region` has 4 x 4") as caught:
        Blueprint.load(hybrid).check()
    assert "`positions: none` takes pictures of any grids" in caught.value.problems[0].hints


def test_without_a_table_both_are_read_and_no_pass_changes_a_number(hybrid: Path) -> None:
    import torch

    checked = Blueprint.load(hybrid, overrides=[*NO_TABLE, "inputs.image.size=32"]).check()
    model = made(checked, "pairs", dtype=torch.float64)
    step = SameChoices(checked.constants_and_starts())
    plain = compile_stage(checked, "pairs", without=NONE)
    batch = batch_of(plain, torch.float64)
    expected = outcome(model, plain, batch, step)
    assert all(value.isfinite() for value in expected.values.values())
    for without in CHOICES:
        assert_same(
            outcome(model, compile_stage(checked, "pairs", without=without), batch, step), expected, str(without)
        )


def test_a_tower_may_be_called_with_each_alone(hybrid: Path) -> None:
    alone = [*NO_TABLE, "+outputs.coarse=lower(region).cls", "+outputs.fine=lower(patches).cls"]
    Blueprint.load(hybrid, overrides=alone).check()
    with pytest.raises(BlueprintError, match="one grid, here of 8 x 8 patches; `vision` has 4 x 4"):
        Blueprint.load(
            hybrid, overrides=["joint=upper(lower(join(language=words, vision=patches)))", *alone[2:]]
        ).check()
