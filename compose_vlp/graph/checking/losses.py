"""Losses: components whose arguments stand one a key, ports and settings side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from compose_vlp.blueprint.nodes import Entry, Items, Mapping, Node, Scalar
from compose_vlp.blueprint.plain import guess
from compose_vlp.blueprint.scalars import ScalarError, read_float
from compose_vlp.blueprint.schedules import Schedule
from compose_vlp.blueprint.typed import NOTHING, read_typed
from compose_vlp.graph.checking.leaks import check_loss
from compose_vlp.graph.expanding.binding import Given
from compose_vlp.graph.expanding.substitute import Substitution
from compose_vlp.graph.graph import LossEntry
from compose_vlp.graph.kinds import Port
from compose_vlp.graph.language.expressions import Expression, Field, Literal, Name, Param, Several, unparse, walk
from compose_vlp.graph.language.names import Declared
from compose_vlp.graph.language.sizes import Sizing
from compose_vlp.graph.plan import Arg, Constant, ParamRef
from compose_vlp.graph.problems import Problems
from compose_vlp.graph.types import ScalarType

COMMON = frozenset({"use", "weight"})
"""Keys of every loss, whatever its kind."""


@dataclass
class Losses:
    """Computes the losses of one blueprint, after its graph."""

    substitution: Substitution
    sizings: dict[str, Sizing]
    problems: Problems
    schedules: dict[str, Schedule] = field(default_factory=dict)
    """Those that stand in place of a weight or a number, by the path where they do; read as params are."""

    def entry(self, declared: Declared) -> LossEntry | None:
        """A loss's call; None where there is a mistake in it (noted)."""
        sizing = self.sizings.get(declared.name)
        given = [self._given(declared, entry) for entry in declared.mapping if entry.name in declared.kind.ports]
        weight = self._weight(declared)
        sound = [argument for argument in given if argument is not None]
        known = COMMON | declared.kind.ports.keys() | declared.kind.settings.keys()
        if any(entry.name not in known for entry in declared.mapping):
            return None  # noted where settings are read: it may be the port that is missing
        if sizing is None or weight is None or len(sound) < len(given):
            return None
        if not self._read(declared):
            return None
        calls = self.substitution.calls
        label = f"losses.{declared.name}"
        bound = calls.bind(label, declared.name, declared.kind, sound, sizing, declared.span)
        if bound is None or not check_loss(self.substitution, declared, bound):
            return None
        args = tuple((argument.key, argument.given.arg) for argument in bound)
        origins = frozenset[str]().union(*(value.origins for argument in bound for value in argument.values()))
        result = ScalarType(origins=origins)
        ref = calls.add(label, "loss", declared.name, args, result, declared.span, None, ())
        return LossEntry(declared.name, declared.kind, sizing.config, ref.call, weight, declared.span)

    def _read(self, declared: Declared) -> bool:
        """Tell whether something reads every constant that is written."""
        before = len(self.problems)
        for entry in declared.mapping:
            port = declared.kind.ports.get(entry.name)
            if port is not None and port.beside and port.beside not in declared.mapping:
                message = (
                    f"nothing reads `{port.name}` of `{declared.name}` without `{port.beside}`, which is not given"
                )
                self.problems.add(message, entry.key.span, f"give `{port.beside}`, or leave `{port.name}` out")
        return len(self.problems) == before

    def _given(self, declared: Declared, entry: Entry) -> Given | None:
        port, node = declared.kind.ports[entry.name], entry.value
        nodes = node.items if isinstance(node, Items) else (node,)
        read = [self._argument(declared, port, item) for item in nodes]
        sound = [argument for argument in read if argument is not None]
        if len(sound) < len(read):
            return None
        if not isinstance(node, Items):
            arg, text = sound[0]
            return Given(entry.name, arg, self.substitution.arg_type(arg), text, node.span, entry.key.span)
        args = tuple(arg for arg, _ in sound)
        items = tuple((text, item.span) for (_, text), item in zip(sound, nodes, strict=True))
        text = f"[{', '.join(text for text, _ in items)}]"
        return Given(entry.name, args, self.substitution.arg_type(args), text, node.span, entry.key.span, items)

    def _argument(self, declared: Declared, port: Port, node: Node) -> tuple[Arg, str] | None:
        if isinstance(node, Mapping) and port.takes_number:
            param = self._in_place(declared, port.name, node, port.bounded)
            return None if param is None else (param, f"{port.name} of {declared.name}")
        if not isinstance(node, Scalar):
            self.problems.add(f"`{port.name}` takes a name, a field, or a list of these", node.span)
            return None
        if node.is_broken:
            return None
        if not self._within(port, node):
            return None
        if port.literal and not port.accepts and not node.text.startswith("$"):
            return Constant(guess(node)), node.text
        expression = self.substitution.names.parse(node)
        if expression is None:
            return None
        if not is_short(expression):
            name = f"{declared.name}_{port.name}"
            message = "a name, a field, or a list of these stands here"
            self.problems.add(message, node.span, f"give it a name in `graph`: `{name}: {unparse(expression)}`")
            return None
        arg = self.substitution.expression(expression, f"losses.{declared.name}.{port.name}")
        return None if arg is None else (arg, unparse(expression))

    def _within(self, port: Port, node: Scalar) -> bool:
        """Tell whether a constant or a param is within the bounds of its port; other values are judged elsewhere."""
        if port.bounded is None or not (node.text.startswith("$") or _is_number(node.text)):
            return True
        document = self.substitution.names.document
        param = document.params.entry(node.text[1:]) if node.text.startswith("$") else None
        written = node if param is None else param.value
        value, problems = read_typed(written, port.bounded | Schedule, document, port.name)
        self.problems.extend(problems)
        return value is not NOTHING

    def _weight(self, declared: Declared) -> float | ParamRef | None:
        entry = declared.mapping.entry("weight")
        if entry is None:
            return 1.0
        node, document = entry.value, self.substitution.names.document
        if isinstance(node, Scalar) and node.text.startswith("$"):
            param = document.params.entry(node.text[1:])
            if param is not None and isinstance(param.value, Scalar):
                try:
                    return read_float(param.value.text)
                except ScalarError:
                    pass
        if isinstance(node, Mapping):
            return self._in_place(declared, "weight", node)
        value, problems = read_typed(node, float | Schedule, document, "weight")
        self.problems.extend(problems)
        if value is NOTHING:
            return None
        if isinstance(value, Schedule):
            assert isinstance(node, Scalar), "a schedule that is no mapping is a param's"
            return ParamRef(node.text[1:])
        return float(value)

    def _in_place(self, declared: Declared, key: str, node: Mapping, bounded: Any = None) -> ParamRef | None:
        """A schedule that has no name in `params`: it is called by where it stands. `bounded` is its port's type."""
        kind = Schedule if bounded is None else bounded | Schedule
        value, problems = read_typed(node, kind, self.substitution.names.document, key)
        self.problems.extend(problems)
        if value is NOTHING:
            return None
        name = f"losses.{declared.name}.{key}"
        self.schedules[name] = value
        return ParamRef(name)


def _is_number(text: str) -> bool:
    try:
        read_float(text)
    except ScalarError:
        return False
    return True


def is_short(expression: Expression) -> bool:
    """A name, a field, a literal, a param or a list of these: what stands inside `{}`."""
    return all(isinstance(node, Name | Field | Several | Literal | Param) for node in walk(expression))
