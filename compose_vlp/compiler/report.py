"""What `build` says of a model before any weight exists: parameters, shapes, FLOPs, memory, passes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from compose_vlp.compiler.adapting import adapted_maps
from compose_vlp.compiler.compile import Compiled
from compose_vlp.compiler.flops import FlopCounter, KeptBytes
from compose_vlp.compiler.model import Model, Step
from compose_vlp.compiler.repeats import measured_once
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.graph.graph import CheckedBlueprint


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one training step (forward and backward), a multiply-add counted as two.

    What could not be counted is None, and `unknown` says why.
    """

    batch: int
    step: int | None
    step_without_passes: int | None
    saved_bytes: int | None  # activations kept for the backward pass
    unknown: str = ""


class NotCounted(Exception):
    """A component asks what its tensors hold, and while FLOPs are counted they hold nothing."""


@dataclass(frozen=True)
class Report:
    """Everything that `build --json` gives. `values`: name -> kind and shape; bytes are for float32 with AdamW."""

    name: str
    parameters: dict[str, Any]  # total, trainable, by_component, untrained (not reached by the stage), frozen
    layer_decay: list[dict[str, Any]]  # factor, names, parameters of each level; empty where rates do not fall
    flops: dict[str, Any]
    passes: list[dict[str, Any]]
    values: dict[str, dict[str, Any]]
    memory: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_flops(blueprint: CheckedBlueprint, model: Model, compiled: Compiled, rows: int) -> tuple[int, int]:
    """FLOPs of one forward and backward on `rows` rows, and the bytes kept for the backward, on the model's device.

    Raises:
        NotCounted: the model cannot be run without numbers.
    """
    batch = synthetic_batch(compiled.plan, rows, next(model.parameters()).device)
    model.tokenizers = synthetic_tokenizers(blueprint)
    with FlopCounter() as counter, KeptBytes(model.parameters()) as kept, measured_once(model, counter, kept):
        try:
            model(compiled.run, batch, Step(blueprint.constants_and_starts()))
        except (RuntimeError, TypeError) as error:
            if "meta" not in str(error).lower():  # torch says so wherever a tensor without numbers is asked for one
                raise
            raise NotCounted(str(error).strip().splitlines()[0]) from error
        saved = kept.total
    return counter.total, saved


def build_report(
    blueprint: CheckedBlueprint,
    model: Model,
    compiled: Compiled,
    plain: Compiled | None,
    rows: int,
    layer_decay: Iterable[dict[str, Any]] = (),
) -> Report:
    """Measure a stage's program on a meta model; `plain` is the same program without passes, for comparison.

    What of the model needs no gradient counts as frozen, and as having none; teachers hold weights too.
    """
    flops = _flops(blueprint, model, compiled, plain, rows)
    by_component = {name: count for name, count in model.component_parameters().items() if count}
    total = sum(by_component.values())
    reached = {call.target for call in compiled.plan.calls if call.role == "component" and call.world is None}
    reached |= {f"losses.{call.target}" for call in compiled.plan.calls if call.role == "loss"}
    modules = [module for name, module in model.parts().items() if name in reached]
    reached |= {
        f"adapters.{linear_map.adapter_name}" for module in modules for linear_map in adapted_maps(module).values()
    }
    trainable = sum(p.numel() for p in {p for module in modules for p in module.parameters() if p.requires_grad})
    idle = [name for name in by_component if name not in reached]
    frozen = [
        name
        for name, module in model.parts().items()
        if name in by_component and not any(p.requires_grad for p in module.parameters())
    ]
    held = sum(p.numel() for p in model.parameters())
    return Report(
        name=blueprint.name,
        parameters={
            "total": total,
            "trainable": trainable,
            "by_component": by_component,
            "untrained": idle,
            "frozen": frozen,
        },
        layer_decay=list(layer_decay),
        flops=asdict(flops),
        passes=[asdict(applied) for applied in compiled.passes],
        values=shapes(blueprint),
        memory={
            "weights": 4 * held,
            "gradients": 4 * trainable,
            "optimizer": 8 * trainable,
            "activations": flops.saved_bytes or 0,
        },
    )


def report_without_stages(blueprint: CheckedBlueprint, model: Model, rows: int) -> Report:
    """The same where no stage says what a step is: all weights are there, and nothing is trained."""
    by_component = {name: count for name, count in model.component_parameters().items() if count}
    total, held = sum(by_component.values()), sum(p.numel() for p in model.parameters())
    return Report(
        name=blueprint.name,
        parameters={"total": total, "trainable": 0, "by_component": by_component, "untrained": [], "frozen": []},
        layer_decay=[],
        flops=asdict(Flops(rows, None, None, None, "the blueprint has no stages, so there is no step")),
        passes=[],
        values=shapes(blueprint),
        memory={"weights": 4 * held, "gradients": 0, "optimizer": 0, "activations": 0},
    )


def _flops(blueprint: CheckedBlueprint, model: Model, compiled: Compiled, plain: Compiled | None, rows: int) -> Flops:
    try:
        step, saved = measure_flops(blueprint, model, compiled, rows)
        before = measure_flops(blueprint, model, plain, rows)[0] if plain else None
    except NotCounted as error:
        return Flops(rows, None, None, None, str(error))
    return Flops(rows, step, before, saved)


def shapes(blueprint: CheckedBlueprint) -> dict[str, dict[str, Any]]:
    """Kind and symbolic shape of every named value of the graph."""
    calls = blueprint.plan.by_id()
    shape_of: dict[str, dict[str, Any]] = {}
    for name, ref in blueprint.values.items():
        kind = calls[ref.call].type.at(ref.path)
        shape_of[name] = {"kind": kind.kind, "shape": [*kind.shape()]}
    return shape_of
