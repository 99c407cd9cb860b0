"""Programs on a GPU, as far as they can be seen without one: they trace over fake CUDA tensors, which hold no number.

What asks for a number on the way (`.item()`, a shape that depends on numbers) cannot be traced, and on a GPU would wait
for it; copies for which the host waits are noted. Backward passes need a driver: `make gpu-test` has them.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from compose_vlp.api import Blueprint
from compose_vlp.compiler import program_runtime
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.components.attention.attend import explain, use_backend
from compose_vlp.components.maskers import patch_masker
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.values import chosen
from tests.tiny_papers import PAPERS, tiny_paper


@pytest.fixture
def stated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The places for which docs/compiler.md says that the host waits, with numbers that nobody drew."""
    monkeypatch.setattr(program_runtime, "select", lambda loss, x: torch.zeros(5, dtype=torch.long, device="cuda"))
    monkeypatch.setattr(chosen, "most_of_a_row", lambda inside: min(3, inside.shape[1]))
    # Blocks of patches are drawn on the processor, which a fake one cannot do.
    monkeypatch.setattr(patch_masker, "draw_blocks", lambda rows, side, _: torch.zeros(rows, side**2, dtype=torch.bool))


@pytest.fixture
def fake() -> FakeTensorMode:
    return FakeTensorMode(allow_non_fake_inputs=True)


class Waits(TorchDispatchMode):
    """Notes copies between processor and GPU that end only when all work before them is done."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given, made = (
            {leaf.device.type for leaf in pytree.tree_leaves(tensors) if isinstance(leaf, Tensor)}
            for tensors in ((args, kwargs), result)
        )
        # A single number that a kernel is given by value (`x[:2] = 1`) is no copy.
        is_copy = func.overloadpacket not in (torch.ops.aten.fill, torch.ops.aten.fill_)
        blocks = is_copy and {"cpu", "cuda"} <= given | made and not (kwargs or {}).get("non_blocking")
        if blocks or func.overloadpacket is torch.ops.aten.multinomial:  # which looks at the weights first
            self.noted.append(str(func))
        return result


def losses(fake: FakeTensorMode, blueprint: CheckedBlueprint, stage: str) -> tuple[dict[str, Tensor], list[str]]:
    """A stage's losses on fake tensors, and what waited on the way."""
    own, compiled = blueprint.of_stage(stage), compile_stage(blueprint, stage)
    model = build(own, "meta").train()
    with fake, use_backend("sdpa"):
        model.to_empty(device="cuda")
        model.tokenizers = synthetic_tokenizers(own)
        model.following = tuple(model.worlds)  # as where a stage has begun
        batch = {name: on_gpu(value) for name, value in synthetic_batch(compiled.plan, 4, "meta").items()}
        model(compiled.run, batch, Step(own.constants_and_starts()))  # the first time, layouts of a bias are copied
        with Waits() as waits:
            model.update_teachers("before", dict.fromkeys(model.worlds, 0.9))
            results = model(compiled.run, batch, Step(own.constants_and_starts()))
            model.commit()
    return {name: loss.value for name, loss in results.items()}, waits.noted


def on_gpu(value: Any) -> Any:
    return pytree.tree_map_only(Tensor, lambda t: torch.empty(t.shape, dtype=t.dtype, device="cuda"), value)


@pytest.mark.usefixtures("stated", "small_chunks")
@pytest.mark.parametrize("paper", PAPERS)
def test_a_papers_losses_wait_for_no_number_but_where_the_docs_say(fake: FakeTensorMode, paper: str) -> None:
    blueprint = tiny_paper(paper).check()
    for stage in blueprint.stages:
        by_name, waits = losses(fake, blueprint, stage)
        assert by_name and all(loss.device.type == "cuda" and loss.shape == () for loss in by_name.values())
        assert not waits, stage


@pytest.mark.usefixtures("stated")
@pytest.mark.parametrize("names", [("clip",), ("siglip",), ("beit3_base", "tasks/beit3/retrieval")], ids="+".join)
def test_a_contrast_waits_for_no_number(fake: FakeTensorMode, names: tuple[str, ...]) -> None:
    blueprint = Blueprint.load(*names).check()
    by_name, waits = losses(fake, blueprint, list(blueprint.stages)[-1])
    assert by_name and not waits


def test_what_asks_for_a_number_is_seen(fake: FakeTensorMode) -> None:
    with fake, pytest.raises(DataDependentOutputException):
        float(torch.zeros((), device="cuda"))
    with fake, pytest.raises(DynamicOutputShapeException):
        torch.ones(3, device="cuda").nonzero()
    with fake, Waits() as waits:
        torch.tensor([1, 2], device="cuda")
        torch.zeros(3, device="cuda").cpu()
        torch.zeros(3).to("cuda", non_blocking=True)
    assert waits.noted == ["aten._to_copy.default"] * 2


def choice(fake: FakeTensorMode, dtype: torch.dtype, width: int) -> str:
    with fake, use_backend("auto"), torch.autocast("cuda", enabled=False):
        heads = torch.empty(2, 5, 3, width, dtype=dtype, device="cuda")
        return explain(heads, heads, heads).backend


@pytest.mark.parametrize(
    ("dtype", "width", "backend"),
    [(torch.float32, 64, "xformers"), (torch.bfloat16, 64, "xformers"), (torch.float16, 128, "xformers"),
     (torch.float64, 64, "sdpa"), (torch.bfloat16, 34, "sdpa"), (torch.float32, 4, "sdpa")],
)  # fmt: skip
def test_backends_are_chosen_by_type_and_width_of_heads(
    fake: FakeTensorMode, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, width: int, backend: str
) -> None:
    pytest.importorskip("xformers", reason="wheels are for Linux on x86-64 alone")
    assert choice(fake, dtype, width) == backend
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert choice(fake, dtype, width) == "sdpa", "torch.compile does not see into xformers"
