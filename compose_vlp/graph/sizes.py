"""Sizes that follow from the graph: named dimensions of ports, unified with the settings of the same name.

A first walk over the graph may meet a component before the call that says its width; so the graph is walked until
nothing new is learnt (twice, mostly), and only the last walk's mistakes count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from compose_vlp.blueprint.nodes import Scalar
from compose_vlp.errors import Span
from compose_vlp.graph.kinds import Setting
from compose_vlp.graph.names import Declared
from compose_vlp.graph.problems import Problems

GROWING = frozenset({"length", "tokens"})
"""Sizes that are the most a value may have: tables of positions are made for the longest of all calls."""

Use = Literal["equal", "most", "otherwise"]
"""How a size binds a setting: it is that, it is at least that, or it is that where nothing else says what it is."""


class Fact(NamedTuple):
    """What one call says of a setting. `what` reads like `width 768 of words.tokens`.

    `measure` is what the value calls this size (`width`, `length`, `size`), `root` the input that the value is, if it
    is one.
    """

    size: int
    use: Use
    what: str
    port: str
    span: Span
    measure: str = ""
    root: str = ""


@dataclass
class Sizing:
    """The configuration of one component (or loss) while the graph is walked. `written` holds what the file says."""

    declared: Declared
    written: Any  # an instance of the kind's Config without inferred values, or None where the kind has none
    described: Mapping[str, Any] = field(default_factory=dict)
    facts: dict[str, list[Fact]] = field(default_factory=dict)
    inferred: dict[str, int] = field(default_factory=dict)
    called: bool = False
    _config: Any = None

    @property
    def config(self) -> Any:
        """The configuration with all that is known by now."""
        if self.written is None or not self.inferred:
            return self.written
        if self._config is None:
            self._config = self.written.model_copy(update=self.inferred)
        return self._config

    def begin(self) -> None:
        """Before a walk: what was learnt stays, the facts are gathered anew."""
        self.facts.clear()
        self.called = False
        for name, value in self.described.items():
            setting = self.declared.kind.settings.get(name)
            if setting is not None and setting.inferred is not None and isinstance(value, int):
                self._learn(name, value)

    def setting(self, name: str) -> Setting | None:
        return self.declared.kind.settings.get(name) if self.written is not None else None

    def is_written(self, name: str) -> bool:
        return self.written is not None and name in self.written.model_fields_set

    def value(self, name: str) -> int | None:
        """The setting's value as far as it is known, where it is a size."""
        found = getattr(self.config, name, None)
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def observe(self, name: str, fact: Fact) -> Fact | None:
        """Take note of a fact; gives the fact (or the written value) that it clashes with."""
        setting = self.setting(name)
        if setting is None:
            return None
        facts = self.facts.setdefault(name, [])
        facts.append(fact)
        fixed = self.is_written(name) or setting.inferred is None
        if fixed:
            value = self.value(name)
            wrong = value is not None and (value < fact.size if fact.use == "most" else value != fact.size)
            return self._as_written(name, value or 0) if wrong and fact.use != "otherwise" else None
        binding = [one for one in facts if one.use != "otherwise"] or facts[:1]
        if fact.use == "equal":
            first = binding[0]
            if first.use == "equal" and first.size != fact.size:
                facts.pop()
                return first
        self._learn(name, max(one.size for one in binding))
        return None

    def source(self, name: str) -> Fact | None:
        """The fact that an inferred setting follows from, or the written value; None for a default."""
        if self.is_written(name):
            return self._as_written(name, 0)
        return next((fact for fact in self.facts.get(name, ()) if fact.size == self.inferred.get(name)), None)

    def measure(self, name: str) -> str:
        """What the values that an inferred setting follows from call that size."""
        return next((fact.measure for fact in self.facts.get(name, ()) if fact.measure), "")

    def inherit(self, name: str, size: int) -> None:
        """Take a size from the component with which everything is shared, where no call says anything."""
        if not self.facts.get(name):
            self._learn(name, size)

    def _learn(self, name: str, size: int) -> None:
        if self.inferred.get(name) != size:
            self.inferred[name] = size
            self._config = None

    def _as_written(self, name: str, value: int) -> Fact:
        entry = self.declared.mapping.entry(name)
        span = entry.value.span if entry and isinstance(entry.value, Scalar) else self.declared.span
        return Fact(value, "equal", f"{name} {value} of {self.declared.name}", "", span)


def clash(problems: Problems, sizing: Sizing, name: str, fact: Fact, other: Fact) -> None:
    """Say that a call and a setting do not go together: both sizes, and where each comes from."""
    component = sizing.declared.name
    theirs = f"{name} {other.size} of {component}.{fact.port}"
    source = f"{other.size} is written here" if not other.port else f"{other.size} follows from {other.what} here"
    if other.span == sizing.declared.span:
        source = f"{other.size} is its default"
    problems.add(f"{fact.what} against {theirs}", fact.span, related=[(source, other.span)])
