"""What `build` says of a stage is what the stage trains: its patterns, its sizes, its program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.materialise import materialise
from compose_vlp.errors import UserError
from compose_vlp.runtime.stage import choose_of_stage, stage_model
from tests.runtime.test_training import STEPS, Watch, train

Load = Callable[..., Blueprint]


@pytest.mark.parametrize(
    ("patterns", "trained"),
    [
        ("freeze=[vision]", lambda path: not path.startswith("vision.")),
        ('freeze=["**.bias", vision.layers]', lambda path: ".bias" not in path and "vision.layers" not in path),
        ("train=[similarity, image_proj]", lambda path: path.startswith(("similarity.", "image_proj."))),
    ],
)
def test_trained_parameters_and_memory_are_the_stages(
    small_coca: Load, patterns: str, trained: Callable[[str], bool]
) -> None:
    blueprint = small_coca(patterns)
    model, _ = stage_model(blueprint.check(), "pretrain")
    paths = [(f"{name}.{path}", p) for name, part in model.parts().items() for path, p in part.named_parameters()]
    reached = [(path, p) for path, p in paths if not path.startswith("pool_joint.")]
    count = sum(p.numel() for path, p in reached if trained(path))
    report = blueprint.report()
    assert report.parameters["trainable"] == count
    assert (report.memory["gradients"], report.memory["optimizer"]) == (4 * count, 8 * count)
    assert report.memory["weights"] == 4 * sum(p.numel() for _, p in paths)


def test_what_is_frozen_costs_no_backward_and_is_told(small_coca: Load) -> None:
    plain, frozen = small_coca().report(), small_coca("freeze=[vision]").report()
    assert frozen.flops["step"] < plain.flops["step"]
    assert frozen.memory["activations"] < plain.memory["activations"]
    assert frozen.parameters["frozen"] == ["vision"] and plain.parameters["frozen"] == []
    notes = {compiler_pass["name"]: compiler_pass["note"] for compiler_pass in frozen.passes}
    assert "visual.vision" in notes["frozen"]


def test_teachers_weigh_too(small_coca: Load) -> None:
    teacher = ("+teachers.slow={decay: 0.9}", "+outputs.averaged=slow.image_embedding")
    with_one, without = small_coca(*teacher).report(), small_coca().report()
    assert with_one.memory["weights"] > without.memory["weights"]
    assert with_one.parameters["trainable"] == without.parameters["trainable"]


def test_a_stage_of_another_size_is_built_at_that_size(small_coca: Load, tmp_path: Path) -> None:
    larger = (
        "+stages.larger={data: pairs, batch: 5, length: 2 steps, losses: [captioning], freeze: [vision], "
        "set: {inputs.image.size: 32}}"
    )
    actual = [
        small_coca(larger).build(out=tmp_path / stage, stage=stage, track=False).report
        for stage in ("pretrain", "larger")
    ]
    assert actual[1].parameters["total"] - actual[0].parameters["total"] == 12 * 32, "rows of positions"
    assert [report.parameters["frozen"] for report in actual] == [[], ["vision"]]


def test_the_program_in_a_runs_folder_is_the_one_that_trains(small_coca: Load, tmp_path: Path) -> None:
    run = train(small_coca("stages.pretrain.length=1 steps", *STEPS[1:], "freeze=[vision]"), tmp_path / "run", Watch())
    written = (run.folder.artifacts / "programs" / "pretrain.py").read_text()
    assert "with torch.no_grad():\n        visual_vision = m.vision(image)" in written


def test_a_real_step_trains_what_the_stage_trains(small_coca: Load) -> None:
    checked = small_coca("stages.pretrain.train=[similarity, image_proj]").check()
    choose = lambda model: choose_of_stage(model, checked, "pretrain")  # noqa: E731
    actual = materialise(checked, "pretrain", torch.device("cpu"), choose=choose)
    assert actual.without_gradient == () and actual.gradient_norm > 0
    frozen = small_coca('freeze=["**.weight", "**.bias", "**.positions", "**.queries", "**.temperature", "**.cls"]')
    with pytest.raises(UserError, match="nothing is trained that the losses reach"):
        materialise(
            frozen.check(), "pretrain", torch.device("cpu"),
            choose=lambda model: choose_of_stage(model, frozen.check(), "pretrain"),
        )  # fmt: skip
