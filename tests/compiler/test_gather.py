"""Rows of other processes come in one collective: the same bits as one after the other, and in fewer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.passes import PASSES
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.runtime.stage import Scale, Values
from compose_vlp.values.processes import all_rows_at_once
from tests.compiler.sameness import Outcome, assert_same, outcome
from tests.support import in_float64, spawn
from tests.tiny_papers import tiny_paper

EVERY_ROW = (
    "graph.keys=memory(image=gathered(momentum.image_embedding), text=gathered(momentum.text_embedding))",
    "graph.wrong_image=matched(v=gathered(v)[neg.image])",
    "graph.wrong_text=matched(t=gathered(t)[neg.text])",
)
COLLECTIVES = {"CoCa": (4, 2), "VLMo": (11, 3), "ALBEF": (8, 3)}
"""Of a step without the pass and with it: rows, their lengths, gradients, and what enters a queue."""


def program(paper: str, *without: str) -> tuple[Any, str, Compiled]:
    blueprint = tiny_paper(paper, *(EVERY_ROW if paper == "ALBEF" else ())).check()
    stage = next(name for name in ("pairs", "pretrain") if name in blueprint.stages)
    blueprint = blueprint.of_stage(stage)
    return blueprint, stage, compile_stage(blueprint, stage, without=without)


def counted(calls: list[str], name: str) -> None:
    """Write down each call of one of torch's collectives; this process is at its end."""
    plain: Callable[..., Any] = getattr(dist, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return plain(*args, **kwargs)

    setattr(dist, name, call)


def step_of(paper: str, rank: int, calls: list[str], *without: str) -> tuple[Outcome, int]:
    blueprint, _, compiled = program(paper, *without)
    model = build(blueprint, seed=0).double()
    model.tokenizers = synthetic_tokenizers(blueprint)
    batch = in_float64(synthetic_batch(compiled.plan, 4, "cpu", seed=rank))
    params = Values(blueprint.params, Scale(8, 8, 1)).at(0)
    calls.clear()
    return outcome(model, compiled, batch, Step(params)), len(calls)


def both_ways(rank: int) -> dict[str, Any]:
    """Each paper with the pass and without it, and odd tensors beside each other."""
    calls: list[str] = []
    for name in ("all_gather", "all_reduce"):
        counted(calls, name)
    actual: dict[str, Any] = {"odd": odd(rank)}
    for paper in COLLECTIVES:
        (apart, before), (once, after) = (step_of(paper, rank, calls, *without) for without in (("gather",), ()))
        differing = [
            f"{field} {name}"
            for field in ("values", "gradients", "state")
            for name, tensor in getattr(apart, field).items()
            if not torch.equal(tensor, getattr(once, field)[name])
        ]
        assert_same(once, apart, paper, tolerance=1e-12)
        actual[paper] = (before, after), differing
    return actual


def odd(rank: int) -> list[Any]:
    """Flags, halves, wholes and an empty tensor travel as bytes; gradients of two types come back."""
    flags = torch.tensor([[True, False, rank == 1]])
    halves = torch.full((1, 3), 1.5 + rank, dtype=torch.bfloat16, requires_grad=True)
    wide = torch.full((1, 1), 2.0 + rank, dtype=torch.float64, requires_grad=True)
    rows = all_rows_at_once([flags, halves, torch.tensor([7 + rank]), torch.empty(1, 0), wide])
    (rows[1].double().sum() * (rank + 1) + rows[4].square().sum()).backward()
    assert halves.grad is not None and wide.grad is not None
    follow = [row.requires_grad for row in rows]
    return [*(row.tolist() for row in rows), follow, halves.grad.tolist(), wide.grad.tolist()]


@pytest.fixture(scope="module")
def processes() -> list[dict[str, Any]]:
    return spawn(both_ways)


@pytest.mark.parametrize("paper", COLLECTIVES)
def test_one_collective_gives_the_bits_of_several(paper: str, processes: list[dict[str, Any]]) -> None:
    for actual in processes:
        collectives, differing = actual[paper]
        assert collectives == COLLECTIVES[paper]
        # gradients that several readers of a value give are added up in the order in which these stand
        assert all(name.startswith("gradients ") for name in differing)
        assert not differing or paper == "ALBEF"


def test_tensors_of_any_type_travel_together(processes: list[dict[str, Any]]) -> None:
    for rank, actual in enumerate(processes):
        assert actual["odd"] == [
            [[True, False, False], [True, False, True]], [[1.5] * 3, [2.5] * 3], [7, 8], [[], []], [[2.0], [3.0]],
            [False, True, False, False, True], [[3.0] * 3], [[4.0 * (2 + rank)]],
        ]  # fmt: skip


def test_the_program_shows_what_is_gathered_together() -> None:
    _, _, compiled = program("VLMo")
    (line,) = [line for line in compiled.source.splitlines() if " = gather(" in line]
    assert line.split(" = ")[1].startswith(
        "gather(image_embedding, image_branch, image, caption, text_embedding, text_branch)"
    )
    assert compiled.passes[-1].name == list(PASSES)[-1] == "gather"
    assert compiled.passes[-1].note.startswith("one collective for image_embedding, image_branch, ")
    assert " = gather(" not in program("VLMo", "gather")[2].source
