"""A stage of another size resizes the tables that components name, as they say, and refuses everything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import Model, build
from compose_vlp.components.layers.multiway import resize_distances
from compose_vlp.errors import BlueprintError, UserError
from compose_vlp.runtime.state.fitting import fit
from compose_vlp.values.tables import ImageTable, TextTable, resize_grid, resize_table
from tests.conftest import SMALL
from tests.support import assert_near

Load = Callable[..., Blueprint]
PLUGIN = """
from collections.abc import Mapping
from typing import Annotated
import torch
from torch import Tensor, nn
from compose_vlp.values.tables import ImageTable
from compose_vlp.registry import ALL, Settings, component, inferred
from compose_vlp.values import Sequence


@component("placed", rows="independent", state="none", draws="none")
class Placed(nn.Module):
    class Config(Settings):
        tokens: int = inferred()
        width: int = inferred()

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.rand(config.tokens, config.width))

    def forward(self, x: Annotated[Sequence, "rows tokens width", ALL]) -> Annotated[Sequence, "rows tokens width"]:
        return x.with_features(x.features + self.places)
"""
HOOK = """
    @staticmethod
    def tables(config: Config) -> Mapping[str, ImageTable]:
        return {"places": ImageTable()}
"""


def stage(**settings: object) -> str:
    written = ", ".join(f"{path}: {value}" for path, value in settings.items())
    return f"+stages.more={{data: pairs, batch: 5, length: 2 steps, losses: [captioning], set: {{{written}}}}}"


def fitted(blueprint: Blueprint) -> tuple[Model, Model]:
    checked = blueprint.check()
    model = build(checked, seed=1)
    return model, fit(model, checked, checked.of_stage("more"), 0)[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"components.pool_many.queries": 9}, r"makes pool_many.queries \[9, 32\], which is \[5, 32\]"),
        ({"inputs.image.size": 32, "components.pool_many.queries": 9}, r"makes pool_many.queries"),
        ({"components.vision.cls": "first"}, r"adds the weight vision.cls"),
        ({"components.vision.positions": "none"}, r"takes away the weight vision.positions"),
        ({"components.unimodal.mlp_width": 64}, r"makes unimodal.layers.0.ffn"),
        ({"components.similarity.learned": "nothing"}, r"takes away the weight similarity.temperature"),
        ({"components.vision.patch": 4}, r"makes vision.stem.projection.weight"),
        ({"losses.contrastive": "{use: sigmoid, scores: [i2t, t2i]}"}, r"losses.contrastive"),
    ],
)
def test_a_stage_keeps_the_shapes_of_all_weights_but_tables(small_coca: Load, settings: object, message: str) -> None:
    blueprint = small_coca(stage(**settings))  # type: ignore[arg-type]
    with pytest.raises(BlueprintError, match=message) as mistake:
        blueprint.check()
    span = mistake.value.problems[0].span
    assert span is not None and span.file == "command line"


def test_settings_without_weights_may_change(small_coca: Load) -> None:
    small_coca(stage(**{"components.vision.drop_path": 0.1, "losses.captioning.label_smoothing": 0.1})).check()


@pytest.mark.parametrize("size", [24, 32])
def test_a_grid_with_a_cls_is_interpolated_behind_it(small_coca: Load, size: int) -> None:
    before, after = fitted(small_coca("components.vision.cls=first", stage(**{"inputs.image.size": size})))
    small, large = (model.student.vision.positions.detach() for model in (before, after))
    assert torch.equal(large[0], small[0])
    assert_near(large[1:], resize_grid(small[1:], (size // 8) ** 2))


def test_a_table_of_a_part_of_ones_own_is_resized_where_it_is_named(tmp_path: Path) -> None:
    files = {"placed": PLUGIN + HOOK, "unnamed": PLUGIN.replace('"placed"', '"unnamed"')}

    def blueprint(kind: str) -> Blueprint:
        (tmp_path / f"{kind}.py").write_text(files[kind])
        adapter = f"components: {{places: {{use: {kind}}}}}\ngraph: {{visual: pool_many(places(vision(image)))}}\n"
        (tmp_path / "mine.yaml").write_text(f"extends: tiny/coca\nname: mine\n{adapter}")
        overrides = [*SMALL, stage(**{"inputs.image.size": 32})]
        return Blueprint.load(tmp_path / "mine.yaml", overrides=overrides, plugins=[tmp_path / f"{kind}.py"])

    before, after = fitted(blueprint("placed"))
    small, large = (model.student.places.places.detach() for model in (before, after))
    assert_near(large, resize_grid(small, 16))
    with pytest.raises(BlueprintError, match=r"makes places.places \[16, 32\], which is \[4, 32\]: parameters keep"):
        blueprint("unnamed").check()


@pytest.mark.parametrize("size", [32, 96])
def test_a_table_of_biases_is_resized_in_its_pictures_rows(size: int) -> None:
    change = f"stages.pairs.set={{inputs.image.size: {size}}}"
    checked = Blueprint.load("tiny/vlmo", overrides=[change]).check()
    before = build(checked, seed=1)
    torch.nn.init.normal_(before.student.upper.relative_bias.table)
    after, notes = fit(before, checked, checked.of_stage("pairs"), 0)
    small, large = (model.student.upper.relative_bias.table.detach() for model in (before, after))
    places = [(2 * (side // 8) - 1) ** 2 for side in (64, size)]
    assert torch.equal(large[places[1] :], small[places[0] :]), "rows of words, across and of the CLS stay"
    assert_near(large[: places[1]], resize_distances(small[: places[0]], 15, 2 * (size // 8) - 1))
    assert any("upper.relative_bias.table" in line for line in notes)


def test_a_teachers_tables_are_resized_as_the_students(small_coca: Load) -> None:
    teacher = ("+teachers.slow={decay: 0.9}", "+outputs.averaged=slow.image_embedding")
    _, after = fitted(small_coca(*teacher, stage(**{"inputs.image.size": 32})))
    assert torch.equal(after.worlds["slow"].vision.positions, after.student.vision.positions)


def test_timms_positions_are_resized_as_timm_resizes_them() -> None:
    from timm.layers import resample_abs_pos_embed

    options = "{img_size: 16, patch_size: 8, embed_dim: 32, depth: 1, num_heads: 2}"
    vision = f"components.vision={{use: timm, model: vit_tiny_patch16_224, options: {options}}}"
    larger = options.replace("img_size: 16", "img_size: 32")
    sizes = {"inputs.image.size": 32, "components.vision.options": larger}
    blueprint = Blueprint.load("tiny/coca", overrides=["inputs.image.size=16", vision, stage(**sizes)])
    before, after = fitted(blueprint)
    small, large = (model.student.vision.model.pos_embed.detach() for model in (before, after))
    assert_near(large, resample_abs_pos_embed(small, [4, 4], num_prefix_tokens=1))


def test_a_table_that_cannot_be_resized_is_refused() -> None:
    with pytest.raises(UserError, match="positions of 4 patches cannot be resized to 6: no squares"):
        resize_table(ImageTable(), torch.rand(4, 3), torch.rand(6, 3))
    with pytest.raises(UserError, match=r"a table of \[4, 3\] cannot be made one of \[4, 5\]"):
        resize_table(TextTable(), torch.rand(4, 3), torch.rand(4, 5))
    longer = resize_table(TextTable(last=1), torch.rand(1, 3, 2), torch.zeros(1, 5, 2))
    assert longer.shape == (1, 5, 2) and bool((longer[0, 2:4] == 0).all())
