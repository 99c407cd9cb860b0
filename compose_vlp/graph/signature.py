"""From ports and named dimensions to the type of a result: what a kind gets when it says nothing more."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from compose_vlp.errors import UserError
from compose_vlp.graph.kinds import AsPart, Like, OnText, Output, Patches, Pattern, Port
from compose_vlp.graph.likeness import alike, values_of
from compose_vlp.graph.types import (
    KINDS,
    Count,
    EmbeddingType,
    Flow,
    Grid,
    ImageType,
    IndexType,
    LabelsType,
    LogitsType,
    MaskType,
    NumberType,
    Part,
    Reads,
    RecordType,
    RowSpace,
    SequenceType,
    SimilarityType,
    TextType,
    ValueType,
    count_of,
    merge_reads,
    one_part,
)

Bindings = dict[str, Any]
"""Dimension name -> `RowSpace` (row variables) or size."""


def dimension_names(pattern: Pattern) -> tuple[str, ...]:
    """Give the names that the dimensions of a port's pattern have in the value's own terms."""
    if pattern.kind == "Logits" and len(pattern.dims) == 2:  # one vector a row
        return ("rows", "classes")
    return KINDS[pattern.kind].dims if pattern.kind in KINDS else ("rows",)


def bind(pattern: Pattern, value: ValueType) -> Bindings:
    """Read the named dimensions of a port from a value; a name of an unknown size is left out."""
    names = dimension_names(pattern)
    sizes: dict[str, Any] = {"rows": value.rows, **value.sizes()}
    if isinstance(value, SimilarityType):
        sizes["columns"] = value.columns
    pairs = zip(pattern.dims, names, strict=False)
    return {ours: sizes[value_dim] for ours, value_dim in pairs if sizes.get(value_dim) is not None}


def matching(port: Port, value: ValueType) -> Pattern | None:
    """The pattern of a port that takes this kind of value."""
    return next((p for p in port.accepts if p.kind == "Value" or (p.kind == value.kind and _fits(p, value))), None)


def _fits(pattern: Pattern, value: ValueType) -> bool:
    """Logits over positions have three dimensions, those of one vector a row two."""
    if not isinstance(value, LogitsType) or not pattern.dims:
        return True
    return (len(pattern.dims) > 2) == value.over_positions


@dataclass(frozen=True)
class _Call:
    """A call as the type of its result is read off annotations: the ports, what they get, and the settings.

    `facts` are those that only the kind's library knows.
    """

    ports: Mapping[str, Port]
    flows: Mapping[str, Flow]
    config: Any
    arguments: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def env(self) -> Bindings:
        """Row variables and sizes by the names that the ports give them."""
        env: Bindings = {}
        for name, argument in self.arguments.items():
            port = self.ports.get(name) or next((p for p in self.ports.values() if p.open), None)
            for value in values_of(argument):
                pattern = matching(port, value) if port else None
                for dim, size in bind(pattern, value).items() if pattern else ():
                    env.setdefault(dim, size)
        return env

    def fact(self, name: str) -> Any:
        """A setting, or what the kind's library says."""
        setting = getattr(self.config, name, None)
        return self.facts.get(name) if setting is None else setting

    def size(self, dims: str) -> int | None:
        """The size of a dimension: a number, or that of the first of these names that is known."""
        if dims.isdigit():
            return int(dims)
        sizes = (self.env.get(dim, self.fact(dim)) for dim in dims.split("|"))
        return next((size for size in sizes if isinstance(size, int)), None)

    def rows(self, pattern: Pattern) -> RowSpace:
        """Give what a row of the result stands for."""
        return self.env.get(pattern.dims[0], RowSpace()) if pattern.dims else RowSpace()

    def shown(self, rows: str) -> frozenset[str]:
        """The inputs on which the values stand that give a row variable this name."""
        given = ((self.ports[name], value) for name, a in self.arguments.items() for value in values_of(a))
        patterns = ((matching(port, value), value) for port, value in given)
        return next(
            (value.origins for pattern, value in patterns if pattern and pattern.dims[:1] == (rows,)), frozenset()
        )

    def everything(self, least: Flow = Flow.ALL) -> Reads:
        """All that the arguments read."""
        values = (value for argument in self.arguments.values() for value in values_of(argument))
        return merge_reads(*(value.reads for value in values), at_least=least)

    def reached(self) -> Reads:
        """All that the arguments read, by the flows of their ports."""
        flows = {name: self.flows.get(name, port.flow) for name, port in self.ports.items()}
        given = ((value, flows.get(name, Flow.ALL)) for name, a in self.arguments.items() for value in values_of(a))
        return merge_reads(*(merge_reads(value.reads, at_least=flow) for value, flow in given))

    def grid(self, pattern: Pattern) -> Grid | None:
        """How the patches of the result lie, where it is said and known."""
        mark = pattern.mark(Patches)
        if mark is None:
            return None
        size, _, patch = mark.grid.partition(" / ")
        if not patch:
            grid: Grid | None = self.fact(size)
            return grid
        sides = self.fact(size), self.fact(patch)
        side = None if None in sides else sides[0] // sides[1]
        return None if side is None else (side, side)


