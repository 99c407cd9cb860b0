"""Putting adapters in the place of the linear maps that a blueprint's patterns name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from compose_vlp.adapters import MapSizes
from compose_vlp.blueprint.patterns import matches, matches_any, near_names
from compose_vlp.compiler.initial import drawn_by_path
from compose_vlp.compiler.noise import may_draw
from compose_vlp.errors import Problem, Span, UserError
from compose_vlp.graph.graph import AdapterEntry
from compose_vlp.graph.kinds import Kind

SHOWN = 4
"""Maps in a list of a message."""


class AdapterError(UserError):
    """Adapters that do not fit the model; each problem has its place in the blueprint."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class _Put:
    """What an adapted map knows of its adapter: the name, its own path, whether noise is drawn in training, and the
    place in the blueprint."""

    name: str
    path: str
    draws: bool
    place: Span | None


class Adapted(nn.Linear):
    """A linear map whose product an adapter computes, the module `name` below it.

    A map becomes one in place, by its class, as FSDP does it: whoever holds the map holds it still, and its weight and
    bias keep their names. Code that reads `weight` past the map (torch's multi-head attention, some towers of timm)
    gets the merged one.
    """

    _put: _Put

    @staticmethod
    def make(
        linear: nn.Linear, name: str, adapter: nn.Module, path: str, *, draws: bool, place: Span | None = None
    ) -> None:
        """Turn a plain linear map into an adapted one."""
        linear.add_module(name, adapter)
        linear.__class__ = Adapted
        linear._put = _Put(name, path, draws, place)  # type: ignore[assignment]  # noqa: SLF001 (it is one of ours now)

    @property
    def adapter_name(self) -> str:
        """Return the adapter's name in the blueprint."""
        return self._put.name

    @property
    def path(self) -> str:
        """The first path of the map, `vision.layers.0.ffn.branch.fc1`."""
        return self._put.path

    @property
    def adapter(self) -> nn.Module:
        """Return the module that computes the product."""
        adapter = self._modules[self.adapter_name]
        assert adapter is not None
        return adapter

    @property
    def own_weight(self) -> Tensor:
        """The map's own weight, `[outputs, inputs]`."""
        weight = self._parameters["weight"]
        assert weight is not None
        return weight

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The weight of the plain map that computes the same, `[outputs, inputs]`.

        Of a map that is divided, its own: towers run on gathered weights, and whoever divides asks for what it divided.
        A merged one would be trained in its place, and have the adapter's part twice.

        Raises:
            UserError: the adapter has none, or draws noise in training, which no weight can have.
        """
        if hasattr(self.own_weight, "full_tensor"):
            return self.own_weight
        if self._put.draws and self.training:
            raise UserError(
                f"the weight of {self.path} is read past the map, where {self.adapter_name!r} cannot draw its noise",
                hints=[f"`adapters.{self.adapter_name}.dropout=0`, or `except` leaves the map as it is"],
                span=self._put.place,
            )
        return merged_weight(self)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., inputs]` to `[..., outputs]`."""
        return self.with_bias(x, self.bias)

    def with_bias(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """The same with another bias than its own."""
        product: Tensor = self.adapter(x, self.own_weight, bias)
        return product


def merged_weight(adapted: Adapted) -> Tensor:
    """The weight of the plain map that computes the same as an adapted one in evaluation.

    Raises:
        UserError: its adapter has no such weight.
    """
    merged = getattr(adapted.adapter, "merged", None)
    if merged is None:
        raise UserError(
            f"{adapted.path}: adapter {adapted.adapter_name!r} has no `merged(weight)`, so no plain map does the same"
        )
    weight: Tensor = merged(adapted.own_weight)
    return weight


@dataclass
class _Map:
    """A weight of a linear map with all modules that have it, under all their paths (`vision.layers.0.ffn.fc1`)."""

    modules: dict[int, nn.Linear] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)

    def is_named(self, patterns: tuple[str, ...]) -> bool:
        return any(matches_any(patterns, f"{path}.weight") for path in self.paths)


def adapt(parts: Mapping[str, nn.Module], adapters: Mapping[str, AdapterEntry], seed: int | None = None) -> None:
    """Put adapters in the place of the linear maps of these parts; maps that share a weight share the adapter.

    With a `seed`, their weights are drawn by their paths.

    Raises:
        AdapterError: patterns that name no map, maps that an adapter does not fit, two adapters of one map.
    """
    if not adapters:
        return
    maps = _maps(parts)
    problems: list[Problem] = []
    taken: dict[int, AdapterEntry] = {}
    for adapter in adapters.values():
        chosen = [
            linear_map
            for linear_map in maps
            if linear_map.is_named(adapter.match) and not linear_map.is_named(adapter.but)
        ]
        wrong = [*_unknown(adapter, maps), *_twice(adapter, chosen, taken)]
        if not wrong and not chosen:
            wrong = [Problem(f"`except` leaves no linear map to adapter `{adapter.name}`", adapter.span)]
        problems += wrong or _put(adapter, chosen, seed)
        taken |= {id(linear_map): adapter for linear_map in chosen}
    if problems:
        raise AdapterError(problems)


