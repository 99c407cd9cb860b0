"""The plan: an SSA list of typed calls, which passes rewrite and from which the program's source is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from compose_vlp.errors import Span
from compose_vlp.graph.types import ValueType

Role = Literal[
    "input",
    "component",
    "function",
    "read",
    "index",
    "select",
    "loss",
    "terms",
    "auxiliary",
    "keys",
    "stack",
    "picks",
    "split",
]


@dataclass(frozen=True)
class Ref:
    """The result of a call, or a field of it (`neg.image` is `Ref("neg", ("image",))`; costs no call)."""

    call: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.call, *self.path))


@dataclass(frozen=True)
class Constant:
    """A literal written in the blueprint."""

    value: Any


@dataclass(frozen=True)
class ParamRef:
    """`$name`: a constant or schedule of `params`, read at each step."""

    name: str


Arg = Ref | Constant | ParamRef | tuple["Arg", ...]


@dataclass(frozen=True)
class Call:
    """One step of the program.

    role `input`: `target` is the input's name; `component`: a component's name; `function`: a function kind's name;
    `read`: `cls`, `tokens` or a part's name, argument `x`; `index`: `x[index]`, arguments `x` and `index`;
    `select`: the positions that loss `target` needs (put in by the `rows` pass); `loss`: the loss's name. `world` is
    the teacher in whose weights it is computed, None for the student.

    Put in where a stage is compiled: `terms`: what auxiliary losses are made of, as the call `x` of component `target`
    adds it; `auxiliary`: the loss `name` of all parts of a `kind` in component `target`, of these `terms`.

    Put in by the `batch` pass: `keys`: keys and values that component `target` makes of the context `x`; `stack`: the
    rows of several values `x` under each other; `picks`: for each of these rows the row of the context at which it
    looks, which `indices` pick (`()`: its own); `split`: of a result `x` the rows of the value number `target` of
    `like`.
    """

    id: str
    role: Role
    target: str
    args: tuple[tuple[str, Arg], ...]
    type: ValueType
    span: Span | None = None
    world: str | None = None
    chain: tuple[str, ...] = ()  # the graph entries and substitutions that led here, outermost first
    no_grad: bool = False  # nothing trainable is upstream (put in by the `frozen` pass)
    together: str = ""  # calls of one such name gather their rows in one collective (put in by the `gather` pass)

    def refs(self) -> Iterator[Ref]:
        """All values that it reads."""
        for _, arg in self.args:
            yield from refs_in(arg)

    def arg(self, name: str) -> Arg | None:
        return dict(self.args).get(name)


def refs_in(arg: Arg) -> Iterator[Ref]:
    """The values in an argument, lists included."""
    if isinstance(arg, Ref):
        yield arg
    elif isinstance(arg, tuple):
        for item in arg:
            yield from refs_in(item)


@dataclass(frozen=True)
class Plan:
    """Calls in an order in which each reads only earlier ones, and the values that someone asked for."""

    calls: tuple[Call, ...]
    results: Mapping[str, Ref] = field(default_factory=dict)  # loss or output name -> value
    notes: tuple[str, ...] = ()

    def by_id(self) -> dict[str, Call]:
        return {call.id: call for call in self.calls}

    def type_of(self, ref: Ref) -> ValueType:
        """The type of a value of the plan."""
        return self.by_id()[ref.call].type.at(ref.path)

    def replace(self, calls: Iterable[Call], note: str | None = None) -> Plan:
        notes = (*self.notes, note) if note else self.notes
        return dataclasses.replace(self, calls=tuple(calls), notes=notes)

    def counted(self) -> int:
        """Calls, inputs not counted (reads of `.cls` are)."""
        return sum(call.role != "input" for call in self.calls)
