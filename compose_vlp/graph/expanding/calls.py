"""The calls of a plan, each with the type of its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from compose_vlp.blueprint.inputs import IdInput, ImageInput, Input, LabelInput, NumberInput, TextInput
from compose_vlp.errors import Span, UserError, did_you_mean
from compose_vlp.files import count_lines
from compose_vlp.graph import derive
from compose_vlp.graph.expanding import binding
from compose_vlp.graph.expanding.binding import Bound, Given
from compose_vlp.graph.expanding.dimensions import Dimensions
from compose_vlp.graph.expanding.mirrors import check_mirrors
from compose_vlp.graph.kinds import Kind
from compose_vlp.graph.language.names import Callee, Names
from compose_vlp.graph.language.sizes import Sizing
from compose_vlp.graph.plan import Arg, Call, Constant, Ref, Role, refs_in
from compose_vlp.graph.problems import Problems
from compose_vlp.graph.types import (
    Flow,
    ImageType,
    IndexType,
    MaskType,
    NumberType,
    RecordType,
    RowSpace,
    ScalarType,
    SequenceType,
    SimilarityType,
    TextType,
    ValueType,
    merge_reads,
)


@dataclass
class Calls:
    """Calls in the order in which they were first needed. `inputs` and `sizings` are by name, sound ones only."""

    names: Names
    inputs: Mapping[str, Input]
    sizings: Mapping[str, Sizing]
    problems: Problems
    done: dict[str, Call] = field(default_factory=dict)
    functions: dict[str, Kind] = field(default_factory=dict)
    _kept: dict[str, Span] = field(default_factory=dict)
    _makers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dimensions = Dimensions(self.problems, self.maker_of)

    def type_of(self, ref: Ref) -> ValueType:
        """The type of a value."""
        return self.done[ref.call].type.at(ref.path)

    def weightless_world(self, args: Iterable[Arg], world: str | None) -> str | None:
        """Give the world of a call without weights: that of its values, or `world` where they are of several.

        So a teacher's value is read in the teacher's world, wherever the reading is written, and what stands on inputs
        alone is one value in all worlds.
        """
        refs = [ref for arg in args for ref in refs_in(arg)]
        worlds = {call.world for ref in refs if (call := self.done[ref.call]).role != "input"}
        return next(iter(worlds), None) if len(worlds) < 2 else world

    def maker_of(self, ref: Ref) -> str:
        """The component or input that a value comes from, through functions, reads and indices."""
        if ref.call not in self._makers:
            call = self.done[ref.call]
            inner = next(call.refs(), None) if call.role in ("function", "read", "index") else None
            self._makers[ref.call] = call.target if inner is None else self.maker_of(inner)
        return self._makers[ref.call]

    def add(
        self,
        label: str,
        role: Role,
        target: str,
        args: tuple[tuple[str, Arg], ...],
        result: ValueType,
        span: Span,
        world: str | None,
        chain: tuple[str, ...],
    ) -> Ref:
        """Write a call; a label that is taken gets a number."""
        unique = self._unique(label)
        self.done[unique] = Call(unique, role, target, args, result, span, world, chain)
        return Ref(unique)

    def _unique(self, label: str) -> str:
        numbered = (f"{label}_{number}" for number in count(2))
        return (
            label if label not in self.done else next(candidate for candidate in numbered if candidate not in self.done)
        )

    # --- inputs

    def input(self, name: str) -> Ref | None:
        """An input's value; None where the input is not sound (noted)."""
        if name not in self.done:
            spec = self.inputs.get(name)
            if spec is None:
                return None
            span = self.names.entry(name).key.span
            self.done[name] = Call(name, "input", name, (), self._input_type(name, spec), span)
        return Ref(name)

    def _input_type(self, name: str, spec: Input) -> ValueType:
        rows, origins = RowSpace(spec.source), frozenset({name})
        match spec:
            case ImageInput():
                return ImageType(rows, {name: Flow.EACH}, origins, size=spec.size, root=name)
            case TextInput():
                return self._text_type(name, spec, rows)
            case LabelInput():
                fields: Mapping[str, ValueType] = {}
                if spec.many:
                    rows, record = RowSpace(name, owner=spec.source), rows
                    fields = derive.many_fields(name, rows, record)
                return NumberType(rows, origins=origins, classes=_class_count(spec), fields=fields)
            case IdInput() | NumberInput():
                return NumberType(rows, origins=origins)

    def _text_type(self, name: str, spec: TextInput, rows: RowSpace) -> TextType:
        fields: Mapping[str, ValueType] = {}
        if spec.many:
            rows, record = RowSpace(name, owner=spec.source), rows
            fields = derive.many_fields(name, rows, record)
        elif spec.table is not None:
            rows = RowSpace(name, owner=f"lines of {name}")
            fields = derive.table_fields(name, rows)
        return TextType(
            rows,
            {name: Flow.EACH},
            frozenset({name}),
            tokenizer=spec.tokenizer,
            length=spec.max_length,
            vocab_size=self._vocab_size(spec.tokenizer),
            root=name,
            fields=fields,
            padding="" if spec.pad == "frame" else f"`{name}`",
        )

    def _vocab_size(self, tokenizer: str) -> int | None:
        sizing = self.sizings.get(tokenizer)
        size = sizing.described.get("vocab_size") if sizing else None
        return size if isinstance(size, int) else None

    # --- components and functions

    def call(
        self,
        label: str,
        callee: Callee,
        given: Sequence[Given],
        world: str | None,
        chain: tuple[str, ...],
    ) -> Ref | None:
        """The call of a component or a function; None where its arguments do not fit (noted)."""
        sizing = None
        if callee.role == "component":
            sizing = self.sizings.get(callee.name)
            if sizing is None:
                return None
            kind = sizing.declared.kind
            if kind.category == "tokenizer":
                self.problems.add(f"`{callee.name}` is a tokenizer: inputs name it, nothing calls it", callee.span)
                return None
        else:
            function = self.names.function(callee.name)
            assert function is not None, "a callee's function exists"
            kind = self.functions.setdefault(callee.name, function)
        label = self._unique(label)
        bound = self.bind(label, callee.name, kind, given, sizing, callee.span)
        if bound is None or (sizing is not None and sizing.unknown()):
            return None
        if kind.traits.state == "kept" and not self._first_of(callee):
            return None
        if kind.traits.cuts and sizing is not None and not self._hides(sizing, bound, callee.span):
            return None
        result = self._result(callee.name, kind, sizing, bound, callee.span)
        if result is None:
            return None
        if kind.traits.cuts:
            roots = frozenset(
                v.root for argument in bound for v in argument.values() if isinstance(v, TextType | ImageType)
            )
            result = derive.masked(result, label, roots)
        if kind.traits.state == "kept":
            result = derive.queued(result, callee.name)
        args = tuple((argument.key, argument.given.arg) for argument in bound)
        if callee.role == "function":
            world = self.weightless_world((arg for _, arg in args), world)
        role: Role = "component" if callee.role == "component" else "function"
        return self.add(label, role, callee.name, args, complete(result, bound), callee.span, world, chain)

    def bind(
        self, label: str, target: str, kind: Kind, given: Sequence[Given], sizing: Sizing | None, span: Span
    ) -> list[Bound] | None:
        """Arguments at their ports, of the kinds that these take, with dimensions that agree, or None (noted)."""
        bound = binding.place(target, kind, given, span, self.problems)
        if bound is None or not binding.accept(target, bound, self.problems):
            return None
        if not self._tokens_exist(bound):
            return None
        if kind.category != "function" and not check_mirrors(
            bound, self.inputs, self.problems
        ):  # a sum has one direction
            return None
        facts = self.dimensions.agree(target, kind, bound, sizing)
        if sizing is not None:
            for name, fact in facts or ():
                sizing.suppose(name, fact)
                sizing.facts.append((name, fact._replace(call=label)))
        return None if facts is None else bound

    def _hides(self, masker: Sizing, bound: Sequence[Bound], span: Span) -> bool:
        """Tell whether the tokenizers of the texts that a masker hides words of have what it needs."""
        before = len(self.problems)
        for text in (value for argument in bound for value in argument.values() if isinstance(value, TextType)):
            tokenizer = self.sizings.get(text.tokenizer)
            described = tokenizer.described if tokenizer is not None else {}
            what = f"`{masker.declared.name}` hides words of `{text.root}`, and its tokenizer `{text.tokenizer}`"
            spec = self.inputs.get(text.root)
            if isinstance(spec, TextInput) and not spec.end:
                described = {**described, "end": False}
            for need in masker.declared.kind.needs(masker.config) if masker.declared.kind.needs else ():
                if need.denied_by(described):
                    hint = need.hint.format(masker=masker.declared.name, tokenizer=text.tokenizer)
                    self.problems.add(f"{what}{need.lacking}", span, hint)
        return len(self.problems) == before

    def _first_of(self, callee: Callee) -> bool:
        """Tell whether this is the one call of a component that keeps a state."""
        first = self._kept.setdefault(callee.name, callee.span)
        if first == callee.span:
            return True
        message = f"`{callee.name}` keeps a state, and has one call"
        self.problems.add(message, callee.span, related=[("it is called here", first)])
        return False

    def _tokens_exist(self, bound: Sequence[Bound]) -> bool:
        """Tell whether the tokens that ports take are those of the text's tokenizer."""
        texts = [v for argument in bound for v in argument.values() if isinstance(v, TextType)]
        before = len(self.problems)
        for argument in bound:
            if argument.port.token and isinstance(argument.given.arg, Constant) and texts:
                self._token(str(argument.given.arg.value), texts[0].tokenizer, argument.given.span)
        return len(self.problems) == before

    def _token(self, token: str, tokenizer: str, span: Span) -> None:
        sizing = self.sizings.get(tokenizer)
        known = sizing.described.get("tokens") if sizing else None
        if known is not None and token not in known and tokenizer not in self.names.missing:
            hint = f"`components.{tokenizer}.tokens: [{', '.join([*sizing_tokens(sizing), repr(token)])}]` adds it"
            self.problems.add(
                f"tokenizer `{tokenizer}` has no token `{token}`", span, *did_you_mean(token, known), hint
            )

    def _result(
        self, target: str, kind: Kind, sizing: Sizing | None, bound: Sequence[Bound], span: Span
    ) -> ValueType | None:
        try:
            return kind.output(sizing.config if sizing else None, binding.as_ports(bound))
        except UserError as error:
            lost = (
                sizing is not None and target in self.names.missing
            )  # settings that were not read may be what it lacks
            for problem in () if lost else error.problems:
                place = problem.span or _literal_named(bound, problem.message) or span
                self.problems.add(f"`{target}`: {problem.message}", place, *problem.hints)
            return None


