"""Layers that run again in the backward: the same numbers to the last bit, less kept, and no other trace."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from compose_vlp.api import Blueprint
from compose_vlp.compiler.accumulation import compile_pieces
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.recompute import recomputed_layers, recomputing
from compose_vlp.compiler.report import measure_step
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.components.attention.attend import use_backend
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.device import Precision, autocast
from compose_vlp.runtime.memory import recomputable
from compose_vlp.runtime.processes import ALONE
from compose_vlp.runtime.stage import choose_of_stage, stage_model
from compose_vlp.runtime.training.engine import Engine
from compose_vlp.runtime.training.gradients import InPieces
from tests.conftest import SMALL
from tests.live_bytes import LiveBytes
from tests.support import in_float64
from tests.tiny_papers import PAPERS, tiny_paper

NOISY = ("components.*.dropout=0.2", "components.*.attention_dropout=0.2", "components.*.drop_path=0.3")
DRAWING = {"ALBEF": NOISY[:2], "BLIP": NOISY, "CoCa": (), "VLMo": NOISY[2:], "BEiT-3": NOISY[2:]}


class Stepping:
    """Steps of a stage on rows that are made up, with noise that always begins alike."""

    def __init__(self, blueprint: CheckedBlueprint, stage: str, dtype: torch.dtype = torch.float64) -> None:
        self.stage, self.own = stage, blueprint.of_stage(stage)
        trained = stage_model(blueprint, stage)[1]
        self.compiled = compile_stage(blueprint, stage, trainable=trained)
        self.dtype = dtype

    def model(self) -> Model:
        model = build(self.own, seed=0).to(self.dtype).train()
        model.tokenizers = synthetic_tokenizers(self.own)
        choose_of_stage(model, self.own, self.stage)
        model.start_teachers(list(model.worlds))
        return model

    def losses(self, model: Model, names: tuple[str, ...], rows: int = 4) -> dict[str, Tensor]:
        batch: Any = synthetic_batch(self.compiled.plan, rows, "cpu", seed=1)
        batch = in_float64(batch) if self.dtype == torch.float64 else batch
        torch.manual_seed(7)
        with recomputing(recomputed_layers(model, self.own, names)):
            results = model(self.compiled.run, batch, Step(self.own.constants_and_starts()))
        return {name: loss.value for name, loss in results.items()}


def learned(steps: Stepping, names: tuple[str, ...], around: Callable[[], AbstractContextManager[Any]]) -> Any:
    model = steps.model()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    seen: list[Any] = []
    for _ in range(2):
        with around():
            losses = steps.losses(model, names)
        torch.stack([loss.double() for loss in losses.values()]).sum().backward()
        seen += [*losses.values(), torch.get_rng_state()]
        optimizer.step()
        model.commit()
        optimizer.zero_grad()
    return seen, model.state_dict()


def assert_same(plain: Any, again: Any) -> None:
    assert all(torch.equal(a, b) for a, b in zip(plain[0], again[0], strict=True)), "losses, and what is drawn next"
    assert plain[1].keys() == again[1].keys(), "weights keep their names"
    different = [name for name, tensor in plain[1].items() if not torch.equal(tensor, again[1][name])]
    assert not different


@pytest.mark.parametrize("paper", PAPERS)
def test_losses_weights_and_noise_are_the_same_to_the_last_bit(paper: str) -> None:
    """Dropout, drop-path, teachers, queues, miners, shared towers, keys of contexts and experts included."""
    blueprint = tiny_paper(paper, *DRAWING[paper]).check()
    stage = next(name for name in ("pairs", "pretrain") if name in blueprint.stages)
    steps, names = Stepping(blueprint, stage), recomputable(blueprint, stage)
    assert names
    assert_same(learned(steps, (), nullcontext), learned(steps, names, nullcontext))


@pytest.mark.parametrize(
    "changes",
    [
        ("inputs.image.size=32", "components.vision={use: timm, model: resnet10t}"),
        ("inputs.image.size=160", "components.vision={use: timm, model: test_vit, drop_path: 0.3}"),
        ("components.unimodal.ffn={use: moe, experts: 3, router_z: 0.1}",),
    ],
    ids=["batch norms", "rerouted attention", "auxiliary losses"],
)
def test_what_stands_around_a_layer_stands_around_it_again(changes: tuple[str, ...]) -> None:
    """Statistics of a batch norm move once; an asked backend runs both times; what a part adds is no more."""
    small = [each for each in SMALL if not each.startswith(("inputs.image", "components.vision", "components.*"))]
    narrow = ["components.unimodal.width=16", "components.multimodal.width=16"]
    blueprint = Blueprint.load("tiny/coca", overrides=[*small, *narrow, *changes]).check()
    steps, names = Stepping(blueprint, "pretrain"), recomputable(blueprint, "pretrain")
    assert_same(*(learned(steps, chosen, partial(use_backend, "eager")) for chosen in ((), names)))


def test_half_precision_is_that_of_the_first_run() -> None:
    steps = Stepping(tiny_paper("CoCa").check(), "pretrain", torch.float32)
    half = partial(torch.autocast, "cpu", torch.bfloat16)
    assert_same(*(learned(steps, names, half) for names in ((), recomputable(tiny_paper("CoCa").check(), "pretrain"))))


def test_pieces_of_a_batch_give_the_same_gradients() -> None:
    """The first pass over a piece keeps nothing in any case, the second draws the noise of the first."""
    blueprint = tiny_paper("ALBEF", *DRAWING["ALBEF"]).check()
    steps = Stepping(blueprint, "pretrain")
    pieces = compile_pieces(blueprint, "pretrain", trainable=stage_model(blueprint, "pretrain")[1])
    batch = in_float64(synthetic_batch(steps.compiled.plan, 4, "cpu", seed=1))
    gradients = []
    for names in ((), recomputable(blueprint, "pretrain")):
        model = steps.model()
        engine = Engine(model, recomputed_layers(model, steps.own, names))
        torch.manual_seed(7)
        weights = dict.fromkeys(steps.compiled.plan.results, 1.0)
        InPieces(engine, pieces, 2, ALONE, nullcontext)(batch, weights, Step(steps.own.constants_and_starts()))
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert gradients[0] and len(gradients[0]) == len(gradients[1])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_nothing_stays_on_the_modules_and_nothing_runs_twice_without_gradients() -> None:
    blueprint = tiny_paper("CoCa").check()
    steps, runs = Stepping(blueprint, "pretrain"), list[str]()
    model = steps.model()
    (first, *_) = layers = recomputed_layers(model, blueprint, ("vision", "multimodal"))
    plain = first.layer.forward
    first.layer.forward = lambda *args, **kwargs: (runs.append("ran"), plain(*args, **kwargs))[1]
    with torch.no_grad():
        steps.losses(model, ("vision", "multimodal"))
    assert runs == ["ran"]
    torch.stack([*steps.losses(model, ("vision", "multimodal")).values()]).sum().backward()
    assert len(runs) == 3, "forward, and once more in the backward"
    del first.layer.forward
    assert not any("forward" in vars(each.layer) for each in layers)


# --- what it takes


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("paper", "again"), [("tiny/coca", False), ("tiny/coca", True), ("tiny/blip", True)])
def test_what_is_counted_is_what_a_step_holds_at_most(paper: str, again: bool, precision: Precision) -> None:
    """Activations and gradients together, those of contexts, keys and values included, and of rounded weights."""
    blueprint = Blueprint.load(paper).check()
    stage, rows = next(iter(blueprint.stages)), 16
    steps, names = Stepping(blueprint, stage, torch.float32), recomputable(blueprint, stage) if again else ()
    meta = stage_model(blueprint, stage)[0]
    counted = measure_step(steps.own, meta, steps.compiled, rows, names, precision, kind="cpu")
    model = steps.model()
    with LiveBytes() as live:
        with autocast(torch.device("cpu"), precision)():
            losses = steps.losses(model, names, rows)
        torch.stack([*losses.values()]).sum().backward()
    assert 0.95 * live.most < counted.with_gradients < 1.13 * live.most, "of a text, all words count as drawn"


def test_a_count_is_the_same_each_time() -> None:
    """Storages that are freed give their identity to others, which are not taken for them."""
    blueprint = Blueprint.load("albef").check()
    stage = next(iter(blueprint.stages))
    names, compiled = recomputable(blueprint, stage), Stepping(blueprint, stage).compiled
    costs = [
        measure_step(blueprint.of_stage(stage), stage_model(blueprint, stage)[0], compiled, 4, names) for _ in range(4)
    ]
    assert len({(cost.kept, cost.activations, cost.with_gradients) for cost in costs}) == 1


def test_the_second_run_is_counted_as_torch_counts_it() -> None:
    """Layer by layer, as far as it goes: what nothing is kept behind is not made again."""
    blueprint = tiny_paper("CoCa", "components.*.depth=4").check()
    steps, names = Stepping(blueprint, "pretrain"), ("vision", "unimodal", "multimodal")
    model = stage_model(blueprint, "pretrain")[0]
    counted = measure_step(steps.own, model, steps.compiled, 4, names)
    with FlopCounterMode(display=False) as counter:
        with recomputing(recomputed_layers(model, blueprint, names)):
            losses = model(steps.compiled.run, synthetic_batch(steps.compiled.plan, 4), Step())
        torch.stack([loss.value for loss in losses.values()]).sum().backward()
    assert counted.flops == counter.get_total_flops() > measure_step(steps.own, model, steps.compiled, 4).flops
