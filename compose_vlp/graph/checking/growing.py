"""Writing a text word by word: which values grow with it, which are known before, and what stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from compose_vlp.graph.kinds import Kind
from compose_vlp.graph.plan import Arg, Call, Ref, refs_in
from compose_vlp.graph.signature import matching
from compose_vlp.graph.types import Flow, SequenceType, TextType, ValueType

KindOf = Callable[[Call], tuple[Kind, Any] | None]
"""The kind behind a call and its configuration; None for inputs, reads and indices."""
OF_ROWS = frozenset({"owner", "weight"})
"""Fields of a text that belong to its rows and not to its words."""


class CannotGrowError(Exception):
    """A call that would have to be computed anew for the whole text with every word, and why."""

    def __init__(self, call: Call, reason: str) -> None:
        super().__init__(f"`{call.target}` {reason}")
        self.call = call


@dataclass
class Growing:
    """The calls of a plan by what a new word of the input `over` does to them.

    `fixed` are known before the first word. `begun` stand behind values that grow, but on none of the words (the
    picture's part of a joined sequence): they are known after the first words. `grows` get new positions at their end
    with every word, and what they had stays as it is.
    """

    over: str
    fixed: list[Call] = field(default_factory=list)
    begun: list[Call] = field(default_factory=list)
    grows: list[Call] = field(default_factory=list)
    _types: dict[str, ValueType] = field(default_factory=dict)
    _growing: set[str] = field(default_factory=set)
    _begun: set[str] = field(default_factory=set)

    def does(self, arg: Arg) -> bool:
        """Tell whether an argument grows."""
        return any(ref.call in self._growing and not self._of_rows(ref) for ref in refs_in(arg))

    def type_of(self, ref: Ref) -> ValueType:
        """The type of a value of the plan."""
        return self._types[ref.call].at(ref.path)

    def add(self, call: Call) -> None:
        """Put the next call where it belongs."""
        reads = any(self.does(arg) for _, arg in call.args)
        self._types[call.id] = call.type
        if call.id == self.over or (reads and not self._of_prefix(call)):
            self.grows.append(call)
            self._growing.add(call.id)
        elif reads or any(ref.call in self._begun for ref in call.refs()):
            self.begun.append(call)
            self._begun.add(call.id)
        else:
            self.fixed.append(call)

    def _of_rows(self, ref: Ref) -> bool:
        return ref.call == self.over and bool(OF_ROWS & set(ref.path))

    def _of_prefix(self, call: Call) -> bool:
        """Tell whether a call reads, of a sequence that grows, what stands before its words: any part but the last."""
        x = call.arg("x")
        if call.role != "read" or call.target == "tokens" or not isinstance(x, Ref):
            return False
        value = self.type_of(x)
        if not isinstance(value, SequenceType) or len(value.parts) < 2:
            return False
        return call.target != value.parts[-1].name


def split(calls: Iterable[Call], over: str) -> Growing:
    """The calls of a plan, each after those that it reads, by what the words of the input `over` do to them."""
    calls = tuple(calls)
    growing = Growing(next(call.id for call in calls if call.role == "input" and call.target == over))
    for call in calls:
        growing.add(call)
    return growing


@dataclass(frozen=True)
class Steps:
    """How values that grow are computed for new words alone: calls in `cached` keep keys and values of the positions
    before; `joins` put the words behind other parts, which have come with the first ones."""

    cached: frozenset[str]
    joins: frozenset[str]


def steps_of(growing: Growing, kind_of: KindOf) -> Steps:
    """How to go on word by word.

    Raises:
        CannotGrowError: the first call that would give something else than over the whole text.
    """
    rows = growing.type_of(Ref(growing.over)).rows
    kept, joins = set(), set()
    for call in growing.grows:
        if call.type.rows != rows:
            raise CannotGrowError(call, "puts what is written into other rows")
        declared = kind_of(call)
        if declared is None:
            if call.role not in ("input", "read") or call.target == "cls":
                raise CannotGrowError(call, "picks among the words that are written")
            continue
        kind, config = declared
        if kind.category == "function" and any(port.open for port in kind.ports.values()):
            _check_join(call, growing)
            joins.add(call.id)
            continue
        looks = _looks_back(call, kind, config, growing)
        if looks and not _caches(kind, config):
            raise CannotGrowError(call, f"({kind.name}) looks beyond one position and keeps no cache")
        if _caches(kind, config):
            kept.add(call.id)
    return Steps(frozenset(kept), frozenset(joins))


def _caches(kind: Kind, config: Any) -> bool:
    """Tell whether a component goes on from positions before; what only a library knows of that, `describe` says."""
    return kind.cached and (kind.describe is None or bool(kind.describe(config).get("cache", True)))


def _check_join(call: Call, growing: Growing) -> None:
    """Only what comes last may grow: else every new word would move positions that are there already."""
    first = next(place for place, (_, arg) in enumerate(call.args) if growing.does(arg))
    if first < len(call.args) - 1:
        after = ", ".join(f"`{name}`" for name, _ in call.args[first + 1 :])
        raise CannotGrowError(call, f"puts {after} behind `{call.args[first][0]}`, which grows with every word")


def _looks_back(call: Call, kind: Kind, config: Any, growing: Growing) -> bool:
    """Tell whether positions of a call look at earlier ones of what grows."""
    given = {name: arg for name, arg in call.args if isinstance(arg, Ref | tuple) and name in kind.ports}
    grown = [name for name, arg in given.items() if growing.does(arg)]
    aligned = {position for name in grown for position in _positions(kind, name, given[name], growing)}
    for name, arg in given.items():
        for ref in refs_in(arg):
            if not growing.does(ref) and aligned & _positions(kind, name, ref, growing):
                raise CannotGrowError(call, f"sets positions of `{ref}`, which does not grow, against those of words")
    flows = kind.flows(config) if kind.flows else {}
    looking = [name for name in grown if flows.get(name, kind.ports[name].flow) is not Flow.EACH]
    if looking and grown != [next(iter(kind.ports))]:
        raise CannotGrowError(call, f"looks at several words by `{looking[-1]}`, and only its first port keeps a cache")
    return bool(looking)


def _positions(kind: Kind, port: str, arg: Arg, growing: Growing) -> set[str]:
    """Give the names that a port has for the positions of the sequences and texts given to it."""
    types = [growing.type_of(ref) for ref in refs_in(arg)]
    patterns = [matching(kind.ports[port], value) for value in types if isinstance(value, SequenceType | TextType)]
    return {pattern.dims[1] for pattern in patterns if pattern is not None and len(pattern.dims) > 1}


def components_of(components: Mapping[str, Any], functions: Mapping[str, Kind]) -> KindOf:
    """The kinds behind calls, from components with `kind` and `config`, and functions by name."""

    def kind_of(call: Call) -> tuple[Kind, Any] | None:
        if call.role == "component":
            return components[call.target].kind, components[call.target].config
        return (functions[call.target], None) if call.role == "function" else None

    return kind_of
