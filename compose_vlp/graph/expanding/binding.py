"""Arguments meet ports: which argument goes where, whether it is of a kind that the port takes, and its dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from compose_vlp.errors import Span, did_you_mean
from compose_vlp.graph.kinds import Kind, Port
from compose_vlp.graph.plan import Arg, Constant, ParamRef
from compose_vlp.graph.problems import Problems
from compose_vlp.graph.signature import matching
from compose_vlp.graph.types import ScalarType, ValueType

ArgType = ValueType | tuple[ValueType, ...] | None
"""What is known of an argument: its type, those of a list's items, None for a literal."""


@dataclass(frozen=True)
class Given:
    """An argument as it was written. `name` is empty where it goes by position; `text` is what messages call it.

    `items` are the texts and places of a list's items.
    """

    name: str
    arg: Arg
    type: ArgType
    text: str
    span: Span
    name_span: Span
    items: tuple[tuple[str, Span], ...] = ()


@dataclass(frozen=True)
class Bound:
    """An argument at its port; `key` is the port's name, or the argument's own where the port is open."""

    key: str
    port: Port
    given: Given

    def values(self) -> tuple[ValueType, ...]:
        kind = self.given.type
        return kind if isinstance(kind, tuple) else (kind,) if kind is not None else ()

    def each(self) -> list[tuple[ValueType, str, Span]]:
        """The values with what messages call them, and where."""
        given, values = self.given, self.values()
        named = given.items if len(given.items) == len(values) else [(given.text, given.span)] * len(values)
        return [(value, text, span) for value, (text, span) in zip(values, named, strict=True)]


def ports_line(kind: Kind) -> str:
    """The ports of a kind in one line, for messages."""
    words = [_port_words(port) for port in kind.ports.values()]
    return f"{kind.name} takes {', '.join(words)}" if words else f"{kind.name} takes nothing"


def _port_words(port: Port) -> str:
    accepted = " or ".join(dict.fromkeys(pattern.kind for pattern in port.accepts)) or "a literal"
    several = f"list of {accepted}" if port.several else accepted
    name = "any names" if port.open else port.name
    return f"{name}: {several}" if port.required or port.open else f"[{name}: {several}]"


def place(target: str, kind: Kind, given: Sequence[Given], span: Span, problems: Problems) -> list[Bound] | None:
    """Send every argument to its port; None where one has no port, or a port that must be fed gets nothing."""
    before = len(problems)
    by_position = [port for port in kind.ports.values() if not port.open]
    open_port = next((port for port in kind.ports.values() if port.open), None)
    bound: dict[str, Bound] = {}
    for number, argument in enumerate(given):
        if not argument.name:
            if number >= len(by_position):
                hint = "its arguments are named" if open_port else ports_line(kind)
                problems.add(f"`{argument.text}` is one argument too many for `{target}`", argument.span, hint)
                continue
            port: Port | None = by_position[number]
        else:
            port = kind.ports.get(argument.name)
            port = open_port if port is None or port.open else port
        if port is None:
            problems.add(
                f"`{target}` has no port `{argument.name}`", argument.name_span, *no_port(argument.name, kind, target)
            )
            continue
        key = argument.name if port.open else port.name
        if key in bound:
            problems.add(f"`{key}` of `{target}` is given twice", argument.name_span)
        bound[key] = Bound(key, port, argument)
    required = [port for port in kind.ports.values() if port.required and len(problems) == before]
    missing = [f"`{port.name}`" for port in required if not port.open and port.name not in bound]
    if missing:
        *most, last = missing
        what = f"{', '.join(most)} and {last}" if most else last
        problems.add(f"`{target}` needs {what}", span, ports_line(kind))
    for port in required if not missing else ():
        if port.open and not any(b.port is port for b in bound.values()):
            problems.add(f"`{target}` needs at least one argument", span, ports_line(kind))
    order = list(kind.ports)
    return sorted(bound.values(), key=lambda b: order.index(b.port.name)) if len(problems) == before else None


def no_port(name: str, kind: Kind, target: str = "") -> tuple[str, ...]:
    """Give hints for an unknown port: that it is a setting of `target`, or near names, and all there are."""
    if name in kind.settings and kind.category == "component":
        place = f"`components: {{{target}: {{{name}: ...}}}}`"
        return (f"`{name}` is a setting, which the component says and not its call: {place}", ports_line(kind))
    return (*did_you_mean(name, kind.ports), ports_line(kind))


