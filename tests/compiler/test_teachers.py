"""Teachers: weights that follow, in a world of their own, without gradients, saved and loaded with the rest."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.model import Model, Step, build, fingerprint
from compose_vlp.compiler.passes import PASSES
from compose_vlp.compiler.synthetic import synthetic_batch
from compose_vlp.compiler.teachers import Teacher, taught_by
from tests.conftest import SMALL
from tests.support import assert_near

Load = Callable[..., Blueprint]
REACHED = ["vision", "pool_many", "pool_one", "unimodal", "image_proj", "text_proj"]


def momentum(*overrides: str) -> Blueprint:
    written = {override.split("=")[0] for override in overrides}
    small = [override for override in SMALL if override.split("=")[0] not in written]
    return Blueprint.load("tiny/coca", "hybrids/coca_momentum", overrides=[*small, *overrides])


def ready(*overrides: str, without: tuple[str, ...] = ()) -> tuple[Model, Compiled, dict[str, Any]]:
    checked = momentum(*overrides).check()
    compiled = compile_stage(checked, "pretrain", without=without)
    return build(checked, seed=1), compiled, synthetic_batch(compiled.plan, 4, "cpu")


def teacher_of(model: Model) -> Teacher:
    teacher = model.teachers.get_submodule("momentum")
    assert isinstance(teacher, Teacher)
    return teacher


def step(model: Model, compiled: Compiled, batch: dict[str, Any], rate: float = 0.1) -> dict[str, torch.Tensor]:
    """One step of plain gradient descent, with the teacher's updates around it."""
    model.update_teachers("before")
    losses = {name: loss.value for name, loss in model(compiled.run, batch, Step()).items()}
    torch.stack([*losses.values()]).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(rate * parameter.grad)
                parameter.grad = None
    model.update_teachers("after")
    return losses


def test_a_teacher_has_copies_of_what_its_calls_reach_and_nothing_else() -> None:
    model, compiled, _ = ready()
    assert taught_by(compiled.plan) == ("momentum",)
    assert [name for name, _ in teacher_of(model).named_children()] == REACHED
    assert not any(p.requires_grad for p in teacher_of(model).parameters())
    mine = {id(p) for p in teacher_of(model).parameters()}
    assert not mine & {id(p) for p in model.components.parameters()}


@pytest.mark.parametrize("update", ["before", "after"])
def test_its_weights_follow_as_a_moving_average_worked_out_by_hand(update: str) -> None:
    model, compiled, batch = ready(f"teachers.momentum.update={update}", "teachers.momentum.decay=0.9")
    assert model.start_teachers(["momentum"]) == ("momentum",)
    student, teacher = (world.unimodal.layers[0].ffn.branch.fc1.weight for world in
                        (model.student, model.worlds["momentum"]))  # fmt: skip
    expected = student.detach().clone()
    for _ in range(3):
        before = student.detach().clone()
        step(model, compiled, batch)
        expected = 0.9 * expected + 0.1 * (before if update == "before" else student.detach())
        assert_near(teacher, expected)
    assert not torch.equal(teacher, student)


def test_its_first_values_are_the_students_and_later_ones_are_not() -> None:
    model, compiled, batch = ready()
    model.start_teachers(["momentum"])
    with torch.no_grad():
        first = model.worlds["momentum"].vision(batch["image"]).features
    assert torch.equal(first, model.student.vision(batch["image"]).features)
    step(model, compiled, batch)
    with torch.no_grad():
        later = model.worlds["momentum"].vision(batch["image"]).features
    assert not torch.equal(later, model.student.vision(batch["image"]).features)


@pytest.mark.parametrize("without", [(), tuple(PASSES)], ids=["passes on", "passes off"])
def test_a_teacher_runs_without_gradients_whatever_the_passes(without: tuple[str, ...]) -> None:
    model, compiled, batch = ready(without=without)
    model.start_teachers(["momentum"])
    taught = [line for line in compiled.source.splitlines() if "m_momentum." in line]
    assert taught and all(line.startswith("        ") for line in taught), "each within a no_grad block"
    losses = model(compiled.run, batch, Step())
    torch.stack([loss.value for loss in losses.values()]).sum().backward()
    assert all(p.grad is None for p in teacher_of(model).parameters())


def test_what_is_shared_is_shared_within_each_world() -> None:
    model, _, _ = ready("components.text_proj.share={weight: image_proj}")
    world = model.worlds["momentum"]
    weight = world.text_proj.map.weight
    assert weight is world.image_proj.map.weight
    assert weight is not model.student.text_proj.map.weight
    model.start_teachers(["momentum"])
    before = weight.clone()
    with torch.no_grad():
        model.student.image_proj.map.weight.add_(1)
    model.update_teachers("before")
    assert_near(weight, before + 0.005)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_its_mode_is_the_one_that_was_asked_for(mode: str) -> None:
    model, _, _ = ready(f"teachers.momentum.mode={mode}")
    assert teacher_of(model).vision.training is (mode == "train")
    assert teacher_of(model.eval()).vision.training is False
    assert teacher_of(model.train()).vision.training is (mode == "train")


def test_buffers_are_copied() -> None:
    norm = torch.nn.BatchNorm1d(3)
    teacher = Teacher({"norm": norm}, decay=0.9, mode="train")
    norm(torch.randn(8, 3) + 5)
    teacher.follow({"norm": norm})
    assert torch.equal(teacher.get_submodule("norm").running_mean, norm.running_mean)
    assert norm.running_mean is not None and norm.running_mean.abs().sum() > 0


def test_a_loaded_teacher_is_not_overwritten_when_a_stage_begins() -> None:
    model, compiled, batch = ready()
    model.start_teachers(["momentum"])
    step(model, compiled, batch)
    step(model, compiled, batch)
    saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert any(name.startswith("teachers.momentum.vision.") for name in saved)
    fresh, _, _ = ready()
    fresh.load_state_dict(saved)
    assert fresh.start_teachers(["momentum"]) == ()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in fresh.state_dict().items())


def test_a_teacher_that_the_stage_does_not_call_stays_as_it_is() -> None:
    model, _, _ = ready()
    model.start_teachers(["momentum"])
    model.start_teachers([])
    before = {name: tensor.clone() for name, tensor in teacher_of(model).state_dict().items()}
    with torch.no_grad():
        for parameter in model.components.parameters():
            parameter.add_(1)
    model.update_teachers("before")
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher_of(model).state_dict().items())


def test_a_decay_that_is_a_schedule_is_told_at_each_step() -> None:
    model, _, _ = ready("teachers.momentum.decay={linear: [0.5, 1.0], over: 10 steps}")
    model.start_teachers(["momentum"])
    with pytest.raises(ValueError, match="schedule"):
        model.update_teachers("before")
    weight = model.worlds["momentum"].vision.norm.weight
    with torch.no_grad():
        model.student.vision.norm.weight.fill_(3.0)
    model.update_teachers("before", {"momentum": 0.75})
    assert_near(weight, torch.full_like(weight, 0.75 + 0.25 * 3.0))


def test_a_checkpoint_knows_what_its_teachers_copied() -> None:
    assert fingerprint(momentum().check())["momentum"] == {"copies": REACHED}
