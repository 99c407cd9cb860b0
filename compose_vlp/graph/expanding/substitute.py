"""From expressions to calls: the plan in SSA form, each value typed as soon as it stands.

Reuse is by substitution. A value is computed in a `Context`: a world (the student's, or a teacher's) and an
environment of names that are replaced. What a value does not read of an environment does not tell it apart, so an
expression, and each piece of it, is written once for each world and *read* part of the environment. Hence it makes no
difference whether a piece has a name in `graph` or stands in place.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from compose_vlp.blueprint.nodes import Mapping
from compose_vlp.blueprint.plain import guess
from compose_vlp.errors import Span, did_you_mean
from compose_vlp.graph import derive
from compose_vlp.graph.expanding.alignment import check_alignment
from compose_vlp.graph.expanding.binding import ArgType, Given
from compose_vlp.graph.expanding.calls import Calls
from compose_vlp.graph.expanding.fields import points_at_rows, read_type
from compose_vlp.graph.expanding.replacing import are_named, explain_unread, fits
from compose_vlp.graph.language.contexts import Context, Environment, Put
from compose_vlp.graph.language.expressions import (
    Apply,
    Expression,
    Field,
    Index,
    Literal,
    Name,
    Param,
    Several,
    unparse,
)
from compose_vlp.graph.language.names import Callee, Key, Names
from compose_vlp.graph.language.reads import Reads, Version
from compose_vlp.graph.plan import Arg, Constant, ParamRef, Ref
from compose_vlp.graph.problems import Problems
from compose_vlp.graph.types import IndexType

_Memo = tuple[Version, Span | None, str | None, frozenset[tuple[Key, Arg]]]
"""An entry, or the piece of it at a place; the world; and what was put in for the names that it reads."""


@dataclass
class Substitution:
    """Computes the graph entries of one blueprint."""

    names: Names
    reads: Reads
    calls: Calls
    problems: Problems
    _memo: dict[_Memo, Arg | None] = field(default_factory=dict)
    _busy: set[Version] = field(default_factory=set)  # entries being computed with nothing replaced

    # --- entries

    def entry(self, name: str, world: str | None = None) -> Arg | None:
        """The value of a graph entry, nothing replaced; None where there is a mistake in it (noted)."""
        return self._entry(Version(name), Context(Version(name), name), world)

    def expression(self, node: Expression, label: str) -> Arg | None:
        """The value of an expression that is no entry (an output's)."""
        return self._value(node, Context(Version(label), label), whole=True)

    def _entry(self, version: Version, at: Context, world: str | None, label: str = "") -> Arg | None:
        """The entry's value in the environment of `at`; `label` where the caller gives it his own."""
        if version.name in self.reads.broken:
            return None
        met = self.reads.of(version.name, world, frozenset(at.env), age=version.age)
        # What is replaced but not read here cannot change the value. Without it in the key, calls that differ only in
        # such arguments share one value; computing it twice would cost a tower, and draw its noise again.
        env = {key: put for key, put in at.env.items() if key in met}
        memo = (version, None, world, frozenset((key, put.arg) for key, put in env.items()))
        if memo in self._memo:
            return self._memo[memo]
        expression = self.names.expression(*version)
        if expression is None:
            return None
        # An entry is first computed as it is written, so that a mistake in it is reported once, at its own place, not
        # at each call that replaces something in it. A circle that a replacement cuts has no value as it is written.
        is_plain = not (world or env)
        if not is_plain and not self._is_busy(version) and self._entry(version, Context(version, ""), None) is None:
            return None  # the mistake was noted where nothing is replaced
        self._busy |= {version} if is_plain else set()
        context = self._context(version, at, world, env, label)
        value = self._value(expression, context, whole=True)
        if value is not None and not isinstance(value, Ref):
            self._no_value(version, expression, value)
            value = None
        self._memo[memo] = value
        self._busy -= {version} if is_plain else set()
        return value

    def _no_value(self, version: Version, expression: Expression, value: Arg) -> None:
        """A list or a literal has no name: it stands where it is taken."""
        hint = "constants stand in `params`, and are read as `$name`"
        hint = "a list stands in the call whose port takes several values" if isinstance(value, tuple) else hint
        self.problems.add(f"graph entry `{version.name}` is {_what(value)}, and no value", expression.span, hint)

    def _is_busy(self, version: Version) -> bool:
        """Tell whether an entry, nothing replaced, stands on one being computed: a circle that something cuts."""
        if not self._busy or self.names.section(version.name) != "graph":
            return False
        met = {key.name for key in self.reads.of(version.name, age=version.age)}
        return any(busy == version or busy.name in met for busy in self._busy)

    def _piece(self, node: Field | Index | Apply, at: Context) -> Arg | None:
        """A call inside an expression, in the part of the environment that it reads."""
        met = self.reads.inside(node, at.version, at.world, frozenset(at.env)) if at.env else frozenset()
        env = {key: put for key, put in at.env.items() if key in met}
        memo = (at.version, node.span, at.world, frozenset((key, put.arg) for key, put in env.items()))
        if memo not in self._memo:
            context = at if env or not at.env else self._context(at.version, at, at.world, env, "")
            self._memo[memo] = self._compound(node, context, whole=False)
        return self._memo[memo]

    def _context(self, version: Version, at: Context, world: str | None, env: Environment, label: str) -> Context:
        own = str(version)
        if not env:
            return Context(version, f"{world}.{own}" if world else own, world, chain=at.chain if world else ())
        parts = [at.prefix, world if world and world != at.prefix_world else "", own]
        return Context(
            version, label or ".".join(filter(None, parts)), world, env, at.prefix, at.prefix_world, at.chain
        )

    # --- expressions

    def _value(self, node: Expression, at: Context, *, whole: bool = False) -> Arg | None:
        match node:
            case Literal(value):
                return Constant(value)
            case Param(name):
                return self._param(node)
            case Several(items):
                values = [self._value(item, at) for item in items]
                return (
                    None
                    if any(value is None for value in values)
                    else tuple(value for value in values if value is not None)
                )
            case Name("previous"):
                before = Version(at.version.name, at.version.age + 1)
                return self._entry(before, at, at.world, at.label if whole and at.env else "")
            case Name(name, span):
                return self._name(name, span, at.world, at)
            case Field() | Index() | Apply():
                return self._compound(node, at, whole) if whole else self._piece(node, at)

    def _compound(self, node: Field | Index | Apply, at: Context, whole: bool) -> Arg | None:
        with self.problems.within(at.chain):
            match node:
                case Field():
                    return self._field(node, at, whole)
                case Index():
                    return self._index(node, at, whole)
                case Apply():
                    return self._apply(node, at, whole)

    def _param(self, node: Param) -> Arg | None:
        entry = self.names.document.params.entry(node.name)
        if entry is None:
            return None  # noted where the files were merged
        return ParamRef(node.name) if isinstance(entry.value, Mapping) else Constant(guess(entry.value))

    def _name(self, name: str, span: Span, world: str | None, at: Context) -> Arg | None:
        section = self.names.section(name)
        put = at.env.get(self.reads.key(name, world))
        if put is not None:
            return put.arg
        if section == "inputs":
            return self.calls.input(name)
        if section == "graph":
            return self._entry(Version(name), at, world)
        if section == "components":
            self.problems.add(f"`{name}` is a component, and is called: `{name}(...)`", span)
        elif section == "params":
            self.problems.add(f"`{name}` is a param", span, f"write `${name}`")
        elif section == "teachers":
            self.problems.add(f"`{name}` is a teacher: `{name}.entry` is an entry in its world", span)
        else:
            self.names.unknown(name, span, self.problems)
        return None

    def _label(self, at: Context, whole: bool, word: str) -> str:
        return at.label if whole else f"{at.label}.{word}"

    # --- fields and indices

    def _field(self, node: Field, at: Context, whole: bool) -> Arg | None:
        if isinstance(node.value, Name) and self.names.section(node.value.name) == "teachers":
            return self._in_world(node, node.value.name, at)
        value = self._value(node.value, at)
        if value is None:
            return None
        if not isinstance(value, Ref):
            self.problems.add(f"`{unparse(node.value)}` is {_what(value)}, which has no `.{node.name}`", node.name_span)
            return None
        kind = self.calls.type_of(value)
        if node.name in kind.members():
            return Ref(value.call, (*value.path, node.name))
        result = read_type(node, kind, self.problems)
        if result is None:
            return None
        label = self._label(at, whole, node.name)
        world = self.calls.weightless_world([value], at.world)
        return self.calls.add(label, "read", node.name, (("x", value),), result, node.name_span, world, at.chain)

    def _in_world(self, node: Field, teacher: str, at: Context) -> Arg | None:
        section = self.names.section(node.name)
        if section == "graph":
            return self._name(node.name, node.name_span, teacher, at)
        if section == "inputs":
            hint = f"write `{node.name}`"
            self.problems.add(f"`{node.name}` is an input, the same in every world", node.name_span, hint)
        elif section == "components":
            message = f"`{node.name}` is a component, and is called: `{teacher}.{node.name}(...)`"
            self.problems.add(message, node.name_span)
        elif node.name not in self.names.missing:
            hints = did_you_mean(node.name, self.names.document.graph.names)
            self.problems.add(f"nothing in the world of `{teacher}` is called `{node.name}`", node.name_span, *hints)
        return None

    def _index(self, node: Index, at: Context, whole: bool) -> Arg | None:
        value, index = self._value(node.value, at), self._value(node.index, at)
        if value is None or index is None:
            return None
        picked = self.calls.type_of(index) if isinstance(index, Ref) else None
        if not isinstance(picked, IndexType):
            what = picked.kind if picked else _what(index)
            hints = (
                ("positions and rows have no numbers: `first(x)` is the first position, `x.cls` a CLS",)
                if isinstance(index, Constant)
                else ("an Index is what a miner or an `ids` input gives",)
            )
            message = f"an Index is wanted here, and `{unparse(node.index)}` is {what}"
            self.problems.add(message, node.index.span, *hints)
            return None
        if not isinstance(value, Ref):
            self.problems.add(f"`{unparse(node.value)}` is {_what(value)}, which has no rows", node.value.span)
            return None
        kind = self.calls.type_of(value)
        if not points_at_rows(node, kind, picked, self.problems):
            return None
        word = node.value.name if isinstance(node.value, Name) else "picked"
        label = self._label(at, whole, word)
        result = derive.indexed(kind, picked, str(index))
        world = self.calls.weightless_world([value], at.world)
        return self.calls.add(label, "index", "", (("x", value), ("index", index)), result, node.span, world, at.chain)

    # --- applications

    def _apply(self, node: Apply, at: Context, whole: bool) -> Arg | None:
        callee = self.names.callee(node)
        if callee is None:
            for argument in node.arguments:
                self._value(argument.value, at)
            self.names.explain_callee(node, self.problems)
            return None
        if callee.role == "entry":
            return self._substituted(node, callee, at, whole)
        if callee.role == "component" and self.reads.is_one_value(callee.name):
            return self._one_value(node, callee, at, whole)
        return self._called(node, callee, at, whole)

    def _called(self, node: Apply, callee: Callee, at: Context, whole: bool) -> Arg | None:
        """A component's or a function's call."""
        given = []
        for argument in node.arguments:
            value = self._value(argument.value, at)
            if value is not None:
                text = unparse(argument.value)
                span = argument.value.span
                items = _items(argument.value)
                given.append(Given(argument.name, value, self.arg_type(value), text, span, argument.span, items))
        if len(given) < len(node.arguments):
            return None
        world = callee.world or at.world
        label = self._label(at, whole, callee.name)
        return self.calls.call(label, callee, given, world, at.chain)

    def arg_type(self, arg: Arg) -> ArgType:
        """Give what is known of an argument: the type of a value, of each value in a list, or None for a literal."""
        if isinstance(arg, Ref):
            return self.calls.type_of(arg)
        if isinstance(arg, tuple):
            return tuple(self.calls.type_of(item) for item in arg if isinstance(item, Ref))
        return None

    def _one_value(self, node: Apply, callee: Callee, at: Context, whole: bool) -> Arg | None:
        """A choice or a kept state: the student's value, whole, whoever reads it."""
        if callee.world is not None:
            message = f"`{callee.name}` is the student's in every world: a teacher makes no choices and keeps no state"
            self.problems.add(message, callee.span, f"write `{callee.name}(...)`")
            return None
        met = self.reads.inside(node, at.version, None, frozenset(at.env))
        hit = next((put for key, put in at.env.items() if key in met), None)
        if hit is not None:
            with self.problems.within(()):  # the place that is pointed at is the substitution itself
                self._second(callee.name, at.version.name, hit)
            return None
        if at.is_plain:
            return self._called(node, callee, at, whole)
        # Nothing that it reads is replaced, so the student's plain value is the one that everyone shares: a second call
        # would draw another choice, or advance the state twice in a step.
        if whole:
            return self._entry(at.version, Context(at.version, str(at.version)), None)
        return self._piece(node, self._context(at.version, at, None, {}, ""))

    def _second(self, component: str, entry: str, put: Put) -> None:
        declared = self.names.component(component)
        if declared and declared.kind.traits.draws == "choice":
            message = f"`{entry}` is one choice (`{component}` draws it once); here it would be made again"
            self.problems.add(message, put.call, f"a second choice needs an entry of its own that calls `{component}`")
        else:
            message = (
                f"`{entry}` keeps a state, which one call a step advances; here `{component}` would advance it again"
            )
            self.problems.add(message, put.call)

    # --- substitution

    def _substituted(self, node: Apply, callee: Callee, at: Context, whole: bool) -> Arg | None:
        """A graph entry called with named arguments."""
        world = callee.world or at.world
        if not are_named(self, node, callee):
            return None
        here = frozenset(self.reads.key(argument.name, world) for argument in node.arguments)
        met = self.reads.of(callee.name, world, here)
        if callee.name in self.reads.broken:
            return None
        puts: dict[Key, Put] = {}
        for argument in node.arguments:
            key = self.reads.key(argument.name, world)
            value = self._value(argument.value, at)
            if key not in met:
                explain_unread(self, argument, key, callee, met)
            elif value is not None and fits(self, argument, key, value):
                text = f"{argument.name}={unparse(argument.value)}"
                puts[key] = Put(value, text, argument.span, node.span)
        if len(puts) < len(node.arguments):
            return None
        env = {**at.env, **puts}
        if not check_alignment(self, callee, world, env, puts):
            return None
        chain = (*at.chain, f"{at.version} = {unparse(node)}" if whole else f"{unparse(node)} in {at.version}")
        inner = Context(at.version, at.label, world, env, at.label, world if at.world == world else None, chain)
        if world and at.label.startswith(f"{world}."):
            inner = dataclasses.replace(inner, prefix_world=world)
        return self._entry(Version(callee.name), inner, world, at.label if whole else f"{at.label}.{callee.name}")

    def original(self, key: Key, span: Span) -> Ref | None:
        """Give the value that a replaced name stands for; None where it is not known."""
        if self._is_busy(Version(key.name)):
            return None  # a circle that the substitution cuts
        value = self._name(key.name, span, key.world, Context(Version(key.name), key.name))
        return value if isinstance(value, Ref) else None


def _items(node: Expression) -> tuple[tuple[str, Span], ...]:
    """The texts and places of a list's items."""
    return tuple((unparse(item), item.span) for item in node.items) if isinstance(node, Several) else ()


def _what(arg: Arg) -> str:
    return "a list" if isinstance(arg, tuple) else "a literal" if isinstance(arg, Constant) else "a param"