def _maps(parts: Mapping[str, nn.Module]) -> list[_Map]:
    maps: dict[int, _Map] = {}
    for name, part in parts.items():
        for path, module in part.named_modules(remove_duplicate=False):
            if isinstance(module, nn.Linear):
                shared = maps.setdefault(id(module.weight), _Map())
                shared.modules[id(module)] = module
                shared.paths.append(f"{name}.{path}" if path else name)
    return list(maps.values())


def _unknown(adapter: AdapterEntry, maps: list[_Map]) -> Iterator[Problem]:
    """Patterns that name no linear map, or of `except` none of those that match."""
    every = [f"{path}.weight" for linear_map in maps for path in linear_map.paths]
    named = [path for path in every if matches_any(adapter.match, path)]
    for pattern, pool in [
        *((pattern, every) for pattern in adapter.match),
        *((pattern, named) for pattern in adapter.but),
    ]:
        if not any(matches(pattern, path) for path in pool):
            stems = [path.removesuffix(".weight") for path in pool]
            of = "" if pool is every else " of those that match"
            yield Problem(f"`{pattern}` names no linear map{of}", adapter.places[pattern], near_names(pattern, stems))


def _twice(adapter: AdapterEntry, chosen: list[_Map], taken: Mapping[int, AdapterEntry]) -> Iterator[Problem]:
    both: dict[str, list[str]] = {}
    for linear_map in chosen:
        if id(linear_map) in taken:
            both.setdefault(taken[id(linear_map)].name, []).append(linear_map.paths[0])
    for other, paths in both.items():
        message = f"adapters `{other}` and `{adapter.name}` are both for {_some(paths)}"
        first = next(entry for entry in taken.values() if entry.name == other)
        yield Problem(
            message, adapter.span, ("a map has one adapter: `except` leaves maps out",), (("the other", first.span),)
        )


def _put(adapter: AdapterEntry, chosen: list[_Map], seed: int | None) -> list[Problem]:
    """Make an adapter for each map; that several do not fit is one problem."""
    reasons: dict[str, str] = {}
    draws = may_draw(adapter.kind, adapter.config)
    for linear_map in chosen:
        linear = next(iter(linear_map.modules.values()))
        reason = _reason(adapter, linear_map)
        if reason is None:
            try:
                sizes = MapSizes(linear.in_features, linear.out_features)
                make = partial(adapter.kind.implementation, adapter.config, sizes)
                made = drawn_by_path(f"{linear_map.paths[0]}.{adapter.name}", make, seed)
            except UserError as error:
                reason = error.problems[0].message
            else:
                for module in linear_map.modules.values():
                    place = adapter.settings.get("dropout", adapter.span)
                    Adapted.make(module, adapter.name, made, linear_map.paths[0], draws=draws, place=place)
        if reason is not None:
            reasons[linear_map.paths[0]] = reason
    if not reasons:
        return []
    first = next(iter(reasons.values()))
    span = next((place for name, place in adapter.settings.items() if f"`{name}`" in first), adapter.span)
    hint = f"it is for {_some(list(reasons))}; `except` leaves maps out"
    return [Problem(f"adapter `{adapter.name}`: {first}", span, (hint,))]


def _reason(adapter: AdapterEntry, linear_map: _Map) -> str | None:
    """Why a map cannot have an adapter of this name, or any."""
    for module in linear_map.modules.values():
        if type(module).forward is not nn.Linear.forward:
            return f"`{type(module).__name__}` computes something of its own, and is no plain linear map"
        if hasattr(module, adapter.name) or hasattr(Adapted, adapter.name):
            return f"linear maps have something of their own that is called `{adapter.name}`"
    return None


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(f"`{path}`" for path in paths[:SHOWN]) + more


# --- what is there ------------------------------------------------------------------------------------------------


def adapted_maps(part: nn.Module) -> dict[str, Adapted]:
    """The adapted maps of a module, by path; one that stands twice under each of its paths."""
    modules = part.named_modules(remove_duplicate=False)
    return {path: module for path, module in modules if isinstance(module, Adapted)}


def of_adapters(part: nn.Module) -> frozenset[str]:
    """The names of what adapters own of a module: parameters and buffers."""
    return frozenset(
        ".".join(filter(None, (path, adapted.adapter_name, name)))
        for path, adapted in adapted_maps(part).items()
        for name in adapted.adapter.state_dict()
    )


def with_adapters(kind: Kind, adapters: Iterable[AdapterEntry]) -> Kind:
    """A component's kind with the promises that hold with these adapters: nothing that one of them does not promise."""
    traits = kind.traits
    for adapter in adapters:
        own = adapter.kind.traits
        if own.rows == "batch":
            traits = dataclasses.replace(traits, rows="batch", context="no", keys=None, selects=False)
        if own.state != "none" and traits.state == "none":
            traits = dataclasses.replace(traits, state=own.state)
        if may_draw(adapter.kind, adapter.config) and traits.draws != "choice":
            traits = dataclasses.replace(traits, draws="noise", noise=(), context="no", keys=None)
    return dataclasses.replace(kind, traits=traits)


def is_silent(adapter: AdapterEntry) -> bool:
    """Does an adapter promise all that a component may: independent rows, no state, nothing drawn?"""
    traits = adapter.kind.traits
    return traits.rows == "independent" and traits.state == "none" and not may_draw(adapter.kind, adapter.config)
