"""What a name means: the one namespace of a blueprint, and the functions beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.nodes import Entry, Mapping, Scalar
from compose_vlp.errors import BlueprintError, Span, UserError, did_you_mean
from compose_vlp.graph.kinds import Kind
from compose_vlp.graph.language.expressions import Apply, Expression, Field, Name, parse, unparse
from compose_vlp.graph.problems import Problems
from compose_vlp.readable import with_article

Section = Literal["inputs", "params", "components", "teachers", "graph"]


class Kinds(Protocol):
    """A catalogue of kinds by name; `compose_vlp.registry` is one."""

    def get(self, name: str) -> Kind:
        """The kind, or `UserError`."""

    def names(self, *categories: str) -> list[str]:
        """Names of all kinds of these categories."""


OUTPUT = "outputs."
"""How an output that is an expression is called where graph entries are, so that it cannot clash with one."""


class Key(NamedTuple):
    """A value by name: a graph entry in a world, or an input, which is the same in all of them (world None)."""

    world: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.world}.{self.name}" if self.world else self.name


@dataclass(frozen=True)
class Declared:
    """A component, loss, or the like, with its kind. `entry` is what the blueprint writes of it."""

    name: str
    kind: Kind
    entry: Entry

    @property
    def mapping(self) -> Mapping:
        assert isinstance(self.entry.value, Mapping)
        return self.entry.value

    @property
    def span(self) -> Span:
        return self.entry.key.span


@dataclass(frozen=True)
class Callee:
    """The target of an application, and its world."""

    role: Literal["component", "function", "entry"]
    name: str
    world: str | None
    span: Span


@dataclass
class Names:
    """The namespace of one blueprint.

    What is wrong with a declaration or with an expression's grammar is noted in `problems`; what is wrong with its use
    is noted where the user says, because the graph is walked more than once.
    """

    document: Document
    kinds: Kinds
    problems: Problems
    missing: frozenset[str] = frozenset()  # names whose absence was spoken of, or follows from what was
    _declared: dict[tuple[str, str], Declared | None] = field(default_factory=dict)
    _functions: dict[str, Kind | None] = field(default_factory=dict)
    _expressions: dict[tuple[str, int], Expression | None] = field(default_factory=dict)

    def section(self, name: str) -> str | None:
        """The section that declares a name."""
        declared = self.document.names.get(name)
        return declared[0] if declared else None

    def entry(self, name: str) -> Entry:
        """The entry of a name of the namespace, or of an output (`outputs.match`)."""
        output = self.document.outputs.entry(name.removeprefix(OUTPUT)) if name.startswith(OUTPUT) else None
        return output or self.document.names[name][1]

    # --- graph entries

    def expression(self, name: str, age: int = 0) -> Expression | None:
        """Give the expression of a graph entry; `age` 1 is the one that it replaced, 2 the one before that."""
        if (name, age) not in self._expressions:
            self._expressions[name, age] = self._parse(name, age)
        return self._expressions[name, age]

    def _parse(self, name: str, age: int) -> Expression | None:
        output = name.removeprefix(OUTPUT)
        entry = self.document.outputs.entry(output) if output != name else self.document.graph.entry(name)
        for _ in range(age):
            entry = entry.earlier if entry else None
        if entry is None or not isinstance(entry.value, Scalar):
            return None
        return self.parse(entry.value)

    def parse(self, scalar: Scalar) -> Expression | None:
        """An expression, or None where the text is none (noted)."""
        if scalar.is_broken:
            return None
        try:
            return parse(scalar)
        except BlueprintError as error:
            self.problems.extend(error.problems)
            return None

    # --- things with a kind

    def component(self, name: str) -> Declared | None:
        """A component or tokenizer with its kind; None where the kind is unknown (noted)."""
        return self.declared("components", name, ("component", "tokenizer"))

    def declared(self, section: str, name: str, categories: Sequence[str]) -> Declared | None:
        """An entry that says `use`, with its kind."""
        key = (section, name)
        if key not in self._declared:
            entry = self.document.section(section).entry(name)
            kind = self._kind(entry, categories) if entry else None
            self._declared[key] = Declared(name, kind, entry) if entry and kind else None
        return self._declared[key]

    def _kind(self, entry: Entry, categories: Sequence[str]) -> Kind | None:
        if not isinstance(entry.value, Mapping):
            return None
        use = entry.value.get("use")
        if not isinstance(use, Scalar):
            plural = "losses" if categories[0] == "loss" else f"{categories[0]}s"
            hints = f"{plural} there are: {', '.join(self.kinds.names(*categories))}"
            self.problems.add(f"`{entry.name}` does not say what it is: `use` is missing", entry.key.span, hints)
            return None
        if use.is_broken:
            return None
        kind = self.kind(use.text)
        if kind is None:
            known = self.kinds.names(*categories)
            hint = did_you_mean(use.text, known) or (f"there are: {', '.join(known)}",)
            self.problems.add(f"no {categories[0]} is called `{use.text}`", use.span, *hint)
        elif kind.category not in categories:
            place = _PLACES.get(kind.category, "")
            self.problems.add(
                f"`{use.text}` is {with_article(kind.category)}, not {with_article(categories[0])}", use.span, *place
            )
            return None
        return kind

    def kind(self, name: str) -> Kind | None:
        """The kind of that name, or None."""
        try:
            return self.kinds.get(name)
        except UserError:
            return None

    def function(self, name: str) -> Kind | None:
        """The function of that name, or None."""
        if name not in self._functions:
            kind = self.kind(name)
            self._functions[name] = kind if kind and kind.category == "function" else None
        return self._functions[name]

    # --- what an application calls

    def callee(self, node: Apply) -> Callee | None:
        """Find what is called; None where nothing is (not noted: `explain_callee` does)."""
        world: str | None = None
        target: Expression = node.callee
        if (
            isinstance(target, Field)
            and isinstance(target.value, Name)
            and self.section(target.value.name) == "teachers"
        ):
            world, target = target.value.name, Name(target.name, target.name_span)
        if not isinstance(target, Name):
            return None
        section = self.section(target.name)
        if section == "graph":
            return Callee("entry", target.name, world, target.span)
        if section == "components":
            return Callee("component", target.name, world, target.span)
        if section is None and self.function(target.name):
            return Callee("function", target.name, world, target.span)
        return None

    def explain_callee(self, node: Apply, problems: Problems) -> None:
        """Note why what is called cannot be."""
        target: Expression = node.callee
        if isinstance(target, Field) and isinstance(target.value, Name):
            outer = target.value
            if self.section(outer.name) == "teachers":
                target = Name(target.name, target.name_span)
            elif self.section(outer.name) is None:
                self.unknown(outer.name, outer.span, problems)
                return
        if not isinstance(target, Name):
            message = "only a component, a graph entry or a function can be called, by its name"
            problems.add(message, target.span, *self._not_a_method(target))
            return
        section = self.section(target.name)
        if section is None and target.name in self.missing:
            return
        if section is not None:
            problems.add(f"`{target.name}` is {_ARTICLES[section]}, which cannot be called", target.span)
        elif (kind := self.kind(target.name)) is not None and not self._gone(target.name):
            hint = f"declare it: `components: {{my_{target.name}: {{use: {target.name}, ...}}}}`"
            message = f"`{target.name}` is a kind of {kind.category}; only functions are called without being declared"
            problems.add(message, target.span, hint)
        else:
            self.unknown(target.name, target.span, problems, calling=True)

    def _not_a_method(self, target: Expression) -> tuple[str, ...]:
        """Say what to write for `x.mean()`."""
        if not isinstance(target, Field):
            return ()
        if self.function(target.name) or self.section(target.name) == "components":
            return (f"values have no methods: `{target.name}({unparse(target.value)})`",)
        return (f"values have no methods; functions are {', '.join(self.kinds.names('function'))}",)

    def unknown(self, name: str, span: Span, problems: Problems, *, calling: bool = False) -> None:
        """Note that nothing has that name; once, however many read it."""
        if name in self.missing or not problems.is_first(f"no {name}"):
            return
        if name in self.document.outputs:
            hint = f"move its expression to `graph`, and let the output read it: `{name}: {name}`"
            problems.add(f"`{name}` is an output, and outputs are not names", span, hint)
            return
        known = [*self.document.names, *self.kinds.names("function")] if calling else list(self.document.names)
        problems.add(f"nothing is called `{name}`", span, *self._gone(name)[-1:], *did_you_mean(name, known))

    def _gone(self, name: str) -> list[str]:
        """Say of each entry of that name what took it away."""
        return [str(removed) for removed in self.document.removed if removed.name == name]


_ARTICLES = {
    "inputs": "an input",
    "params": "a param",
    "components": "a component",
    "teachers": "a teacher",
    "graph": "a graph entry",
}
_PLACES: dict[str, tuple[str, ...]] = {
    "component": ("components stand in `components`",),
    "tokenizer": ("tokenizers stand in `components`",),
    "loss": ("losses stand in `losses`",),
    "function": ("functions are called in expressions, without being declared",),
    "slot": ("inner parts stand in the settings of towers: `ffn: swiglu`",),
    "adapter": ("adapters stand in `adapters`, with the linear maps that they `match`",),
    "source": ("sources stand in `data`",),
    "optimizer": ("optimizers stand in `optimizer`",),
}
