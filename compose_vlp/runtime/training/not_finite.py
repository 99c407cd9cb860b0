"""What was the first number that is none: a batch that broke training, kept and looked through."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from compose_vlp import values as kinds
from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.inspection import compile_inspection
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.errors import Span, UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.device import autocast
from compose_vlp.runtime.optimizer import parameter_paths
from compose_vlp.runtime.stage import plan_stage
from compose_vlp.runtime.state import checkpoint, generators
from compose_vlp.runtime.training.engines import whole_gradients, whole_state
from compose_vlp.runtime.training.loop import NotFinite
from compose_vlp.runtime.training.run_context import RunContext
from compose_vlp.runtime.training.sharding import local
from compose_vlp.values import Value


@dataclasses.dataclass(frozen=True)
class Culprit:
    """The first thing that is not finite, in the order input, parameter, value of the program, gradient."""

    what: str
    span: Span | None = None


def explain(failure: NotFinite, run: RunContext, stage: str, model: Model, compiled: Compiled) -> UserError:
    """Save the batch with all that is needed to compute it again, and say what is wrong with it.

    All processes call it; the first that has a culprit is believed.
    """
    blueprint, processes = run.blueprint.of_stage(stage), run.processes
    precision = plan_stage(blueprint, stage, processes.world).precision
    precise = autocast(processes.device, precision)
    culprit = find_culprit(model, blueprint, compiled, failure, precise, anywhere=processes.highest)
    folder = run.folder.reports / f"not-finite-{stage}-{failure.step:08d}-{processes.rank}"
    weights, gradients = whole_state(model, everywhere=True), whole_gradients(model)
    mine = _save(folder, stage, weights, gradients, failure) if culprit or processes.world == 1 else None
    reports = [report for report in processes.gather((culprit, mine)) if report[0] is not None]
    first, saved = reports[0] if reports else (None, mine)
    hints = [f"first not finite: {first.what}"] if first else []
    hints += [f"the batch, the weights and the generators of this step: {saved}"] if saved else []
    hints += ["the weights are those from before this step", "a lower learning rate or a longer warm-up often helps"]
    return UserError(f"stage {stage}, {failure}", hints=hints, span=first.span if first else None)


def find_culprit(
    model: Model,
    blueprint: CheckedBlueprint,
    compiled: Compiled,
    failure: NotFinite,
    precise: Callable[[], AbstractContextManager[None]],
    anywhere: Callable[[int], int] = int,
) -> Culprit | None:
    """Look through inputs, parameters, and, computing the step again with the same noise, every value in order.

    Processes go on to the next of these together, since they compute together: `anywhere` gives the largest of their
    numbers.
    """
    program, calls = compile_inspection(blueprint, compiled)
    paths = parameter_paths(model.parts())

    def values() -> Iterator[Culprit]:
        generators.restore(failure.noise)
        with torch.no_grad(), precise():
            results = model(program, failure.batch, Step(failure.params))
        for call in calls:
            if not _finite(results[call.id]):
                component = f", computed by `{call.target}`" if call.role == "component" else ""
                yield Culprit(f"`{call.id}`{component}", call.span)

    looks: tuple[Callable[[], Iterator[Culprit]], ...] = (
        lambda: (Culprit(f"the input `{name}`") for name, value in failure.batch.items() if not _finite(value)),
        lambda: (Culprit(f"the parameter `{path}`") for path, weight in paths.items() if not _finite(weight)),
        values,
        lambda: (Culprit(f"the gradient of `{path}`") for path, p in paths.items() if not _finite(p.grad)),
    )
    for look in looks:
        culprit = next(look(), None)
        if anywhere(culprit is not None):
            return culprit
    return None


def replay(run: Path, blueprint: CheckedBlueprint, saved: Path) -> str | None:
    """Compute a saved step of a run again on the CPU, and name what is not finite; None where all is.

    Raises:
        UserError: `saved` is not whole.
    """
    state = checkpoint.load(saved)
    stage = state["step"]["stage"]
    own = blueprint.of_stage(stage)
    model = build(own)
    model.load_state_dict(state["model"])
    for path, parameter in model.named_parameters():
        parameter.grad = state["gradients"].get(path)
    from compose_vlp.runtime.sources import open_tokenizers

    model.tokenizers = dict(open_tokenizers(own, run / "tokenizers"))
    batch = {name: _value(value) for name, value in state["batch"].items()}
    failure = NotFinite(state["step"]["number"], {}, batch, state["step"]["params"], state["generators"])
    compiled = compile_stage(blueprint, stage)
    precise = autocast(torch.device("cpu"), plan_stage(own, stage).precision)
    culprit = find_culprit(model.train(), own, compiled, failure, precise)
    return culprit.what if culprit else None


def _save(
    folder: Path, stage: str, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], failure: NotFinite
) -> str:
    state = {
        "batch": {name: _plain(value) for name, value in failure.batch.items()},
        "model": dict(weights),
        "gradients": dict(gradients),
        "generators": failure.noise,
        "step": {"stage": stage, "number": failure.step, "params": dict(failure.params)},
    }
    try:
        checkpoint.save(folder, state, step=failure.step)
    except UserError as error:
        return str(error)
    return str(folder)


def _plain(value: Any) -> Any:
    """Turn a value into nested dicts, with the name of its kind."""
    if not isinstance(value, Value | kinds.Part):
        return value
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {"kind": type(value).__name__, "fields": {name: _plain(field) for name, field in fields.items()}}


def _value(plain: Any) -> Any:
    if not isinstance(plain, Mapping):
        return plain
    return getattr(kinds, plain["kind"])(**{name: _value(field) for name, field in plain["fields"].items()})


def _finite(value: Any) -> bool:
    leaves = [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return all(bool(local(leaf.detach()).isfinite().all()) for leaf in leaves)