def default_output(
    ports: Mapping[str, Port],
    returns: Pattern | Mapping[str, Pattern],
    flows: Mapping[str, Flow],
    config: Any,
    arguments: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
) -> ValueType:
    """The type that the annotations promise: named dimensions from the arguments, else from settings and facts."""
    call = _Call(ports, flows, config, arguments, facts or {})
    if isinstance(returns, Pattern):
        return _build(returns, call)
    fields = {name: _build(pattern, call) for name, pattern in returns.items()}
    return RecordType(rows=next(iter(fields.values())).rows, fields=fields)


def _build(pattern: Pattern, call: _Call) -> ValueType:
    like = pattern.mark(Like)
    if like is not None:
        return alike(like, call.arguments, call.size(like.width) if like.width else None)
    rows, tail = call.rows(pattern), pattern.dims[1:]
    if pattern.kind == "Sequence":
        return _sequence(pattern, call)
    if pattern.kind == "Logits":
        return _logits(pattern, call)
    if pattern.kind == "Embedding":
        return EmbeddingType(rows, call.everything(), width=call.size(tail[0]))
    if pattern.kind == "Similarity":
        sides = call.shown(pattern.dims[0]), call.shown(tail[0])
        return SimilarityType(rows, call.everything(Flow.EACH), columns=call.env.get(tail[0], RowSpace()), sides=sides)
    if pattern.kind in ("Text", "Image"):
        inputs = [v for a in call.arguments.values() for v in values_of(a) if isinstance(v, TextType | ImageType)]
        same = next((v for v in inputs if v.kind == pattern.kind), None)
        return same or KINDS[pattern.kind](rows, call.everything())
    if pattern.kind == "Index":
        target = call.env.get(tail[0], RowSpace()) if tail else RowSpace()
        return IndexType(rows, points_at=dataclasses.replace(target, queue=None))
    if pattern.kind == "Number" and tail:
        return NumberType(rows, call.everything(), classes=call.size(tail[0]))
    if pattern.kind == "Labels":
        return LabelsType(rows, text=_text_of(pattern, call))
    if pattern.kind == "Mask" and (grid := call.grid(pattern)) is not None:
        patches = grid[0] * grid[1]
        return MaskType(rows, count=Count(patches, patches, grid=grid))
    return KINDS[pattern.kind](rows, call.everything())


def _sequence(pattern: Pattern, call: _Call) -> SequenceType:
    tail = pattern.dims[1:]
    width = call.size(tail[1]) if len(tail) > 1 else None
    parts = _parts(tail[0], call.ports, call.flows, call.arguments)
    if parts is None:
        parts = one_part("tokens", call.size(tail[0]), reads=[call.everything()])
    mark, grid = pattern.mark(AsPart), call.grid(pattern)
    if mark is not None:
        cls: Any = mark.cls if mark.cls in ("first", "last", "none") else call.fact(mark.cls) or "none"
        length = parts[0].length
        if grid is not None and length is None:
            length = grid[0] * grid[1] + (cls != "none")
        parts = (dataclasses.replace(parts[0], name=mark.name, cls=cls, length=length, grid=grid),)
    return SequenceType(call.rows(pattern), merge_reads(*(part.reads for part in parts)), width=width, parts=parts)


