"""Whatever a recording holds is read by the step, or told: no value is passed over."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.synthetic import synthetic_batch
from compose_vlp.errors import UserError
from compose_vlp.interop.verify import verify

Find = Callable[[str], Path]
GRADIENTS = ("grads.safetensors", "grad_norms.json", "state_after.safetensors")


def changed(folder: Path, out: Path, inputs: dict[str, Tensor], outputs: dict[str, Tensor] | None = None) -> Path:
    """A copy of a recorded step with other inputs and results, and without its gradients."""
    shutil.copytree(folder, out)
    for name, more in (("inputs", inputs), ("outputs", outputs or {})):
        save_file(load_file(folder / f"{name}.safetensors") | more, out / f"{name}.safetensors")
    for name in GRADIENTS:
        (out / name).unlink(missing_ok=True)
    return out


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.9])
def test_entailment_is_replayed_with_the_recorded_alpha(oracle: Find, tmp_path: Path, alpha: float) -> None:
    """The loss is linear in alpha, and its hard part follows from the recorded scores."""
    folder = oracle("albef/ve")
    inputs, outputs = load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors")
    before = float(inputs["alpha"])
    hard = F.cross_entropy(outputs["logits_after_momentum"], inputs["targets"])
    soft = (outputs["loss"] - (1 - before) * hard) / before
    other = changed(
        folder, tmp_path / "ve", {"alpha": torch.tensor(alpha)}, {"loss": (1 - alpha) * hard + alpha * soft}
    )
    assert verify(other, "albef").failures == ()


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("albef/ve", "neg_image_index"),
        ("albef/pretrain", "idx"),
        ("blip/captioning", "alpha"),
        ("blip/pretrain", "idx"),
        ("blip/itm", "targets"),
        ("coca/pretrain", "alpha"),
    ],
)
def test_an_input_that_the_step_does_not_read_fails(oracle: Find, tmp_path: Path, step: str, name: str) -> None:
    folder = changed(oracle(step), tmp_path / "more", {name: torch.zeros(4, dtype=torch.long)})
    form = "open_clip_coca" if step.startswith("coca") else step.partition("/")[0]
    actual = verify(folder, form)
    assert [row.name for row in actual.failures] == [name]


def test_draws_that_the_step_does_not_make_are_refused(oracle: Find, tmp_path: Path) -> None:
    more = {f"neg_{kind}_index": torch.zeros(4, dtype=torch.long) for kind in ("image", "text")}
    with pytest.raises(UserError, match="the recording has what 'neg' drew"):
        verify(changed(oracle("blip/captioning"), tmp_path / "drawn", more), "blip")


def test_what_a_recording_lacks_is_named(oracle: Find, tmp_path: Path) -> None:
    folder = changed(oracle("albef/ve"), tmp_path / "less", {})
    inputs = load_file(folder / "inputs.safetensors")
    del inputs["alpha"]
    save_file(inputs, folder / "inputs.safetensors")
    with pytest.raises(UserError, match=r"inputs\.safetensors has no 'alpha'"):
        verify(folder, "albef")


def test_a_step_is_given_no_value_that_its_program_does_not_take() -> None:
    momentum = Blueprint.load("tiny/albef").check()
    model = build(momentum, "meta")
    compiled = compile_stage(momentum, "pretrain")
    batch = synthetic_batch(compiled.plan, 2, "meta")
    with pytest.raises(UserError, match="has a value for 'alhpa', and the blueprint no such param") as mistake:
        model(compiled.run, batch, Step({"alhpa": 0.2}))
    assert mistake.value.problems[0].hints == ("did you mean 'alpha'?",)
    constant = Blueprint.load("tiny/albef", overrides=["params.alpha=0.4"]).check()
    with pytest.raises(UserError, match=r"'alpha' is the constant 0.4 in this blueprint, and 0.3 in the step"):
        build(constant, "meta")(compile_stage(constant, "pretrain").run, batch, Step({"alpha": 0.3}))