def _literal_named(bound: Sequence[Bound], message: str) -> Span | None:
    """Find the literal that a message names: its value between backticks, or as it is written."""
    for argument in bound:
        value = argument.given.arg.value if isinstance(argument.given.arg, Constant) else None
        written = f'"{value}"' if isinstance(value, str) else value
        if f"`{argument.key}={written}`" in message or (isinstance(value, str) and f"`{value}`" in message):
            return argument.given.span
    return None


def _class_count(spec: LabelInput) -> int | None:
    """How many classes a label has; None where nothing says it, or its file is not here."""
    if isinstance(spec.classes, str):
        return count_lines(spec.classes)
    return len(spec.classes) if spec.classes else spec.count


def sizing_tokens(sizing: Sizing | None) -> list[str]:
    """The tokens that a tokenizer's settings add already, as they would be written."""
    return [repr(token) for token in getattr(sizing.config, "tokens", ())] if sizing else []


def complete(result: ValueType, bound: Sequence[Bound]) -> ValueType:
    """Fill in what follows from the arguments for every kind: origins, moved rows, the sides of a similarity."""
    values = [value for argument in bound for value in argument.values()]
    origins = frozenset[str]().union(*(value.origins for value in values))
    moved = frozenset[str]().union(*(value.moved for value in values))
    result = _stand_on(result, origins, moved)
    hidden = {covered: value.root for value in values if isinstance(value, MaskType) for covered in value.covers}
    if hidden:
        result = derive.renamed(result, lambda root: hidden.get(root, root))
    changes: dict[str, Any] = {}
    if isinstance(result, SimilarityType) and not any(result.sides) and len(values) > 1:
        changes["sides"] = (values[0].origins, values[1].origins)
    if isinstance(result, SequenceType) and result.parts:
        changes["reads"] = merge_reads(*(part.reads for part in result.parts))
    return dataclasses.replace(result, **changes) if changes else result


def _stand_on(result: ValueType, origins: frozenset[str], moved: frozenset[str]) -> ValueType:
    if isinstance(result, RecordType):
        fields = {
            name: inner if inner.origins else _stand_on(inner, origins, moved) for name, inner in result.fields.items()
        }
        return dataclasses.replace(result, origins=origins, moved=moved, fields=fields)
    if isinstance(result, IndexType | ScalarType):
        moved = frozenset()
    return dataclasses.replace(result, origins=origins, moved=moved)
