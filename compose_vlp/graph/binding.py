"""Arguments meet ports: which argument goes where, whether it is of a kind that the port takes, and its dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from compose_vlp.errors import Span, did_you_mean
from compose_vlp.graph.kinds import Kind, Pattern, Port
from compose_vlp.graph.plan import Arg, Constant, ParamRef
from compose_vlp.graph.problems import Problems
from compose_vlp.graph.signature import dimension_names, matching
from compose_vlp.graph.sizes import GROWING, Fact, Sizing, Use
from compose_vlp.graph.types import RowSpace, ScalarType, ValueType

ArgType = ValueType | tuple[ValueType, ...] | None
"""What is known of an argument: its type, those of a list's items, None for a literal."""


@dataclass(frozen=True)
class Given:
    """An argument as it was written. `name` is empty where it goes by position; `text` is what messages call it."""

    name: str
    arg: Arg
    type: ArgType
    text: str
    span: Span
    name_span: Span


@dataclass(frozen=True)
class Bound:
    """An argument at its port; `key` is the port's name, or the argument's own where the port is open."""

    key: str
    port: Port
    given: Given

    def values(self) -> tuple[ValueType, ...]:
        kind = self.given.type
        return kind if isinstance(kind, tuple) else (kind,) if kind is not None else ()


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
    for number, one in enumerate(given):
        if not one.name:
            if number >= len(by_position):
                hint = "its arguments are named" if open_port else ports_line(kind)
                problems.add(f"`{one.text}` is one argument too many for `{target}`", one.span, hint)
                continue
            port: Port | None = by_position[number]
        else:
            port = kind.ports.get(one.name)
            port = open_port if port is None or port.open else port
        if port is None:
            problems.add(f"`{target}` has no port `{one.name}`", one.name_span, *no_port(one.name, kind))
            continue
        key = one.name if port.open else port.name
        if key in bound:
            problems.add(f"`{key}` of `{target}` is given twice", one.name_span)
        bound[key] = Bound(key, port, one)
    for port in kind.ports.values():
        if port.required and not port.open and port.name not in bound:
            problems.add(f"`{target}` needs `{port.name}`", span, ports_line(kind))
        if port.open and port.required and not any(b.port is port for b in bound.values()):
            problems.add(f"`{target}` needs at least one argument", span, ports_line(kind))
    order = list(kind.ports)
    return sorted(bound.values(), key=lambda b: order.index(b.port.name)) if len(problems) == before else None


def no_port(name: str, kind: Kind) -> tuple[str, ...]:
    """What to say where a port is unknown: near names, and all there are."""
    return (*did_you_mean(name, [*kind.ports, *kind.settings]), ports_line(kind))


def accept(target: str, bound: Iterable[Bound], problems: Problems) -> bool:
    """Whether every argument is of a kind that its port takes; notes those that are not."""
    before = len(problems)
    for one in bound:
        port, given = one.port, one.given
        if isinstance(given.arg, Constant):
            _literal(target, one, given.arg, problems)
        elif isinstance(given.arg, ParamRef):
            if not _takes_number(port):
                message = f"`{one.key}` of `{target}` takes no param"
                problems.add(message, given.span, f"it takes {_port_words(port).partition(': ')[2]}")
        elif isinstance(given.type, tuple) and not port.several:
            problems.add(f"`{one.key}` of `{target}` takes one value, and `{given.text}` is a list", given.span)
        else:
            for value in one.values():
                _value(target, one, value, problems)
    return len(problems) == before


def _takes_number(port: Port) -> bool:
    return port.literal and (not port.literal_types or bool({"float", "int"} & set(port.literal_types)))


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
        wanted = " or ".join(_TYPE_WORDS.get(one, one) for one in port.literal_types)
        problems.add(f"`{bound.key}` of `{target}` takes {wanted}, and this is {value!r}", bound.given.span)


_TYPE_WORDS = {"int": "a whole number", "float": "a number", "str": "a string", "bool": "true or false"}


def _is_one_of(value: Any, names: Sequence[str]) -> bool:
    if isinstance(value, bool | str):
        return type(value).__name__ in names
    return "float" in names or (isinstance(value, int) and "int" in names)


def _value(target: str, bound: Bound, value: ValueType, problems: Problems) -> None:
    if matching(bound.port, value) is not None:
        return
    given = bound.given
    takes = " or ".join(dict.fromkeys(pattern.kind for pattern in bound.port.accepts)) or "a literal"
    if any(pattern.kind == value.kind for pattern in bound.port.accepts):
        over = (
            "one vector a row"
            if value.kind == "Logits" and not getattr(value, "over_positions", False)
            else "positions"
        )
        wanted = next(str(p) for p in bound.port.accepts if p.kind == value.kind)
        problems.add(f"`{bound.key}` of `{target}` takes {wanted}, and `{given.text}` has {over}", given.span)
        return
    message = f"`{bound.key}` of `{target}` takes {takes}, and `{given.text}` is {value.kind}"
    problems.add(message, given.span, *_bridge(value, bound))