def _logits(pattern: Pattern, call: _Call) -> LogitsType:
    """Scores of classes at each position that comes in; one vector a row where no positions do."""
    rows, classes, mark = call.rows(pattern), call.size(pattern.dims[-1]), pattern.mark(OnText)
    inside = _parts(pattern.dims[1], call.ports, call.flows, call.arguments) if len(pattern.dims) > 2 else None
    words = [part for part in inside or () if part.text is not None]
    if mark is not None and len(words) == 1:
        return logits_on_text(rows, words[0], classes)
    if mark is not None and mark.required:
        names = ", ".join(part.name for part in inside or ())
        raise UserError(
            f"scores of words need positions of one text; here are {len(words)}",
            hints=[f"parts: {names}; `x.{part.name}` takes one" for part in words[:1]],
        )
    return logits_over(inside, rows, call.reached(), classes)


def _text_of(pattern: Pattern, call: _Call) -> TextType | None:
    """The text at whose positions labels stand."""
    for name, value in call.arguments.items():
        port_pattern = matching(call.ports[name], value) if name in call.ports and isinstance(value, TextType) else None
        if port_pattern is not None and port_pattern.dims[1:2] == pattern.dims[1:2]:
            return value  # type: ignore[no-any-return] # narrowed above
    return None


def _parts(
    tokens: str, ports: Mapping[str, Port], flows: Mapping[str, Flow], arguments: Mapping[str, Any]
) -> tuple[Part, ...] | None:
    """The parts of the port whose token variable goes out again, reached also by whatever the other ports bring."""
    for name, port in ports.items():
        source = arguments.get(name)
        if not isinstance(source, SequenceType | TextType):
            continue
        pattern = matching(port, source)
        if not pattern or len(pattern.dims) < 2 or pattern.dims[1] != tokens:
            continue
        flow = flows.get(name, port.flow)
        own = source.parts if isinstance(source, SequenceType) else _words(source)
        inside = merge_reads(*(part.reads for part in own), at_least=flow) if flow is Flow.ALL else {}
        others = [
            merge_reads(value.reads, at_least=flows.get(other, ports[other].flow if other in ports else Flow.ALL))
            for other, argument in arguments.items()
            if other != name
            for value in values_of(argument)
        ]
        return tuple(
            dataclasses.replace(p, reads=merge_reads(merge_reads(p.reads, at_least=flow), inside, *others)) for p in own
        )
    return None


def _words(text: TextType) -> tuple[Part, ...]:
    """The positions of a text, before anything was made of them."""
    return (Part("text", text.length, text=text, reads=text.reads),)


def logits_over(parts: tuple[Part, ...] | None, rows: RowSpace, reads: Reads, classes: int | None) -> LogitsType:
    """The type of scores at every position of these parts (of the one that stands on a text, where there is one).

    Without parts they are one vector a row.
    """
    if parts is None:
        return LogitsType(rows, reads, classes=classes)
    words = [part for part in parts if part.text is not None]
    if len(words) == 1:
        part = words[0]
        return LogitsType(rows, dict(part.reads), classes=classes, text=part.text, counted=part.count)
    name = parts[0].name if len(parts) == 1 else None
    return LogitsType(rows, reads, classes=classes, part=name, counted=count_of(parts))


def logits_on_text(rows: RowSpace, part: Part, classes: int | None) -> LogitsType:
    """The type of scores at the words of the text that a part stands on: a CLS behind them is left out."""
    fewer = part.count.fixed is not None and part.count.fixed < 0  # `.tokens` has taken out the first one
    return LogitsType(rows, part.reads, classes=classes, text=part.text, counted=part.count if fewer else None)


def signature(
    ports: Mapping[str, Port], returns: Pattern | Mapping[str, Pattern], flows: Any = None, describe: Any = None
) -> Output:
    """The default `Kind.output` for these ports and this result."""

    def output(config: Any, arguments: Mapping[str, Any]) -> ValueType:
        facts = describe(config) if describe else {}
        return default_output(ports, returns, flows(config) if flows else {}, config, arguments, facts)

    return output


def refusing(ports: Mapping[str, Port], output: Output) -> Output:
    """An output that refuses first what `When` says may not be given, or left out, with these settings.

    Raises:
        UserError: naming the setting and the port.
    """
    conditions = {name: port.when for name, port in ports.items() if port.when is not None}

    def checked(config: Any, arguments: Mapping[str, Any]) -> ValueType:
        for name, when in conditions.items():
            refusal = when.refusal(config, name, arguments.get(name) is not None)
            if refusal is not None:
                raise UserError(refusal)
        return output(config, arguments)

    return checked if conditions else output