def accept(target: str, bound: Iterable[Bound], problems: Problems) -> bool:
    """Check whether every argument is of a kind that its port takes; notes those that are not."""
    before = len(problems)
    for argument in bound:
        port, given = argument.port, argument.given
        if isinstance(given.arg, Constant):
            _literal(target, argument, given.arg, problems)
        elif isinstance(given.arg, ParamRef):
            if not port.takes_number:
                message = f"`{argument.key}` of `{target}` takes no param"
                problems.add(message, given.span, f"it takes {_port_words(port).partition(': ')[2]}")
        elif isinstance(given.type, tuple) and not port.several:
            problems.add(f"`{argument.key}` of `{target}` takes one value, and `{given.text}` is a list", given.span)
        else:
            for value, text, span in argument.each():
                _value(target, argument, value, text, span, problems)
    return len(problems) == before


def _literal(target: str, bound: Bound, constant: Constant, problems: Problems) -> None:
    port, value = bound.port, constant.value
    if not port.literal:
        takes = _port_words(port).partition(": ")[2]
        message = f"`{bound.key}` of `{target}` takes {takes}, and this is a literal"
        problems.add(message, bound.given.span, *did_you_mean(str(value), ()))
    elif port.choices:
        if str(value) not in port.choices:
            near = did_you_mean(str(value), port.choices) or (f"it is one of {', '.join(port.choices)}",)
            problems.add(f"`{bound.key}` of `{target}` is not {value!r}", bound.given.span, *near)
    elif port.literal_types and not _is_one_of(value, port.literal_types):
        types = " or ".join(_TYPE_WORDS.get(literal_type, literal_type) for literal_type in port.literal_types)
        problems.add(f"`{bound.key}` of `{target}` takes {types}, and this is {value!r}", bound.given.span)


_TYPE_WORDS = {"int": "a whole number", "float": "a number", "str": "a string", "bool": "true or false"}


def _is_one_of(value: Any, names: Sequence[str]) -> bool:
    if isinstance(value, bool | str):
        return type(value).__name__ in names
    return "float" in names or (isinstance(value, int) and "int" in names)


def _value(target: str, bound: Bound, value: ValueType, text: str, span: Span, problems: Problems) -> None:
    if matching(bound.port, value) is not None:
        return
    accepted = [str(pattern) for pattern in bound.port.accepts if pattern.kind == value.kind]
    if accepted:
        over = "has positions" if getattr(value, "over_positions", False) else "has one vector a row"
        problems.add(f"`{bound.key}` of `{target}` takes {accepted[0]}, and `{text}` {over}", span)
        return
    takes = " or ".join(dict.fromkeys(pattern.kind for pattern in bound.port.accepts)) or "a literal"
    problems.add(
        f"`{bound.key}` of `{target}` takes {takes}, and `{text}` is {value.kind}", span, *_bridge(value, bound, text)
    )


def _bridge(value: ValueType, bound: Bound, text: str) -> tuple[str, ...]:
    """The usual way from the kind that is there to the kind that is wanted."""
    kinds = {pattern.kind for pattern in bound.port.accepts}
    if value.kind == "Sequence" and "Embedding" in kinds:
        parts = getattr(value, "parts", ())
        cls = f"`{text}.cls` is its CLS, " if parts and parts[0].cls != "none" else ""
        return (f"{cls}`mean({text})` pools its tokens, `first({text})` is the first of them",)
    if value.kind == "Record":
        return (f"it has {', '.join(f'`{text}.{name}`' for name in value.members())}",)
    return ()


def as_ports(bound: Iterable[Bound]) -> dict[str, Any]:
    """Give what an output hook receives: types, tuples of them, literals; a param is a Scalar."""
    ports: dict[str, Any] = {}
    for argument in bound:
        arg = argument.given.arg
        ports[argument.key] = (
            arg.value
            if isinstance(arg, Constant)
            else ScalarType()
            if isinstance(arg, ParamRef)
            else argument.given.type
        )
        if argument.port.several and isinstance(ports[argument.key], ValueType):
            ports[argument.key] = (ports[argument.key],)
    return ports