def _bridge(value: ValueType, bound: Bound) -> tuple[str, ...]:
    """The usual way from the kind that is there to the kind that is wanted."""
    wanted = {pattern.kind for pattern in bound.port.accepts}
    text = bound.given.text
    if value.kind == "Sequence" and "Embedding" in wanted:
        parts = getattr(value, "parts", ())
        cls = f"`{text}.cls` is its CLS, " if parts and parts[0].cls != "none" else ""
        return (f"{cls}`mean({text})` pools its tokens, `first({text})` is the first of them",)
    if value.kind == "Record":
        return (f"it has {', '.join(f'`{text}.{name}`' for name in value.members())}",)
    return ()


def as_ports(bound: Iterable[Bound]) -> dict[str, Any]:
    """What an output hook is given: types, tuples of them, literals; a param is a Scalar."""
    found: dict[str, Any] = {}
    for one in bound:
        arg = one.given.arg
        found[one.key] = (
            arg.value if isinstance(arg, Constant) else ScalarType() if isinstance(arg, ParamRef) else one.given.type
        )
        if one.port.several and isinstance(found[one.key], ValueType):
            found[one.key] = (found[one.key],)
    return found


# --- dimensions ---------------------------------------------------------------------------------------------------


def unify(
    target: str, kind: Kind, bound: Sequence[Bound], sizing: Sizing | None, problems: Problems
) -> list[tuple[Fact, Fact, str]]:
    """Make rows and named dimensions of all arguments agree; gives clashes with settings as (fact, other, setting)."""
    rows: dict[str, tuple[RowSpace, Bound]] = {}
    sizes: dict[str, Fact] = {}
    clashes: list[tuple[Fact, Fact, str]] = []
    for one in bound:
        for value in one.values():
            pattern = matching(one.port, value)
            if pattern is None or not pattern.dims:
                continue
            _rows(pattern, value, one, rows, problems)
            for ours, fact in _facts(pattern, value, one):
                first = sizes.setdefault(ours, fact)
                if first.size != fact.size and fact.use == "equal":
                    message = f"{fact.what} against {first.what}"
                    problems.add(message, fact.span, f"`{ours}` of `{target}` is one size")
                elif sizing is not None and sizing.setting(ours) is not None:
                    other = sizing.observe(ours, fact)
                    clashes += [(fact, other, ours)] if other else []
    if sizing is not None:
        clashes += _sources(kind, bound, sizing)
    return clashes


def _facts(pattern: Pattern, value: ValueType, bound: Bound) -> Iterable[tuple[str, Fact]]:
    known = value.sizes()
    for ours, theirs in zip(pattern.dims[1:], dimension_names(pattern)[1:], strict=False):
        size = known.get(theirs)
        if size is not None:
            use: Use = "most" if theirs in GROWING else "equal"
            what = f"{theirs} {size} of {bound.given.text}"
            yield ours, Fact(size, use, what, bound.key, bound.given.span, theirs, getattr(value, "root", ""))


def _sources(kind: Kind, bound: Sequence[Bound], sizing: Sizing) -> list[tuple[Fact, Fact, str]]:
    """Facts for settings that say where they come from (`inferred("x.vocab_size")`)."""
    clashes = []
    for name, setting in kind.settings.items():
        port, _, what = (setting.inferred or "").partition(".")
        for one in bound if what else ():
            if one.port.name != port:
                continue
            values = one.values()
            size = len(values) if what == "count" else next((s for v in values if (s := v.sizes().get(what))), None)
            if size is None:
                continue
            use: Use = "otherwise" if setting.free else "most" if what in GROWING else "equal"
            text = f"{what} {size} of {one.given.text}" if what != "count" else f"{size} values in {one.given.text}"
            fact = Fact(size, use, text, one.key, one.given.span, what, getattr(values[0], "root", ""))
            other = sizing.observe(name, fact)
            clashes += [(fact, other, name)] if other else []
    return clashes


def _rows(
    pattern: Pattern, value: ValueType, bound: Bound, rows: dict[str, tuple[RowSpace, Bound]], problems: Problems
) -> None:
    spaces = [(pattern.dims[0], value.rows)]
    columns = getattr(value, "columns", None)
    if columns is not None and len(pattern.dims) > 1:
        spaces.append((pattern.dims[1], columns))
    for variable, space in spaces:
        if variable.startswith("any_"):  # rows of its own for each value
            continue
        first, owner = rows.setdefault(variable, (space, bound))
        if first != space:
            given, other = bound.given, owner.given
            message = f"rows of `{given.text}` are {space}, those of `{other.text}` are {first}"
            problems.add(message, given.span, *_row_hints(space, given.text, first, other.text))


def _row_hints(here: RowSpace, text: str, there: RowSpace, other: str) -> tuple[str, ...]:
    if here.base == there.base and here.gathered != there.gathered:
        local = text if there.gathered else other
        return (f"`gathered({local})` has the rows of all processes",)
    if there.owner == here.base:
        return (f"`{text}[{there.base}.owner]` has one row for each of {there.base}",)
    if here.owner == there.base:
        return (f"`{other}[{here.base}.owner]` has one row for each of {here.base}",)
    return ()
