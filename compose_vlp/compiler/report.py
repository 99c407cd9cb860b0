"""What `build` says of a model before any weight exists: parameters, shapes, FLOPs, memory, passes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from torch import nn

from compose_vlp.compiler.adapting import adapted_maps
from compose_vlp.compiler.autocast import autocast_of_shapes
from compose_vlp.compiler.backward import Backward, whole_gradient
from compose_vlp.compiler.compile import Compiled
from compose_vlp.compiler.flops import FlopCounter
from compose_vlp.compiler.kept import KeptBytes
from compose_vlp.compiler.model import Model, Step
from compose_vlp.compiler.recompute import recomputed_layers
from compose_vlp.compiler.repeats import counted_again, measured_once
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Plan
from compose_vlp.values.processes import apart


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
    """Everything that `build --json` gives. `values`: name -> kind and shape.

    Bytes of weights, gradients and AdamW's moments are those of float32, and of activations those of the `precision`.
    """

    name: str
    parameters: dict[str, Any]  # total, trainable, by_component, untrained (not reached by the stage), frozen
    layer_decay: list[dict[str, Any]]  # factor, names, parameters of each level; empty where rates do not fall
    flops: dict[str, Any]
    passes: list[dict[str, Any]]
    values: dict[str, dict[str, Any]]
    memory: dict[str, int]  # `backward`: what activations and gradients take together at most
    recompute: dict[str, Any]  # components whose layers run again in the backward, and the reason; empty without any
    precision: str  # in which activations are counted, the stage's

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class StepCost(NamedTuple):
    """FLOPs of a forward and backward, and what is held on the way.

    A layer that runs again is among the FLOPs, and what it makes again among what is held at most.
    """

    flops: int
    backward: Backward

    @property
    def kept(self) -> int:
        """Bytes kept when the forward is done."""
        return self.backward.kept

    @property
    def activations(self) -> int:
        """Bytes of activations in the backward at most."""
        return self.backward.most()

    @property
    def with_gradients(self) -> int:
        """Bytes of activations and gradients together in the backward at most."""
        return self.backward.most(whole_gradient)


def measure_flops(blueprint: CheckedBlueprint, model: Model, compiled: Compiled, rows: int) -> tuple[int, int]:
    """FLOPs of one forward and backward on `rows` rows, and the bytes kept for the backward, on the model's device.

    Raises:
        NotCounted: the model cannot be run without numbers.
    """
    cost = measure_step(blueprint, model, compiled, rows)
    return cost.flops, cost.kept


def measure_step(
    blueprint: CheckedBlueprint,
    model: Model,
    compiled: Compiled,
    rows: int,
    recompute: Collection[str] = (),
    precision: str = "fp32",
    kind: str = "cuda",
    halved: Collection[int] = (),
) -> StepCost:
    """Measure a step as `measure_flops` does, the layers of the components `recompute` running again in the backward.

    It runs in a `precision`, by the rules of a `kind` of devices; bytes of weights and of their gradients are those of
    float32 in any. `halved` are the ids of weights whose rounded copies somebody else holds.

    Raises:
        NotCounted: the model cannot be run without numbers.
    """
    layers = recomputed_layers(model, blueprint, recompute)
    batch = synthetic_batch(compiled.plan, rows, next(model.parameters()).device)
    model.tokenizers = synthetic_tokenizers(blueprint)
    with (
        apart(),
        FlopCounter() as counter,
        autocast_of_shapes(precision, kind, halved) as autocast,
        KeptBytes(model.parameters()) as kept,
        counted_again(layers, counter, autocast, kept),
        measured_once(model, counter, kept),
    ):
        autocast.on_halved = kept.leave_out
        try:
            model(compiled.run, batch, Step(blueprint.constants_and_starts()))
        except (RuntimeError, TypeError) as error:
            if "meta" not in str(error).lower():  # torch says so wherever a tensor without numbers is asked for one
                raise
            raise NotCounted(str(error).strip().splitlines()[0]) from error
        return StepCost(counter.total, kept.backward())


def measure_where_possible(
    blueprint: CheckedBlueprint,
    model: Model,
    compiled: Compiled,
    rows: int,
    recompute: Collection[str] = (),
    precision: str = "fp32",
) -> StepCost | None:
    """Measure a step as `measure_step` does; None where it cannot be run."""
    try:
        return measure_step(blueprint, model, compiled, rows, recompute, precision)
    except NotCounted:
        return None


def build_report(
    blueprint: CheckedBlueprint,
    model: Model,
    compiled: Compiled,
    plain: Compiled | None,
    rows: int,
    layer_decay: Iterable[dict[str, Any]] = (),
    recompute: Mapping[str, Any] | None = None,
    precision: str = "fp32",
) -> Report:
    """Measure a stage's program on a meta model; `plain` is the same program without passes, for comparison.

    What of the model needs no gradient counts as frozen, and as having none; teachers hold weights too. The layers of
    the `components` of `recompute` run again in the backward, for its `reason`.
    """
    again = dict(recompute or {})
    flops, cost = _flops(blueprint, model, compiled, plain, rows, again.get("components", ()), precision)
    by_component = {name: count for name, count in model.component_parameters().items() if count}
    total = sum(by_component.values())
    reached = _reached(compiled.plan)
    modules = [module for name, module in model.parts().items() if name in reached]
    reached |= {
        f"adapters.{linear_map.adapter_name}" for module in modules for linear_map in adapted_maps(module).values()
    }
    idle = [name for name in by_component if name not in reached]
    frozen = [
        name
        for name, module in model.parts().items()
        if name in by_component and not any(p.requires_grad for p in module.parameters())
    ]
    return Report(
        name=blueprint.name,
        parameters={
            "total": total,
            "trainable": _trained(model, compiled.plan),
            "by_component": by_component,
            "untrained": idle,
            "frozen": frozen,
        },
        layer_decay=list(layer_decay),
        flops=asdict(flops),
        passes=[asdict(applied) for applied in compiled.passes],
        values=shapes(blueprint),
        memory={name: size or 0 for name, size in held_bytes(model, compiled.plan, cost).items()},
        recompute=again,
        precision=precision,
    )


def held_bytes(model: Model, plan: Plan, cost: StepCost | None) -> dict[str, int | None]:
    """Count what one process holds with AdamW: all in float32 but the activations; None what is not known.

    Weights, gradients and moments; and at most in the backward activations alone, and these with gradients.
    """
    trainable = _trained(model, plan)
    return {
        "weights": 4 * sum(parameter.numel() for parameter in model.parameters()),
        "gradients": 4 * trainable,
        "optimizer": 8 * trainable,
        "activations": cost and cost.activations,
        "backward": cost and cost.with_gradients,
    }


def _reached(plan: Plan) -> set[str]:
    """The parts of a model that the student's calls run."""
    components = {call.target for call in plan.calls if call.role == "component" and call.world is None}
    return components | {f"losses.{call.target}" for call in plan.calls if call.role == "loss"}


