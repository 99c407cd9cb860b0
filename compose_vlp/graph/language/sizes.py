"""Sizes that follow from the graph: named dimensions of ports, unified with the settings of the same name.

A first walk over the graph may meet a component before the call that says its width; so the graph is walked until
nothing new is learnt (twice, mostly), and only the last walk's mistakes count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from compose_vlp.blueprint.nodes import Scalar
from compose_vlp.errors import Span
from compose_vlp.graph.kinds import Setting
from compose_vlp.graph.language.names import Declared
from compose_vlp.graph.problems import Problems

GROWING = frozenset({"length", "tokens", "patches"})
"""Sizes that are the most a value may have: tables of positions are made for the longest of all calls."""

Use = Literal["equal", "most", "otherwise"]
"""How a size binds a setting: it is that, it is at least that, or it is that where nothing else says what it is."""


class Fact(NamedTuple):
    """The size that one call gives for a setting. `what` reads like `width 768 of words.tokens`.

    `measure` is what the value calls this size (`width`, `length`, `size`), `root` the input that the value is, if it
    is one; `maker` is the component or input that the value comes from, `call` the call that says it.
    """

    size: int
    use: Use
    what: str
    port: str
    span: Span
    measure: str = ""
    root: str = ""
    maker: str = ""
    call: str = ""


class Against(NamedTuple):
    """A fact that does not go together with what a setting is."""

    setting: str
    fact: Fact
    other: Fact


@dataclass
class Sizing:
    """The settings of one component (or loss) while the graph is walked. `written` holds what the file says.

    During a walk a size that nobody knows yet is what the first call says; between walks all facts are weighed.
    """

    declared: Declared
    written: Any  # an instance of the kind's Config without inferred values, or None where the kind has none
    described: Mapping[str, Any] = field(default_factory=dict)
    inferred: dict[str, int] = field(default_factory=dict)
    facts: list[tuple[str, Fact]] = field(default_factory=list)
    _settled: frozenset[str] = frozenset()
    _config: Any = None

    @property
    def config(self) -> Any:
        """The configuration with all that is known by now."""
        if self.written is None or not self.inferred:
            return self.written
        if self._config is None:
            self._config = self.written.model_copy(update=self.inferred)
        return self._config

    @property
    def called(self) -> bool:
        """Tell whether a call of the last walk said anything."""
        return bool(self.facts)

    def setting(self, name: str) -> Setting | None:
        return self.declared.kind.settings.get(name) if self.written is not None else None

    def is_written(self, name: str) -> bool:
        return self.written is not None and name in self.written.model_fields_set

    def value(self, name: str) -> int | None:
        """The setting's value as far as it is known, where it is a size."""
        value = getattr(self.config, name, None)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def unknown(self) -> list[str]:
        """The inferred settings without which the component cannot be, and that nothing has said yet."""
        return [
            name
            for name, setting in self.declared.kind.settings.items()
            if setting.inferred is not None and "None" not in setting.annotation and self.value(name) is None
        ]

    # --- during a walk

    def begin(self) -> None:
        """Before a walk: what was learnt stays, the facts are gathered anew."""
        self.facts.clear()
        self._settled = frozenset(self.inferred)

    def suppose(self, name: str, fact: Fact) -> None:
        """Go on with what a call says, where nothing is known yet."""
        if self._is_fixed(name) or name in self._settled:
            return
        known = self.inferred.get(name)
        if known is None or (fact.use == "most" and fact.size > known):
            self._learn(name, fact.size)

    # --- between walks

    def settle(self, counts: Callable[[Fact], bool]) -> list[Against]:
        """Weigh the facts that count (all, where none does); gives those that clash with the written or first one."""
        clashes: list[Against] = []
        for name in dict.fromkeys(name for name, _ in self.facts):
            every = [fact for setting, fact in self.facts if setting == name]
            facts = [fact for fact in every if counts(fact)] or every
            if self._is_fixed(name):
                clashes += [Against(name, fact, self._as_written(name)) for fact in facts if self._differs(name, fact)]
            elif facts:
                clashes += self._weigh(name, facts)
        return clashes

    def _weigh(self, name: str, facts: list[Fact]) -> list[Against]:
        described = self.described.get(name)
        if isinstance(described, int):
            what = f"{name} {described} of {self.declared.kind.name}"
            facts = [Fact(described, "equal", what, "", self.declared.span), *facts]
        binding = [fact for fact in facts if fact.use != "otherwise"] or facts[:1]
        equal = [fact for fact in binding if fact.use == "equal"]
        self._learn(name, equal[0].size if equal else max(fact.size for fact in binding))
        return [Against(name, fact, equal[0]) for fact in equal if fact.size != equal[0].size]

    def inherit(self, name: str, size: int) -> None:
        """Take a size from the component with which everything is shared, where no call says anything."""
        if (
            self.setting(name) is not None
            and not self._is_fixed(name)
            and all(name != setting for setting, _ in self.facts)
        ):
            self._learn(name, size)

    def describe(self) -> None:
        """Take the sizes that only the kind's library knows."""
        for name, value in self.described.items():
            if self.setting(name) is not None and not self._is_fixed(name) and isinstance(value, int):
                self._learn(name, value)

    # --- where sizes come from

    def source(self, name: str) -> Fact | None:
        """The fact that an inferred setting follows from, or the written value; None for a default."""
        if self.is_written(name):
            return self._as_written(name)
        size = self.inferred.get(name)
        return next((fact for setting, fact in self.facts if setting == name and fact.size == size), None)

    def measure(self, name: str) -> str:
        """Name the size that an inferred setting follows from, as the values that have it do."""
        return next((fact.measure for setting, fact in self.facts if setting == name), "")

    def _is_fixed(self, name: str) -> bool:
        setting = self.setting(name)
        return setting is None or setting.inferred is None or self.is_written(name)

    def _differs(self, name: str, fact: Fact) -> bool:
        value = self.value(name)
        if value is None or fact.use == "otherwise":
            return False
        return value < fact.size if fact.use == "most" else value != fact.size

    def _learn(self, name: str, size: int) -> None:
        if self.inferred.get(name) != size:
            self.inferred[name] = size
            self._config = None

    def _as_written(self, name: str) -> Fact:
        entry = self.declared.mapping.entry(name)
        span = entry.value.span if entry and isinstance(entry.value, Scalar) else self.declared.span
        value = self.value(name)
        return Fact(value or 0, "equal", f"{name} {value} of {self.declared.name}", "", span)

    def explain(self, against: Against, problems: Problems) -> None:
        """Say that a call and a setting do not go together: both sizes, and where each comes from."""
        fact, other = against.fact, against.other
        source = f"{other.size} is written here" if not other.port else f"{other.size} follows from {other.what} here"
        if other.span == self.declared.span:
            source = f"{other.size} is what `{self.declared.kind.name}` has"
        message = f"{fact.what} against {against.setting} {other.size} of {self.declared.name}.{fact.port}"
        problems.add(message, fact.span, related=[(source, other.span)])
