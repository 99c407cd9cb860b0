"""From ports and named dimensions to the type of a result: what a kind gets when it says nothing more."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from compose_vlp.graph.kinds import Output, Pattern, Port
from compose_vlp.graph.types import (
    KINDS,
    EmbeddingType,
    Flow,
    ImageType,
    IndexType,
    LogitsType,
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
    """What the dimensions of a port's pattern are called in the value's own terms."""
    if pattern.kind == "Logits" and len(pattern.dims) == 2:  # one vector a row
        return ("rows", "classes")
    return KINDS[pattern.kind].dims if pattern.kind in KINDS else ("rows",)


def bind(pattern: Pattern, value: ValueType) -> Bindings:
    """What a value says about the names of its port's dimensions; a name of an unknown size is left out."""
    names = dimension_names(pattern)
    sizes: dict[str, Any] = {"rows": value.rows, **value.sizes()}
    if isinstance(value, SimilarityType):
        sizes["columns"] = value.columns
    pairs = zip(pattern.dims, names, strict=False)
    return {ours: sizes[theirs] for ours, theirs in pairs if sizes.get(theirs) is not None}


def values_of(argument: Any) -> tuple[ValueType, ...]:
    """The values in an argument: none in a literal, several in a list."""
    if isinstance(argument, ValueType):
        return (argument,)
    if isinstance(argument, tuple):
        return tuple(one for one in argument if isinstance(one, ValueType))
    return ()


def matching(port: Port, value: ValueType) -> Pattern | None:
    """The pattern of a port that takes this kind of value."""
    return next((p for p in port.accepts if p.kind == "Value" or (p.kind == value.kind and _fits(p, value))), None)


def _fits(pattern: Pattern, value: ValueType) -> bool:
    """Logits over positions have three dimensions, those of one vector a row two."""
    if not isinstance(value, LogitsType) or not pattern.dims:
        return True
    return (len(pattern.dims) > 2) == value.over_positions


def default_output(
    ports: Mapping[str, Port],
    returns: Pattern | Mapping[str, Pattern],
    flows: Mapping[str, Flow],
    config: Any,
    arguments: Mapping[str, Any],
) -> ValueType:
    """The type that the annotations promise: named dimensions from the arguments, else from the settings."""
    env: Bindings = {}
    for name, argument in arguments.items():
        port = ports.get(name) or next((p for p in ports.values() if p.open), None)
        for value in values_of(argument):
            pattern = matching(port, value) if port else None
            for dim, size in bind(pattern, value).items() if pattern else ():
                env.setdefault(dim, size)
    if isinstance(returns, Pattern):
        return _build(returns, env, ports, flows, config, arguments)
    fields = {name: _build(p, env, ports, flows, config, arguments) for name, p in returns.items()}
    return RecordType(rows=next(iter(fields.values())).rows, fields=fields)


def _size(dim: str, env: Bindings, config: Any) -> int | None:
    if dim.isdigit():
        return int(dim)
    found = env.get(dim, getattr(config, dim, None))
    return found if isinstance(found, int) else None


def _build(
    pattern: Pattern,
    env: Bindings,
    ports: Mapping[str, Port],
    flows: Mapping[str, Flow],
    config: Any,
    arguments: Mapping[str, Any],
) -> ValueType:
    rows = env.get(pattern.dims[0], RowSpace()) if pattern.dims else RowSpace()
    everything = merge_reads(
        *(value.reads for argument in arguments.values() for value in values_of(argument)), at_least=Flow.ALL
    )
    tail = pattern.dims[1:]
    if pattern.kind == "Sequence":
        width = _size(tail[1], env, config) if len(tail) > 1 else None
        parts = _parts(tail[0], ports, flows, arguments)
        if parts is None:
            parts = one_part("tokens", _size(tail[0], env, config), reads=[everything])
        return SequenceType(rows, merge_reads(*(part.reads for part in parts)), width=width, parts=parts)
    if pattern.kind == "Logits":
        classes = _size(tail[-1], env, config)
        inside = _parts(tail[0], ports, flows, arguments) if len(tail) > 1 else None
        return logits_over(inside, rows, everything, classes)
    if pattern.kind == "Embedding":
        return EmbeddingType(rows, everything, width=_size(tail[0], env, config))
    if pattern.kind == "Similarity":
        return SimilarityType(rows, everything, columns=env.get(tail[0], RowSpace()))
    if pattern.kind in ("Text", "Image"):
        inputs = [v for a in arguments.values() for v in values_of(a) if isinstance(v, TextType | ImageType)]
        same = next((v for v in inputs if v.kind == pattern.kind), None)
        return same or KINDS[pattern.kind](rows, everything)
    if pattern.kind == "Index":
        return IndexType(rows)
    return KINDS[pattern.kind](rows, everything)


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


def signature(ports: Mapping[str, Port], returns: Pattern | Mapping[str, Pattern], flows: Any = None) -> Output:
    """The default `Kind.output` for these ports and this result."""

    def output(config: Any, arguments: Mapping[str, Any]) -> ValueType:
        return default_output(ports, returns, flows(config) if flows else {}, config, arguments)

    return output
