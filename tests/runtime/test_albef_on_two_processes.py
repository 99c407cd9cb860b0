"""ALBEF on two processes as its authors train it: half batches that meet in the queue alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.teachers import taught_by
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop.verify import checked
from compose_vlp.protocols import AfterStep
from compose_vlp.runtime.optimizer import AdamW, Optimizer, choose_trained, make_optimizer, parameter_paths, set_modes
from compose_vlp.runtime.processes import Processes
from compose_vlp.runtime.training.engine import Replicas
from compose_vlp.runtime.training.gradients import InOneGo, Losses
from compose_vlp.runtime.training.loop import StageLoop
from compose_vlp.values import Embedding, Image, Index, Labels, Text
from tests.support import assert_near, spawn

Result = dict[str, Any]

ROWS, LENGTH, WORDS, STEPS = 8, 7, 40, 3
SMALL = (
    "inputs.image.size=16", f"inputs.caption.max_length={LENGTH}", "components.vision.patch=8",
    f"components.bert={{use: ids, vocab_size: {WORDS}, begin: '1', pad: '0', mask: '3'}}",
    "components.vision.stem=patch", "components.vision.stem_depth=0",
    "components.vision.width=32", "components.text.width=32",
    "components.*.mlp_width=48", "components.image_proj.out=24", "components.text_proj.out=24",
    "components.memory.size=16", f"stages.pretrain.batch={ROWS}",
)  # fmt: skip
GATHERED = (
    "graph.keys=memory(image=gathered(momentum.image_embedding), text=gathered(momentum.text_embedding))",
    "graph.wrong_image=matched(v=gathered(v)[neg.image])",
    "graph.wrong_text=matched(t=gathered(t)[neg.text])",
)
"""Every row is compared with the batch of all processes, and its wrong partners come from there."""

WEIGHTS = {"itc": 1.0, "itm": 1.0, "mlm": 1.0}


@dataclass(frozen=True)
class Replay:
    """Gradients of recorded batches, each with what maskers and miners drew in it."""

    inner: InOneGo

    def __call__(self, batch: Mapping[str, Any], weights: Mapping[str, float], step: Step) -> Losses:
        return self.inner(batch["inputs"], weights, dataclasses.replace(step, choices=batch["choices"]))


def recorded(rank: int, world: int, *, local: bool = False) -> Iterator[dict[str, Any]]:
    """The batches of one of `world` processes; with `local`, wrong partners are within the half of each process."""
    noise = torch.Generator().manual_seed(3)
    for _ in range(STEPS):
        image = torch.randn(ROWS, 3, 16, 16, generator=noise)
        lengths = torch.randint(3, LENGTH + 1, (ROWS,), generator=noise)
        lengths[::4] = LENGTH
        ids = torch.randint(4, WORDS, (ROWS, LENGTH), generator=noise) * (torch.arange(LENGTH) < lengths[:, None])
        ids[:, 0] = 1
        hidden = (torch.rand(ROWS, LENGTH, generator=noise) < 0.3) & (ids > 3)
        hidden[:, 1] = True
        span = ROWS // 2 if local else ROWS
        shift = torch.randint(1, span, (2, ROWS), generator=noise)
        row = torch.arange(ROWS)
        neg = (row % span + shift) % span
        mine = slice(rank * ROWS // world, (rank + 1) * ROWS // world)
        masked = Text(ids.where(~hidden, 3)[mine], lengths[mine], LENGTH)
        labels = Labels(ids.where(hidden, torch.tensor(-100))[mine])
        yield {
            "inputs": {"image": Image(image[mine]), "caption": Text(ids[mine], lengths[mine], LENGTH)},
            "choices": {
                "neg": SimpleNamespace(image=Index(neg[0][mine]), text=Index(neg[1][mine])),
                "masked": SimpleNamespace(text=masked, labels=labels),
            },
        }


def learn(rank: int, *overrides: str, local: bool = False) -> Result:
    """Three steps; the losses of each, and all weights and buffers after them."""
    blueprint = checked("tiny/albef", [*SMALL, *overrides])
    model = built(blueprint)
    processes = Processes(rank, 2, torch.device("cpu"))
    optimizer = prepared(model)
    compiled = compile_stage(blueprint, "pretrain", trainable=lambda _: True)
    model.start_teachers(taught_by(compiled.plan))
    inner = InOneGo(Replicas(model), compiled.run, processes, nullcontext)
    loop = StageLoop(
        model=model, gradients=Replay(inner), optimizer=optimizer, batches=recorded(rank, 2, local=local),
        weights=lambda _: WEIGHTS, params=lambda _: {"alpha": 0.4}, decays=lambda _: {},
        after_step=[module for module in model.modules() if isinstance(module, AfterStep)],
    )  # fmt: skip
    losses = [dict(report.losses) for report in loop.run(0, STEPS)]
    return {"losses": losses, "state": {name: t.tolist() for name, t in model.state_dict().items()}}


def built(blueprint: CheckedBlueprint) -> Model:
    model = build(blueprint, seed=0)
    words = blueprint.components["bert"]
    model.tokenizers = {"bert": words.kind.implementation(words.config)}
    return model


def prepared(model: Model) -> Optimizer:
    modules = dict(model.components.named_children())
    paths = parameter_paths(modules)
    choose_trained(paths, (), ())
    set_modes(modules)
    return make_optimizer(paths, AdamW(lambda _: 1e-3, (0.9, 0.98), 1e-4, 0.01, None, ()))


def in_each(rank: int) -> dict[str, Result]:
    """As the paper's code does it, where no process sees another, and gathered."""
    return {"local": learn(rank, local=True), "gathered": learn(rank, *GATHERED)}