def trained_parameters(model: Model, plan: Plan) -> set[nn.Parameter]:
    """List the parameters that are reached, and have gradients."""
    reached = _reached(plan)
    modules = [module for name, module in model.parts().items() if name in reached]
    return {parameter for module in modules for parameter in module.parameters() if parameter.requires_grad}


def _trained(model: Model, plan: Plan) -> int:
    return sum(parameter.numel() for parameter in trained_parameters(model, plan))


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
        memory={"weights": 4 * held, "gradients": 0, "optimizer": 0, "activations": 0, "backward": 0},
        recompute={},
        precision="fp32",
    )


def _flops(
    blueprint: CheckedBlueprint,
    model: Model,
    compiled: Compiled,
    plain: Compiled | None,
    rows: int,
    recompute: Collection[str],
    precision: str,
) -> tuple[Flops, StepCost | None]:
    try:
        cost = measure_step(blueprint, model, compiled, rows, recompute, precision)
        before = measure_step(blueprint, model, plain, rows, recompute, precision).flops if plain else None
    except NotCounted as error:
        return Flops(rows, None, None, None, str(error)), None
    return Flops(rows, cost.flops, before, cost.kept), cost


def shapes(blueprint: CheckedBlueprint) -> dict[str, dict[str, Any]]:
    """Kind and symbolic shape of every named value of the graph."""
    calls = blueprint.plan.by_id()
    shape_of: dict[str, dict[str, Any]] = {}
    for name, ref in blueprint.values.items():
        kind = calls[ref.call].type.at(ref.path)
        shape_of[name] = {"kind": kind.kind, "shape": [*kind.shape()]}
    return shape_of
