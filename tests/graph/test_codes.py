"""Image codes as targets: grids agree, and a codebook has learnt its codes before a stage reads them."""

from __future__ import annotations

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.errors import BlueprintError, Problem
from compose_vlp.graph.checking.trainings import trained_by

VIEW = (
    "inputs.lone_image.view=lone",
    "graph.coded=codebook(code_tower(code_patches(code_image)).tokens)",
    "+inputs.code_image={type: image, like: lone_image, source: images, from: image, view: lone, size: 256}",
)
CODES_APART = (
    "`coded.codes` of `codebook` has 256 positions (16 x 16), and `image_alone` of `code_head` has 196 positions "
    "(14 x 14)"
)
HIDDEN_APART = "`patches_of`: `hidden` hides patches on a grid of 7 x 7, and these lie on 14 x 14"


def problems(name: str, *overrides: str) -> tuple[Problem, ...]:
    with pytest.raises(BlueprintError) as raised:
        Blueprint.load(name, overrides=list(overrides)).check()
    return raised.value.problems


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["components.hide.patch=32"], HIDDEN_APART),
        (["components.code_patches.patch=14"], CODES_APART),
        ([*VIEW], CODES_APART),
    ],
    ids=["masker", "tokenizer", "picture of the tokenizer"],
)
def test_a_masker_or_tokenizer_of_another_grid_is_refused(overrides: list[str], message: str) -> None:
    (actual,) = [problem for problem in problems("beit3_base", *overrides) if problem.message == message]
    assert actual.span and actual.hints


def test_a_tokenizer_may_see_the_picture_at_another_size_on_the_same_grid() -> None:
    sizes = ["components.code_patches.patch=16", "inputs.image.size=196", "components.patches_of.patch=14"]
    sizes += ["components.hide.patch=14", "components.hide_pair.patch=14"]
    changes = ["inputs.image.view=pair", "graph.coded_pair=codebook(code_tower(code_patches(code_pair)).tokens)"]
    changes += ["+inputs.code_pair={type: image, like: image, from: image, view: pair, size: 224}"]
    lone = [VIEW[0], VIEW[1], VIEW[2].replace("256", "224")]
    checked = Blueprint.load("beit3_base", overrides=[*sizes, *changes, *lone]).check()
    assert checked.type_of(checked.values["image_alone"]).count.grid == (14, 14)  # type: ignore[union-attr]


UNLEARNT = (
    "`codebook` has learnt nothing where stage `{}` reads it: no stage trains it until then, and no file starts it"
)


@pytest.mark.parametrize(
    ("name", "stage", "overrides"),
    [
        ("beit3_base", "pretrain", ["~start"]),
        ("beit3_base", "pretrain", ["start=[{new: ['**']}]"]),
        ("beit3_base", "pretrain", ["start=[{from: a.pth, to: backbone}, {new: ['**']}]"]),
        ("beit3_base", "pretrain", ["~start", "~freeze"]),  # no loss reaches its weights
        ("vlmo_staged", "vision", ["~start"]),
        ("vqkd_base", "codes", ["freeze=[teacher, teacher_map, codebook]"]),
        ("vqkd_base", "codes", ["train=[decoder]"]),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else x,
)
def test_a_codebook_that_has_learnt_nothing_is_refused(name: str, stage: str, overrides: list[str]) -> None:
    (problem,) = problems(name, *overrides)
    assert problem.message == UNLEARNT.format(stage)
    assert problem.span is not None and problem.span.file.endswith(f"{name}.yaml")
    assert "to: codebook" in problem.hints[0]


@pytest.mark.parametrize(
    "overrides",
    [
        ["start=[{from: vqkd.pth, as: vqkd, to: [code_patches, code_tower, codebook]}, {new: ['**']}]"],
        ["start=[{from: runs/mine}, {new: ['**']}]"],
        ["~start", "~stages.vision"],  # nothing reads it
    ],
)
def test_a_codebook_that_a_file_brings_or_nothing_reads_is_none_of_them(overrides: list[str]) -> None:
    Blueprint.load("vlmo_staged", overrides=overrides).check()


def test_codes_as_targets_hand_no_gradients_on() -> None:
    checked = Blueprint.load("beit3_base").check()
    assert trained_by(checked, checked.losses["images"]) == {"backbone", "patches_of", "code_head"}
    vqkd = Blueprint.load("vqkd_base").check()
    assert "codebook" in trained_by(vqkd, vqkd.losses["commitment"])
    assert "teacher" not in trained_by(vqkd, vqkd.losses["features"])
