"""Which names an expression meets on its way to the inputs, known without computing anything.

A substitution must know whether the name that it replaces is read at all, a memo which part of a substitution a value
depends on, and a row index whether its input is also reached by another road.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from compose_vlp.errors import Span
from compose_vlp.graph.language.expressions import Apply, Expression, Field, Index, Name, children, walk
from compose_vlp.graph.language.names import Key, Names

NOTHING: frozenset[Key] = frozenset()


class Version(NamedTuple):
    """A graph entry, or (age 1, 2, ...) an expression that it replaced."""

    name: str
    age: int = 0

    def __str__(self) -> str:
        return self.name + ".previous" * self.age


class _Question(NamedTuple):
    version: Version
    world: str | None
    cut: frozenset[Key]
    aligned: bool


@dataclass
class Reads:
    """Answers for one blueprint; finds cycles on the way.

    `broken` are the entries that stand on a cycle, `unsure` those that mention something that is not there: what they
    would read, nobody knows.
    """

    names: Names
    broken: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    _memo: dict[_Question, frozenset[Key]] = field(default_factory=dict)
    _path: list[tuple[_Question, Span]] = field(default_factory=list)

    def of(
        self, name: str, world: str | None = None, cut: frozenset[Key] = NOTHING, *, age: int = 0, aligned: bool = False
    ) -> frozenset[Key]:
        """All that the entry's expression meets: inputs and entries, down to the inputs, but not beyond `cut`.

        With `aligned`, only roads on which row i stays row i: not through an index's own row numbers, nor through a
        queue or a miner.
        """
        return self._version(_Question(Version(name, age), world, cut, aligned), self.names.entry(name).key.span)

    def order(self) -> list[str]:
        """The graph entries, each after those that its expression mentions (as far as they are no circle).

        Whoever goes through them in this order never descends deep.
        """
        done: dict[str, None] = {}
        for start in self.names.document.graph.names:
            path: list[tuple[str, list[str]]] = [(start, self._mentioned(start))]
            on_path = {start}
            while path:
                name, waiting = path[-1]
                if waiting:
                    following = waiting.pop()
                    if following not in done and following not in on_path:
                        path.append((following, self._mentioned(following)))
                        on_path.add(following)
                else:
                    done[name] = None
                    path.pop()
                    on_path.discard(name)
        return list(done)

    def deepest(self) -> tuple[str, int]:
        """The entry that stands on the longest chain of others, and how long that is."""
        depth: dict[str, int] = {}
        for name in self.order():
            depth[name] = 1 + max((depth.get(mentioned, 0) for mentioned in self._mentioned(name)), default=0)
        name = max(depth, key=lambda entry: depth[entry], default="")
        return name, depth.get(name, 0)

    def _mentioned(self, name: str) -> list[str]:
        """The graph entries that an entry's expression, or those that it replaced, mention."""
        names: dict[str, None] = {}
        age = 0
        while (expression := self.names.expression(name, age)) is not None:
            for node in walk(expression):
                word = node.name if isinstance(node, Name | Field) else ""
                if self.names.section(word) == "graph":
                    names[word] = None
            age += 1
        return list(names)[::-1]

    def inside(
        self, node: Expression, version: Version, world: str | None, cut: frozenset[Key] = NOTHING
    ) -> frozenset[Key]:
        """All that a piece of an entry's expression meets."""
        return self._walk(node, _Question(version, world, cut, aligned=False))

    def _version(self, question: _Question, span: Span) -> frozenset[Key]:
        if question in self._memo:
            return self._memo[question]
        if any(question == asked for asked, _ in self._path):
            self._cycle(question, span)
            return NOTHING
        expression = self.names.expression(*question.version)
        if expression is None:
            self.unsure.add(question.version.name)
            return NOTHING
        self._path.append((question, span))
        met = self._walk(expression, question)
        self._path.pop()
        self._memo[question] = met
        return met

    def _walk(self, node: Expression, at: _Question) -> frozenset[Key]:
        match node:
            case Name("previous"):
                version = Version(at.version.name, at.version.age + 1)
                return self._version(at._replace(version=version), node.span)
            case Name(name):
                return self._name(name, at, node.span)
            case Field(Name(teacher), name) if self.names.section(teacher) == "teachers":
                return self._name(name, at._replace(world=teacher), node.span)
            case Index(value) if at.aligned:
                return self._walk(value, at)
            case Apply():
                return self._apply(node, at)
        return self._all(list(children(node)), at)

    def _all(self, nodes: list[Expression], at: _Question) -> frozenset[Key]:
        return NOTHING.union(*(self._walk(child, at) for child in nodes))

    def _name(self, name: str, at: _Question, span: Span) -> frozenset[Key]:
        section = self.names.section(name)
        if section == "inputs":
            return frozenset({Key(None, name)})
        if section != "graph":
            if section is None:
                self.unsure.add(at.version.name)
            return NOTHING
        key = Key(at.world, name)
        if key in at.cut:
            return frozenset({key})
        return self._version(at._replace(version=Version(name)), span) | {key}

    def _apply(self, node: Apply, at: _Question) -> frozenset[Key]:
        callee = self.names.callee(node)
        arguments = [argument.value for argument in node.arguments]
        if callee is None:
            self.unsure.add(at.version.name)
        if callee is None or callee.role == "function":
            return self._all(arguments, at)
        if callee.role == "component":
            return self._component(callee.name, arguments, at)
        world = callee.world or at.world
        here = {self.key(argument.name, world): argument.value for argument in node.arguments if argument.name}
        inner = at._replace(version=Version(callee.name), world=world, cut=at.cut.union(here))
        met = self._version(inner, node.span) | {Key(world, callee.name)}
        return met.difference(here) | self._all([value for key, value in here.items() if key in met], at)

    def _component(self, name: str, arguments: list[Expression], at: _Question) -> frozenset[Key]:
        if not self.is_one_value(name):
            return self._all(arguments, at)
        declared = self.names.component(name)
        if at.aligned and not (declared and declared.kind.traits.cuts):
            return NOTHING
        return self._all(arguments, at._replace(world=None))

    def is_one_value(self, component: str) -> bool:
        """Tell whether calls of a component draw a choice or keep a state: one value, the student's, in every world."""
        declared = self.names.component(component)
        return declared is not None and (declared.kind.traits.draws == "choice" or declared.kind.traits.state == "kept")

    def key(self, name: str, world: str | None) -> Key:
        """The key of a name that is read in a world."""
        return Key(None if self.names.section(name) == "inputs" else world, name)

    def _cycle(self, question: _Question, span: Span) -> None:
        start = next(i for i, (asked, _) in enumerate(self._path) if asked == question)
        round_trip = [str(asked.version) for asked, _ in self._path[start:]]
        if self.broken & set(round_trip):
            return
        self.broken.update(asked.version.name for asked, _ in self._path[start:])
        name = round_trip[0]
        if len(round_trip) > 1:
            way = " -> ".join([*round_trip, name])
            self.names.problems.add(f"`{name}` reads itself: {way}", span)
        elif self.names.entry(question.version.name).earlier is not None:
            self.names.problems.add(f"`{name}` reads itself", span, "the expression that is replaced is `previous`")
        else:
            self.names.problems.add(f"`{name}` reads itself, and replaces nothing", span)
