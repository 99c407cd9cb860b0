"""Programs on a GPU, as far as they can be seen without one: they trace over fake CUDA tensors, which hold no number.

What asks for a number on the way (`.item()`, a shape that depends on numbers) cannot be traced, and on a GPU would wait
for it. Backward passes need a driver, and are seen on a machine that has one.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils import _pytree as pytree

from compose_vlp.api import Blueprint
from compose_vlp.compiler import program_runtime
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.components.attention.attend import explain, use_backend


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTensorMode:
    """Fake tensors; the places that a loss needs, which are counted once a step, are five that nobody chose."""
    monkeypatch.setattr(program_runtime, "select", lambda loss, x: torch.zeros(5, dtype=torch.long, device="cuda"))
    return FakeTensorMode(allow_non_fake_inputs=True)


def on_gpu(value: Any) -> Any:
    return pytree.tree_map_only(Tensor, lambda t: torch.empty(t.shape, dtype=t.dtype, device="cuda"), value)


def losses(fake: FakeTensorMode, *names: str) -> dict[str, Tensor]:
    blueprint = Blueprint.load(*names).check()
    stage = list(blueprint.stages)[-1]
    own, compiled = blueprint.of_stage(stage), compile_stage(blueprint, stage)
    model = build(own, "meta")
    with fake, use_backend("sdpa"):
        model.to_empty(device="cuda")
        model.tokenizers = synthetic_tokenizers(own)
        batch = {name: on_gpu(value) for name, value in synthetic_batch(compiled.plan, 4, "meta").items()}
        found = model(compiled.run, batch, Step(own.constants_and_starts()))
    return {name: loss.value for name, loss in found.items()}


@pytest.mark.parametrize(
    "names", [("tiny/coca",), ("clip",), ("siglip",), ("beit3_base", "tasks/beit3/retrieval")], ids="+".join
)
def test_a_forward_waits_for_no_number(fake: FakeTensorMode, names: tuple[str, ...]) -> None:
    found = losses(fake, *names)
    assert found and all(loss.device.type == "cuda" and loss.shape == () for loss in found.values())


def test_what_asks_for_a_number_is_seen(fake: FakeTensorMode) -> None:
    with fake, pytest.raises(DataDependentOutputException):
        float(torch.zeros((), device="cuda"))


@pytest.mark.parametrize(
    ("dtype", "width", "backend"),
    [(torch.float32, 64, "xformers"), (torch.bfloat16, 64, "xformers"), (torch.float16, 128, "xformers"),
     (torch.float64, 64, "sdpa"), (torch.bfloat16, 34, "sdpa"), (torch.float32, 4, "sdpa")],
)  # fmt: skip
def test_backends_are_chosen_by_type_and_width_of_heads(
    fake: FakeTensorMode, dtype: torch.dtype, width: int, backend: str
) -> None:
    pytest.importorskip("xformers", reason="wheels are for Linux on x86-64 alone")
    with fake, use_backend("auto"):
        heads = torch.empty(2, 5, 3, width, dtype=dtype, device="cuda")
        with torch.autocast("cuda", enabled=False):
            chosen = explain(heads, heads, heads)
    assert chosen.backend == backend, chosen.reason
