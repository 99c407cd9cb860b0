"""FLOPs and kept bytes counted above autograd, against torch's own counter below it."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.flops import FlopCounter
from compose_vlp.compiler.kept import KeptBytes
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.repeats import measured_once
from compose_vlp.compiler.report import measure_flops
from compose_vlp.compiler.synthetic import synthetic_batch
from tests.support import ASKING


@pytest.mark.parametrize("frozen", [(), ("vision",), ("unimodal", "multimodal")], ids=str)
def test_a_training_step_costs_what_torch_counts(small_coca: Callable[..., Blueprint], frozen: tuple[str, ...]) -> None:
    checked = small_coca("components.*.depth=4").check()
    compiled = compile_stage(checked, "pretrain")
    model = build(checked, "meta")
    for name in frozen:
        model.components.get_submodule(name).requires_grad_(False)
    ours, _ = measure_flops(checked, model, compiled, 4)
    with FlopCounterMode(display=False) as counter:
        losses = model(compiled.run, synthetic_batch(compiled.plan, 4), Step())
        torch.stack([loss.value for loss in losses.values()]).sum().backward()
    assert ours == counter.get_total_flops() > 0


@pytest.mark.parametrize(
    "run",
    [
        lambda x, w: x @ w,
        torch.matmul,
        lambda x, w: torch.einsum("bnd,de->bne", x, w),
        lambda x, w: torch.bmm(x, w.expand(2, -1, -1)),
        lambda x, w: nn.functional.linear(x, w.T),
        lambda x, w: nn.functional.conv1d(x.transpose(1, 2), w.T[:, :, None]),
    ],
)
def test_every_way_to_multiply_is_counted(run: Callable[..., torch.Tensor]) -> None:
    x, w = torch.randn(2, 5, 8, requires_grad=True), torch.randn(8, 6, requires_grad=True)
    with FlopCounter() as counter:
        run(x, w)
    assert (counter.forward, counter.backward) == (2 * 2 * 5 * 8 * 6, 2 * 2 * 2 * 5 * 8 * 6)
    with FlopCounter() as counter, torch.no_grad():
        run(x, w)
    assert counter.backward == 0


def test_kept_bytes_leave_out_parameters_and_count_a_storage_once() -> None:
    layer = nn.Linear(8, 8, device="meta")
    x = torch.empty(4, 8, device="meta")
    with KeptBytes(layer.parameters()) as kept:
        hidden = layer(x)
        (hidden.relu() * hidden).sum()
        assert kept.total == 3 * 4 * 8 * 4  # x, hidden, its relu


def test_a_stack_of_equal_layers_is_measured_by_two_and_left_as_it_was(small_coca: Callable[..., Blueprint]) -> None:
    checked = small_coca("components.*.depth=6").check()
    compiled = compile_stage(checked, "pretrain")
    model = build(checked, "meta")
    layers = list(model.modules())
    batch = synthetic_batch(compiled.plan, 4)
    with FlopCounter() as counter, KeptBytes(model.parameters()) as kept:
        model(compiled.run, batch, Step())
        expected = (counter.total, kept.total)
    assert measure_flops(checked, model, compiled, 4) == expected
    assert list(model.modules()) == layers


class Parallel(nn.Module):
    """Three equal layers beside each other, which somebody asks what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, several: list[torch.Tensor]) -> list[torch.Tensor]:
        assert all(isinstance(layer, nn.Linear) for layer in self.layers)
        return [layer(x) for layer, x in zip(self.layers, several, strict=True)]


def test_equal_layers_that_are_given_other_shapes_are_each_measured() -> None:
    with torch.device("meta"):
        model, several = Parallel(), [torch.empty(2, tokens, 8, requires_grad=True) for tokens in (3, 5, 7)]
    for measured in (True, False):
        counter, kept = FlopCounter(), KeptBytes(model.parameters())
        with counter, kept, measured_once(model, counter, kept) if measured else nullcontext():
            model(several)
        assert counter.forward == 2 * 2 * (3 + 5 + 7) * 8 * 8
    assert not any("forward" in vars(layer) for layer in model.layers)


def test_what_cannot_be_counted_is_not_known_and_fails_no_build(
    small_coca: Callable[..., Blueprint], tmp_path: Path
) -> None:
    plugin = tmp_path / "asking.py"
    plugin.write_text(ASKING, encoding="utf-8")
    changes = ("+components.asking={use: asking}", "image_embedding=asking(previous)")
    report = small_coca(*changes, plugins=[plugin]).report()
    assert report.flops["step"] is None and "item()" in report.flops["unknown"]
    assert report.parameters["total"] > 0
