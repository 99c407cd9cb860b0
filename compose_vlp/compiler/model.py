"""The root module: every component once, shared parts tied, and the programs that run over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from compose_vlp.blueprint.schedules import Schedule
from compose_vlp.compiler.adapting import adapt, adapted_maps
from compose_vlp.compiler.initial import drawn_by_path
from compose_vlp.compiler.sharing import owners_first, tie
from compose_vlp.compiler.teachers import Teacher, reached_by_teachers
from compose_vlp.errors import BlueprintError, Problem, UserError, did_you_mean
from compose_vlp.graph.graph import CheckedBlueprint, LossEntry, ResolvedComponent
from compose_vlp.graph.kinds import Kind
from compose_vlp.protocols import Keeps
from compose_vlp.values.cache import Cache


@dataclass
class Step:
    """What a program may ask of the moment: the values of params' schedules, caches during generation, and recorded
    choices.

    `choices` maps calls of maskers and miners (`masked`, `neg`) to what they chose: a replay hands in what was drawn
    elsewhere, and nothing is drawn there.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    caches: dict[str, Cache] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)

    def choice(self, call: str, component: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what was recorded for this call, or else what the component draws now."""
        return self.choices[call] if call in self.choices else component(*args, **kwargs)


class Named(nn.Module):
    """Modules under any names, those of `nn.Module`'s own attributes included (a component may be called `train`)."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._modules.update(modules)

    def by_name(self) -> SimpleNamespace:
        return SimpleNamespace(**{name: module for name, module in self._modules.items() if module is not None})


class Model(nn.Module):
    """One root for all programs of a blueprint, so that wrappers (DDP, FSDP2) see one module and one forward."""

    def __init__(self, blueprint: CheckedBlueprint, seed: int | None = None) -> None:
        super().__init__()
        built = {
            name: _made(name, part, blueprint, seed)
            for name, part in blueprint.components.items()
            if part.kind.category == "component"
        }
        self.components = Named(built)
        losses = {name: _made(f"losses.{name}", loss, blueprint, seed) for name, loss in blueprint.losses.items()}
        self.losses = Named(losses)
        tie(built, blueprint.components)
        adapt(self.parts(), blueprint.adapters, seed)  # after what is shared is tied: a shared map has one adapter
        self.owners_first = owners_first(blueprint.components)
        self.student = self.components.by_name()
        self.losses_by_name = self.losses.by_name()
        self.teachers = Named(_teachers(blueprint, built))
        self.worlds = {name: teacher.by_name() for name, teacher in self._teachers()}
        self.following: tuple[str, ...] = ()  # the teachers that follow in the running stage
        self._updates = {name: teacher.update for name, teacher in blueprint.teachers.items()}
        self._params = dict(blueprint.params)
        self.tokenizers: dict[str, Any] = {}  # given by the runtime where a program finds tokens by name

    def forward(self, program: Any, batch: Mapping[str, Any], step: Step | None = None) -> dict[str, Any]:
        """Run a compiled program on a batch of inputs by name.

        Raises:
            UserError: the step has a value for what is no param, or another one than the constant that is compiled in.
        """
        step = step or Step()
        for name, value in step.params.items():
            self._judge(name, value)
        result: dict[str, Any] = program(self, batch, step)
        return result

    def _judge(self, name: str, value: Any) -> None:
        if name not in self._params:
            hints = did_you_mean(name, self._params) or [f"params: {', '.join(self._params) or 'none'}"]
            raise UserError(f"the step has a value for {name!r}, and the blueprint no such param", hints=hints)
        known = self._params[name]
        if not isinstance(known, Schedule) and value != known:
            raise UserError(f"the param {name!r} is the constant {known} in this blueprint, and {value} in the step")

    def start_teachers(self, names: Iterable[str]) -> tuple[str, ...]:
        """Say which teachers follow from now on; those that have no weights of their own yet start as copies.

        Gives the names of those that were copied. Call it where a stage begins, after weights were loaded.
        """
        self.following = tuple(names)
        students = dict(self.components.named_children())
        fresh = [(name, teacher) for name, teacher in self._teachers() if name in self.following]
        copied = [(name, teacher) for name, teacher in fresh if not teacher.started]
        for _, teacher in copied:
            teacher.copy_from(students)
        return tuple(name for name, _ in copied)

    def update_teachers(self, when: Literal["before", "after"], decays: Mapping[str, float] | None = None) -> None:
        """Let those teachers follow that do so `before` a step's forward, or `after` its optimiser step.

        `decays` are the values at this step of decays that are schedules.
        """
        students = dict(self.components.named_children())
        for name, teacher in self._teachers():
            if name in self.following and self._updates[name] == when:
                teacher.follow(students, (decays or {}).get(name))

    def commit(self) -> None:
        """Write what kept state (queues) remembers of the last forward in training; once a step, after the backward."""
        for module in (*self.components.modules(), *self.losses.modules()):
            if isinstance(module, Keeps):
                module.commit()

    def parts(self) -> dict[str, nn.Module]:
        """Return what owns weights, by the path of its parameters: components, and losses as `losses.NAME`."""
        losses = {f"losses.{name}": loss for name, loss in self.losses.named_children()}
        return dict(self.components.named_children()) | losses

    def _teachers(self) -> list[tuple[str, Teacher]]:
        return [(name, teacher) for name, teacher in self.teachers.named_children() if isinstance(teacher, Teacher)]

    def component_parameters(self) -> dict[str, int]:
        """Parameters of each component, of losses that have some (`losses.NAME`), and of adapters (`adapters.NAME`).

        One that is shared counts with the component that owns it.
        """
        modules, seen = self.parts(), set[int]()
        adapters: dict[str, int] = {}
        for linear_map in (linear_map for module in modules.values() for linear_map in adapted_maps(module).values()):
            name = f"adapters.{linear_map.adapter_name}"
            adapters[name] = adapters.get(name, 0) + _count(linear_map.adapter.parameters(), seen)
        counts = {name: _count(modules[name].parameters(), seen) for name in self.owners_first}
        own = {name: _count(module.parameters(), seen) for name, module in modules.items() if name not in counts}
        own = {name: count for name, count in own.items() if count}
        return {name: counts[name] for name in modules if name in counts} | own | adapters

    def adapted(self) -> dict[str, dict[str, int]]:
        """Of each component with adapted maps, how many of them each adapter is for."""
        names = {
            part: [linear_map.adapter_name for linear_map in adapted_maps(module).values()]
            for part, module in self.parts().items()
        }
        return {part: dict(Counter(adapter_names)) for part, adapter_names in names.items() if adapter_names}


def _made(path: str, entry: ResolvedComponent | LossEntry, blueprint: CheckedBlueprint, seed: int | None) -> nn.Module:
    """Make a component's or a loss's module; what it refuses is told at its place in the blueprint.

    Raises:
        BlueprintError: a class refuses its settings when it is made.
    """
    try:
        return drawn_by_path(path, partial(entry.kind.implementation, entry.config), seed)
    except UserError as error:
        problems = [replace(problem, span=problem.span or entry.span) for problem in error.problems]
        raise BlueprintError(problems, blueprint.document.lines()) from error
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        if "overflow" not in str(error).lower():  # torch's word for a shape whose bytes no machine can count
            raise
        raise BlueprintError([_too_large(path, entry, blueprint)], blueprint.document.lines()) from error


def _too_large(path: str, entry: ResolvedComponent | LossEntry, blueprint: CheckedBlueprint) -> Problem:
    """Blame the largest whole number among the settings of what cannot be made, where it is written."""
    numbers = {key: value for key, value in dict(entry.config).items() if isinstance(value, int)}
    key = max(numbers, key=lambda name: numbers[name], default="")
    section = () if path.startswith("losses.") else ("components",)
    written = blueprint.document.at(*section, *path.split("."), key) if key else None
    hint = f"its largest setting is {key} {numbers[key]}" if key else "its settings are too large"
    message = f"`{entry.name}` has a weight so large that its size cannot be counted"
    return Problem(message, entry.span if written is None else written.value.span, (hint,))


def _teachers(blueprint: CheckedBlueprint, built: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    teachers: dict[str, nn.Module] = {}
    for name, reached in reached_by_teachers(blueprint).items():
        settings = blueprint.teachers[name]
        decay = settings.decay if isinstance(settings.decay, float | int) else None
        teachers[name] = Teacher({component: built[component] for component in reached}, decay, settings.mode)
    return teachers


def _count(parameters: Iterable[nn.Parameter], seen: set[int]) -> int:
    fresh = [p for p in parameters if id(p) not in seen]
    seen.update(id(p) for p in fresh)
    return sum(p.numel() for p in fresh)


def build(blueprint: CheckedBlueprint, device: torch.device | str = "cpu", seed: int | None = None) -> Model:
    """The model with fresh weights (none on the meta device).

    With a `seed` they are repeatable, and those of a parameter depend on nothing but seed, path, shape and how it is
    drawn: blueprints that share a part begin with the same weights in it. Torch's generators begin from it afterwards.
    """
    is_meta = str(device) == "meta"
    with torch.device(device), _Uninitialised() if is_meta else nullcontext():
        model = Model(blueprint, None if is_meta else seed)
    if seed is not None:
        torch.manual_seed(seed)
    return model


class _Uninitialised(TorchFunctionMode):
    """Within it `nn.init` does nothing: on the meta device there is nothing to fill, and 2.1B parameters take 2 s.

    Nor do functions that keep a shape, that draw or scale: torch would import its compiler for them.
    """

    KEEP_SHAPE: Final = (Tensor.normal_, Tensor.uniform_, functional.normalize)

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init" or func in self.KEEP_SHAPE:
            named = kwargs or {}
            return args[0] if args else named.get("tensor", named.get("input"))
        return func(*args, **(kwargs or {}))


def fingerprint(blueprint: CheckedBlueprint) -> dict[str, Any]:
    """Describe what decides the names and shapes of a model's weights.

    These are the kinds, settings and sharing of its components, the kinds and settings of losses that own weights,
    adapters with what they are for, and what its teachers copy.
    """
    components = {
        name: {"use": part.kind.name, **part.config.model_dump(mode="json"), "share": dict(part.share)}
        for name, part in blueprint.components.items()
        if part.kind.category == "component"
    }
    losses = {
        f"losses.{name}": {"use": loss.kind.name, **loss.config.model_dump(mode="json")}
        for name, loss in blueprint.losses.items()
        if _owns_weights(loss)
    }
    adapters = {
        f"adapters.{name}": {
            "use": adapter.kind.name,
            **adapter.config.model_dump(mode="json"),
            "for": [adapter.match, adapter.but],
        }
        for name, adapter in blueprint.adapters.items()
    }
    return (
        components
        | losses
        | adapters
        | {name: {"copies": copied} for name, copied in reached_by_teachers(blueprint).items()}
    )


def _owns_weights(loss: LossEntry) -> bool:
    return bool(make_on_meta(loss.kind, loss.config).state_dict())


def make_on_meta(kind: Kind, config: Any) -> nn.Module:
    """A component or loss by itself, without numbers."""
    with torch.device("meta"), _Uninitialised():
        module: nn.Module = kind.implementation(config)
    return module