def by_hand() -> Result:
    """The faithful setting on one process: two half batches that see each other in the queue alone."""
    blueprint = checked("tiny/albef", list(SMALL))
    model = built(blueprint)
    compiled = compile_stage(blueprint, "pretrain", trainable=lambda _: True)
    model.start_teachers(taught_by(compiled.plan))
    adamw = torch.optim.AdamW(model.components.parameters(), 1e-3, (0.9, 0.98), 1e-4, 0.01)
    memory, losses = model.student.memory, []
    for halves in zip(*(recorded(rank, 2, local=True) for rank in (0, 1)), strict=True):
        model.update_teachers("before")
        actual, entering = [], []
        for half in halves:
            step = Step({"alpha": 0.4}, choices=half["choices"])
            actual.append(model(compiled.run, half["inputs"], step))
            entering.append(memory.pending)
        words = torch.tensor([float(half["choices"]["masked"].labels.ids.ge(0).sum()) for half in halves])
        means = {name: torch.stack([computed[name].value for computed in actual]).mean() for name in ("itc", "itm")}
        means["mlm"] = torch.stack([computed["mlm"].value for computed in actual]) @ words / words.sum()
        torch.stack(list(means.values())).sum().backward()
        memory.pending = {
            name: Embedding(torch.cat([entered[name].features for entered in entering])) for name in ("image", "text")
        }
        model.commit()
        adamw.step()
        adamw.zero_grad()
        model.student.similarity.after_step()
        losses.append({name: value.item() for name, value in means.items()})
    return {"losses": losses, "state": {name: t.tolist() for name, t in model.state_dict().items()}}


def same(actual: Result, expected: Result) -> None:
    for step, losses in enumerate(expected["losses"]):
        assert actual["losses"][step] == pytest.approx(losses, rel=1e-5), step
    assert actual["state"].keys() == expected["state"].keys()
    for name, tensor in expected["state"].items():
        assert_near(torch.tensor(actual["state"][name]), torch.tensor(tensor), floor=1e-5, what=name)


@pytest.mark.slow
@pytest.mark.training
def test_the_faithful_setting_is_two_half_batches_that_meet_in_the_queue() -> None:
    expected = by_hand()
    for process in spawn(in_each):
        same(process["local"], expected)
        assert process["local"]["losses"] != process["gathered"]["losses"], "gathering makes a difference"
