"""The five papers under torch's engines learn what one process learns from the whole batch."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils import _pytree as pytree

from compose_vlp.blueprint.sections import Distribute
from compose_vlp.compiler.accumulation import Pieces, compile_pieces
from compose_vlp.compiler.compile import Compiled, compile_stage, kind_of
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.recompute import recomputed_layers
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.compiler.teachers import following
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.protocols import AfterStep
from compose_vlp.runtime.memory import recomputable
from compose_vlp.runtime.optimizer import AdamW, Rule, make_optimizer, parameter_paths
from compose_vlp.runtime.processes import ALONE, Processes
from compose_vlp.runtime.stage import Scale, Values, choose_of_stage, loss_weights, plan_stage, stage_model
from compose_vlp.runtime.training.engine import Engine
from compose_vlp.runtime.training.engines import make_engine, whole_model, whole_state
from compose_vlp.runtime.training.gradients import InOneGo, InPieces, Losses
from compose_vlp.runtime.training.loop import StageLoop
from compose_vlp.runtime.training.sharding import local
from compose_vlp.values import Index, Text
from tests.support import assert_near, silence, spawn
from tests.tiny_papers import PAPERS, tiny_paper

pytestmark = [pytest.mark.training, pytest.mark.slow, pytest.mark.timeout(600)]
ROWS, STEPS = 8, 5
BLIND = (
    "components.memory.size=16",  # full after two steps, so that later ones overwrite it and compare with it
    "graph.keys=memory(image=gathered(momentum.image_embedding), text=gathered(momentum.text_embedding))",
    "graph.wrong_image=matched(v=gathered(v)[neg.image])",
)
EVERY_ROW: Mapping[str, tuple[str, ...]] = {
    "ALBEF": (*BLIND, "graph.wrong_text=matched(t=gathered(t)[neg.text])"),
    "BLIP": (*BLIND, "graph.wrong_text=matched(caption=gathered(caption)[neg.text])"),
}
"""What lets each row be compared with the batch of all processes."""


@dataclass(frozen=True)
class Way:
    """An engine on so many processes, with a batch in so many pieces, and layers that run again in the backward."""

    use: str
    world: int
    pieces: int = 1
    paper: str = ""
    again: bool = False

    @property
    def distribute(self) -> Distribute:
        return Distribute(use=self.use, shards=2 if self.use == "hybrid" else None)  # type: ignore[arg-type]


OF_TWO = (Way("ddp", 2), Way("ddp", 2, 2, "ALBEF", again=True), Way("ddp", 2, 2, "CoCa"))
OTHER_TWO = (Way("fsdp", 2), Way("fsdp", 2, 2, "CoCa", again=True))
OF_FOUR = (Way("fsdp", 4, 1, "BLIP", again=True), Way("hybrid", 4), Way("hybrid", 4, 1, "CoCa", again=True))


class Chosen(Step):
    """A step in which maskers draw by what stands in a row, and wrong partners are the next rows of the whole batch."""

    def __init__(self, rows: Tensor, miners: frozenset[str], params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self.rows, self.miners = rows, miners

    def choice(self, call: str, component: Any, *args: Any, **kwargs: Any) -> Any:
        if call in self.miners:
            return SimpleNamespace(image=Index((self.rows + 1) % ROWS), text=Index((self.rows + 3) % ROWS))
        first = next(leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.dim())
        made = []
        for row in range(len(first)):
            own, named = pytree.tree_map_only(Tensor, partial(one_row, row), (args, kwargs))
            with torch.random.fork_rng():
                torch.manual_seed(zlib.crc32(first[row].numpy().tobytes()))
                made.append(component(*own, **named))
        leaves, structures = zip(*(pytree.tree_flatten(value) for value in made), strict=True)
        joined = [torch.cat(same) if isinstance(same[0], Tensor) else same[0] for same in zip(*leaves, strict=True)]
        return pytree.tree_unflatten(joined, structures[0])


def one_row(row: int, tensor: Tensor) -> Tensor:
    return tensor[row : row + 1] if tensor.dim() else tensor


@cache
def compiled(paper: str) -> tuple[CheckedBlueprint, str, Compiled, Pieces]:
    blueprint = tiny_paper(paper, *EVERY_ROW.get(paper, ()), batch=ROWS).check()
    stage = next(name for name in ("pairs", "pretrain") if name in blueprint.stages)
    blueprint = blueprint.of_stage(stage)
    trained = stage_model(blueprint, stage)[1]
    pieces = compile_pieces(blueprint, stage, trainable=trained)
    return blueprint, stage, compile_stage(blueprint, stage, trainable=trained), pieces


@dataclass
class Run:
    """One way of training a tiny paper, in one of its processes."""

    paper: str
    way: Way
    rank: int

    def __post_init__(self) -> None:
        self.blueprint, self.stage, self.compiled, pieces = compiled(self.paper)
        self.processes = Processes(self.rank, self.way.world, torch.device("cpu")) if self.way.world > 1 else ALONE
        self.model: Model = build(self.blueprint, seed=0).double()
        silence(self.model)
        with torch.no_grad():  # biases and experts that are all alike would hide what goes wrong
            noise = torch.Generator().manual_seed(5)
            for parameter in self.model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=noise), alpha=0.02)
        self.model.tokenizers = synthetic_tokenizers(self.blueprint)
        choose_of_stage(self.model, self.blueprint, self.stage)
        plan = plan_stage(self.blueprint, self.stage)
        object.__setattr__(plan, "distribute", self.way.distribute)
        names = recomputable(self.blueprint, self.stage) if self.way.again else ()
        again = recomputed_layers(self.model, self.blueprint, names)
        self.engine: Engine = make_engine(self.model, plan, self.processes, again)
        self.model.start_teachers(following(self.blueprint, self.compiled.plan))
        self.paths = parameter_paths(self.model.parts())
        rules = (Rule(("**.bias",), weight_decay=0.0, lr_scale=0.5),)
        self.how = AdamW(lambda _: 1e-3, (0.9, 0.98), 1e-4, 0.01, 1.0, rules)
        self.optimizer = make_optimizer(self.paths, self.how)
        self.gradients: InOneGo | InPieces = InOneGo(self.engine, self.compiled.run, self.processes, nullcontext)
        if self.way.pieces > 1:
            self.gradients = InPieces(self.engine, pieces, self.way.pieces, self.processes, nullcontext)

    def learn(self) -> dict[str, Any]:
        values = Values(self.blueprint.params, Scale(ROWS, ROWS, STEPS))
        loop = StageLoop(
            model=self.model, gradients=self.step, optimizer=self.optimizer, batches=self.batches(),
            weights=loss_weights(self.blueprint, self.compiled.plan.results, values), params=values.at,
            decays=lambda _: dict.fromkeys(self.blueprint.teachers, 0.9),
            after_step=[module for module in self.model.modules() if isinstance(module, AfterStep)],
        )  # fmt: skip
        losses = [{**report.losses, "norm": report.gradient_norm or 0.0} for report in loop.run(0, STEPS)]
        state = {name: tensor.numpy() for name, tensor in whole_state(self.model, main=self.rank == 0).items()}
        return {"losses": losses, "state": state}

    def step(self, batch: Mapping[str, Any], weights: Mapping[str, float], step: Step) -> Losses:
        share = ROWS // self.way.world
        rows = torch.arange(self.rank * share, (self.rank + 1) * share)
        miners = frozenset(
            call.id
            for call in self.compiled.before.calls
            if (kind := kind_of(self.blueprint, call)) is not None
            and call.role == "component" and kind.traits.draws == "choice" and kind.traits.rows == "batch"
        )  # fmt: skip
        return self.gradients(batch, weights, Chosen(rows, miners, step.params))

    def batches(self) -> Iterator[dict[str, Any]]:
        mine = slice(self.rank * ROWS // self.way.world, (self.rank + 1) * ROWS // self.way.world)
        for number in range(STEPS):
            whole = synthetic_batch(self.compiled.plan, ROWS, "cpu", seed=number)
            inputs = {}
            for name, value in whole.items():
                if isinstance(value, Text):
                    lengths = torch.tensor([8, 12, 5, 9, 12, 7, 10, 6]).clamp(max=value.ids.shape[1])
                    ids = value.ids.where(torch.arange(value.ids.shape[1]) < lengths[:, None], value.pad)
                    value = Text(ids, lengths, value.frame, value.pad)
                inputs[name] = pytree.tree_map_only(
                    Tensor, lambda t: (t.double() if t.is_floating_point() else t)[mine], value
                )
            yield inputs


@contextmanager
def group(name: str, rank: int, world: int, store: Any) -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.PrefixStore(name, store), rank=rank, world_size=world)
    try:
        yield
    finally:
        dist.destroy_process_group()


def in_each(rank: int) -> dict[Any, dict[str, Any]]:
    """Two and two, one pair with either engine, and then four."""
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), 4, rank == 0)
    results = {}
    with group(f"pair {rank // 2}", rank % 2, 2, store):
        for way in (OF_TWO, OTHER_TWO)[rank // 2]:
            for paper in PAPERS if not way.paper else (way.paper,):
                results[paper, way] = Run(paper, way, rank % 2).learn()
    with group("four", rank, 4, store):
        for way in OF_FOUR:
            for paper in PAPERS if not way.paper else (way.paper,):
                results[paper, way] = Run(paper, way, rank).learn()
        results["copies"] = copies(rank)
    store.set(f"done {rank}", "1")
    store.wait([f"done {other}" for other in range(4)])
    return results


def copies(rank: int) -> dict[str, Any]:
    """What evaluation, saving and the next stage see of a divided model."""
    run = Run("BLIP", Way("fsdp", 4), rank)
    run.learn()
    state = whole_state(run.model, everywhere=True)
    model = whole_model(run.model, run.blueprint, torch.device("cpu"), run.processes, everywhere=False)
    parameters = list(run.model.parameters())
    return {
        "copied": model is not run.model,
        "equal": rank > 0
        or all(torch.equal(tensor, state[name].to(tensor.dtype)) for name, tensor in model.state_dict().items()),
        "share": sum(local(p).numel() for p in parameters) / sum(p.numel() for p in parameters),
    }


@pytest.fixture(scope="module")
def learned() -> list[dict[Any, dict[str, Any]]]:
    return spawn(in_each, world=4, joined=False, patience_s=550)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_engine_learns_what_one_process_learns(paper: str, learned: list[dict[Any, dict[str, Any]]]) -> None:
    """Losses, gradient norms, weights, teachers and queues of five steps."""
    results = [(key[1], result) for process in learned for key, result in process.items() if key[0] == paper]
    assert {("ddp", 2), ("fsdp", 2), ("hybrid", 4)} <= {(way.use, way.world) for way, _ in results}
    alone = {pieces: Run(paper, Way("ddp", 1, pieces), 0).learn() for pieces in {way.pieces for way, _ in results}}
    for way, result in results:
        for step, losses in enumerate(alone[way.pieces]["losses"]):
            assert result["losses"][step] == pytest.approx(losses, rel=1e-5), (way, step)
        for name, tensor in alone[way.pieces]["state"].items():
            if result["state"][name].size == tensor.size:  # what was divided, the first process alone has whole
                actual = torch.from_numpy(np.asarray(result["state"][name]))
                assert_near(actual, torch.from_numpy(np.asarray(tensor)), 1e-5, floor=1e-7, what=f"{way} {name}")
    first = [result for key, result in learned[0].items() if key[0] == paper]
    assert all(array.size for result in first for array in result["state"].values())


def test_a_divided_model_is_whole_again_where_that_is_asked(learned: list[dict[Any, dict[str, Any]]]) -> None:
    seen = [process["copies"] for process in learned]
    assert [process["copied"] for process in seen] == [True, False, False, False]
    assert all(process["equal"] for process in seen)
    assert sum(process["share"] for process in seen) == pytest.approx(1)
    assert max(process["share"] for process in seen) < 0.35
