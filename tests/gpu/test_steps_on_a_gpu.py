"""The five papers, tiny: a training step on a GPU gives the losses, gradients and buffers of one on the processor."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from compose_vlp.bench.steps import bench
from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.device import autocast
from tests.compiler.sameness import Outcome, outcome
from tests.support import in_float64, silence
from tests.tiny_papers import PAPERS, tiny_paper

WITHIN: Final = {"float64": 1e-8, "float32": 1e-3, "bf16": 0.1}
"""Of a loss, and of a gradient's norm and a hundredth of the largest one's. float64 takes torch's attention, the others
xformers' on a GPU. On a processor, bf16 differs from float32 by up to 0.04."""

STATED: Final = {
    "masked_lm.py", "next_token.py", "masked_codes.py",  # `select`
    "chosen.py",
    "xformers_backend.py",
    "patch_masker.py",
}  # fmt: skip
"""Files of the places where docs/compiler.md says that the host waits within a forward and backward."""


class Recorded(Step):
    """A step that remembers what maskers and miners chose, to be chosen again on another device."""

    def choice(self, call: str, component: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        chosen = super().choice(call, component, *args, **kwargs)
        self.choices = {**self.choices, call: chosen}
        return chosen


class Papers:
    """A paper's last stage, without noise, and its step in each precision."""

    def __init__(self, paper: str) -> None:
        self.checked: CheckedBlueprint = tiny_paper(paper).check()
        self.stage = list(self.checked.stages)[-1]
        self.compiled: Compiled = compile_stage(self.checked, self.stage)

    def model(self, device: str, precision: str) -> Model:
        model = build(self.checked.of_stage(self.stage), seed=3)
        model.tokenizers = synthetic_tokenizers(self.checked)
        model.start_teachers(list(model.worlds))
        silence(model)
        return model.to(device, torch.float64 if precision == "float64" else torch.float32)

    def step(self, device: str, precision: str, choices: Mapping[str, Any]) -> tuple[Outcome, Mapping[str, Any]]:
        batch = dict(synthetic_batch(self.compiled.plan, 4, "cpu"))
        batch = moved(in_float64(batch) if precision == "float64" else batch, device)
        step = Recorded(self.checked.of_stage(self.stage).constants_and_starts(), choices=choices)
        with autocast(torch.device(device), "bf16" if precision == "bf16" else "fp32")():
            return outcome(self.model(device, precision), self.compiled, batch, step), step.choices


def moved(values: Any, device: str) -> Any:
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), values)


def compare(paper: str, device: str, precision: str) -> None:
    """A step on this device, beside one on the processor in float64, or in float32."""
    papers = Papers(paper)
    expected, choices = papers.step("cpu", "float64" if precision == "float64" else "float32", {})
    result, _ = papers.step(device, precision, moved(copy.deepcopy(choices), device))
    within = WITHIN[precision]
    for name, loss in expected.values.items():
        assert abs(float(result.values[name]) - float(loss)) <= within * abs(float(loss)), name
    largest = max(float(gradient.norm()) for gradient in expected.gradients.values())
    assert result.gradients.keys() == expected.gradients.keys()
    for name, gradient in expected.gradients.items():
        apart = float((result.gradients[name].cpu().double() - gradient.double()).norm())
        assert apart <= within * (float(gradient.norm()) + 0.01 * largest), f"{name}: {apart:.2g}"
    for name, buffer in expected.state.items():
        apart = float((result.state[name].cpu().double() - buffer.double()).norm())
        assert apart <= within * float(buffer.double().norm()), name


@pytest.mark.parametrize("precision", ["float64", "bf16"])
def test_the_comparison_itself_holds_on_a_processor(precision: str) -> None:
    compare("ALBEF", "cpu", precision)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", WITHIN)
@pytest.mark.parametrize("paper", PAPERS)
def test_a_step_is_that_of_the_processor(paper: str, precision: str) -> None:
    compare(paper, "cuda", precision)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("paper", PAPERS)
def test_whole_optimiser_steps_run(paper: str, precision: str) -> None:
    measured = bench(tiny_paper(paper, f"precision={precision}").check(), rounds=1, device=torch.device("cuda"))
    assert measured.device == "cuda" and measured.peak_bytes > 0


@pytest.mark.gpu
@pytest.mark.parametrize("paper", PAPERS)
def test_a_step_waits_only_where_the_docs_say(paper: str) -> None:
    papers = Papers(paper)
    model, batch = papers.model("cuda", "float32"), moved(dict(synthetic_batch(papers.compiled.plan, 4, "cpu")), "cuda")
    step = Step(papers.checked.of_stage(papers.stage).constants_and_starts())
    outcome(model, papers.compiled, batch, step)  # layouts of a bias are copied once
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            outcome(model, papers.compiled, batch, step)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [warning for warning in noted if "synchronizing" in str(warning.message)]
    elsewhere = {f"{w.filename}:{w.lineno}" for w in waits if Path(w.filename).name not in STATED}
    assert not elsewhere
