"""Outputs: values, generated and ranked texts, relevance; what each may be fed instead of inputs is derived."""

from __future__ import annotations

from dataclasses import dataclass

from compose_vlp.blueprint.inputs import TextInput
from compose_vlp.blueprint.nodes import Entry, Mapping, Scalar
from compose_vlp.blueprint.sections import OUTPUTS, Generate, Rank, Relevance
from compose_vlp.blueprint.typed import read_model
from compose_vlp.errors import Span, did_you_mean
from compose_vlp.files import count_lines
from compose_vlp.graph.checking.flow import leaking_path
from compose_vlp.graph.checking.losses import is_short
from compose_vlp.graph.checking.writing import check_writing
from compose_vlp.graph.expanding.substitute import Substitution
from compose_vlp.graph.graph import OutputEntry, fragment, needed_calls
from compose_vlp.graph.language.expressions import unparse
from compose_vlp.graph.language.names import OUTPUT
from compose_vlp.graph.plan import Plan, Ref, refs_in
from compose_vlp.graph.problems import Problems
from compose_vlp.graph.types import Flow, LogitsType, SequenceType, SimilarityType, TextType, ValueType


@dataclass
class Outputs:
    """Reads the outputs of one blueprint, after its graph."""

    substitution: Substitution
    problems: Problems

    def entry(self, entry: Entry) -> OutputEntry | None:
        """An output; None where there is a mistake in it (noted)."""
        before = len(self.problems)
        output = self._expression(entry) if isinstance(entry.value, Scalar) else self._form(entry)
        if output is not None:
            self._no_choice(output)
        return output if len(self.problems) == before else None

    def _expression(self, entry: Entry) -> OutputEntry | None:
        assert isinstance(entry.value, Scalar)
        name = f"{OUTPUT}{entry.name}"
        expression = self.substitution.names.expression(name)
        if expression is None:
            return None
        value = self.substitution.expression(expression, name)
        if value is None:
            return None
        if not isinstance(value, Ref):
            self.problems.add(f"output `{entry.name}` is one value", entry.value.span)
            return None
        return OutputEntry(entry.name, "value", value, entry.key.span)

    def _form(self, entry: Entry) -> OutputEntry | None:
        mapping = entry.value
        forms = [form for form in OUTPUTS if isinstance(mapping, Mapping) and form in mapping]
        if not isinstance(mapping, Mapping) or len(forms) != 1:
            hint = "an output is an expression, or one of " + ", ".join(f"`{{{form}: ...}}`" for form in OUTPUTS)
            near = did_you_mean(mapping.names[0], OUTPUTS) if isinstance(mapping, Mapping) and mapping.names else ()
            self.problems.add(f"`{entry.name}` is no form of output", entry.value.span, *near, hint)
            return None
        settings, problems = read_model(mapping, OUTPUTS[forms[0]], self.substitution.names.document, entry.key.span)
        self.problems.extend(problems)
        if settings is None:
            return None
        ref = self._ref(mapping, forms[0])
        if isinstance(settings, Relevance):
            to = self._ref(mapping, "to")
            if not self._through(mapping, settings.through) or ref is None or to is None:
                return None
            self._relevance(mapping, settings.through, settings.layer, ref, to)
            return OutputEntry(entry.name, "relevance", ref, entry.key.span, to=to, settings=settings)
        over = self._input(mapping, "over")
        if ref is None or over is None:
            return None
        assert isinstance(settings, Generate | Rank)
        return self._words(entry, mapping, settings, ref, over)

    def _words(
        self, entry: Entry, mapping: Mapping, settings: Generate | Rank, ref: Ref, over: str
    ) -> OutputEntry | None:
        kind = self.substitution.calls.type_of(ref)
        form = "rank" if isinstance(settings, Rank) else "generate"
        span = _span(mapping, form)
        if not isinstance(kind, LogitsType) or kind.text is None:
            what = kind.kind if not isinstance(kind, LogitsType) else "of no text"
            self.problems.add(f"`{form}` takes Logits over the positions of a text, and this is {what}", span)
            return None
        if kind.text.root != over:
            self.problems.add(f"these logits stand on `{kind.text.root}`, not on `{over}`", _span(mapping, "over"))
            return None
        if kind.reads.get(over, Flow.EACH) > Flow.PAST:
            self._sees_later(ref, over, span)
            return None
        if isinstance(settings, Rank):
            if not self._among(mapping, settings, over):
                return None
            return OutputEntry(entry.name, "rank", ref, entry.key.span, over, settings.among, settings=settings)
        if not check_writing(self.substitution, mapping, settings, ref, over):
            return None
        return OutputEntry(entry.name, "generate", ref, entry.key.span, over, settings=settings)

    def _sees_later(self, ref: Ref, over: str, span: Span) -> None:
        first = leaking_path(self.substitution.calls, ref, over, Flow.PAST)[0]
        if not self.problems.is_first(f"{over} leaks in {first.id}"):
            return
        message = f"`{first.target}` lets positions of `{over}` see later words, which generation does not know yet"
        related = [(f"`{first.target}` is called here", first.span)] if first.span else []
        hint = "a causal decoder is needed (or `attention: prefix`, where the component has it)"
        self.problems.add(message, span, hint, related=related)

    def _among(self, mapping: Mapping, settings: Rank, over: str) -> bool:
        inputs = self.substitution.calls.inputs
        spec, mine = inputs.get(settings.among), inputs.get(over)
        if self._input(mapping, "among") is None or spec is None:
            return False
        if not isinstance(spec, TextInput) or spec.table is None:
            hint = f"`{settings.among}: {{type: text, like: {over}, table: answers.txt}}`"
            self.problems.add(f"`{settings.among}` has no table to choose from", _span(mapping, "among"), hint)
            return False
        lines = count_lines(spec.table) if settings.top is not None else None
        if lines is not None and settings.top is not None and settings.top > lines:
            message = f"`{settings.among}` has {lines} texts, of which `top: {settings.top}` takes more than there are"
            self.problems.add(message, _span(mapping, "top"), "without `top` all are judged")
        if isinstance(mine, TextInput) and mine.max_length < spec.max_length:
            message = (
                f"max_length {spec.max_length} of `{settings.among}` against max_length {mine.max_length} of `{over}`"
            )
            self.problems.add(message, _span(mapping, "among"), "positions are made for so many tokens")
            return False
        if isinstance(mine, TextInput) and mine.tokenizer != spec.tokenizer:
            message = f"`{settings.among}` is of tokenizer `{spec.tokenizer}`, and `{over}` of `{mine.tokenizer}`"
            self.problems.add(message, _span(mapping, "among"))
            return False
        return True

    def _through(self, mapping: Mapping, through: str) -> bool:
        """Check whether `through` is a component (noted, if not)."""
        names = self.substitution.names
        if names.section(through) == "components":
            return names.component(through) is not None
        near = did_you_mean(through, names.document.components.names)
        self.problems.add(f"no component is called `{through}`", _span(mapping, "through"), *near)
        return False

    def _relevance(self, mapping: Mapping, through: str, layer: int, ref: Ref, to: Ref) -> None:
        """The component must look at the value by cross-attention, on the way to the score."""
        calls = self.substitution.calls
        if not isinstance(calls.type_of(to), SequenceType):
            self.problems.add("`to` takes a Sequence: its positions are weighed", _span(mapping, "to"))
            return
        score = calls.type_of(ref)
        of_positions = isinstance(score, LogitsType) and score.over_positions
        if of_positions or not isinstance(score, LogitsType | SimilarityType):
            what = f"{score.kind} of every position" if of_positions else score.kind
            message = f"`relevance` takes a score of each row, and this is {what}"
            self.problems.add(message, _span(mapping, "relevance"), "Logits over classes, or a Similarity")
            return
        looker = calls.sizings.get(through)
        counts = looker.declared.kind.traits.layers if looker is not None else ""
        depth = getattr(looker.config, counts) if looker is not None and counts else None
        if isinstance(depth, int) and layer >= depth:
            last = f"`{through}` has {depth} layers, counted from 0" if depth else f"`{through}` has no layers"
            self.problems.add(f"no layer {layer}: {last}", _span(mapping, "layer"))
            return
        way = needed_calls(calls.done, [ref])
        lookers = [call.target for call in way if call.role == "component" and to in refs_in(call.arg("context") or ())]
        if through not in lookers:
            what = str(to)
            others = ", ".join(f"`{component}`" for component in dict.fromkeys(lookers))
            hint = f"{others} looks at it" if lookers else f"nothing looks at `{what}` by cross-attention on the way"
            message = f"`{through}` does not look at `{what}` as a context on the way to `{ref}`"
            self.problems.add(message, _span(mapping, "through"), hint)

    def _input(self, mapping: Mapping, field: str) -> str | None:
        """A field that names an input."""
        value = mapping.get(field)
        assert isinstance(value, Scalar), "a schema's text"
        names = self.substitution.names
        if names.section(value.text) == "inputs":
            return value.text if value.text in self.substitution.calls.inputs else None
        if names.section(value.text) is None and value.text in names.missing:
            return None
        near = did_you_mean(value.text, names.document.inputs.names)
        self.problems.add(f"`{field}` names an input, and `{value.text}` is none", value.span, *near)
        return None

    def _ref(self, mapping: Mapping, field: str) -> Ref | None:
        """A field that holds a name or a field of one."""
        node = mapping.get(field)
        if not isinstance(node, Scalar):
            return None
        expression = self.substitution.names.parse(node)
        if expression is None:
            return None
        if not is_short(expression):
            hint = f"give it a name in `graph`: `{field}d: {unparse(expression)}`"
            self.problems.add("a name or a field stands here", node.span, hint)
            return None
        value = self.substitution.expression(expression, f"outputs.{field}")
        if value is not None and not isinstance(value, Ref):
            self.problems.add("one value stands here", node.span)
            return None
        return value

    def _no_choice(self, output: OutputEntry) -> None:
        """A task would answer masked questions."""
        calls = self.substitution.calls
        for call in needed_calls(calls.done, [output.ref]):
            sizing = calls.sizings.get(call.target) if call.role == "component" else None
            if sizing is not None and sizing.declared.kind.traits.draws == "choice":
                message = f"output `{output.name}` reaches `{call.id}`, which `{call.target}` draws at random"
                related = [("it is drawn here", call.span)] if call.span else []
                self.problems.add(message, output.span, "an output reads what nothing is hidden from", related=related)
                return


def stored(plan: Plan, output: OutputEntry) -> dict[str, tuple[Ref, ...]]:
    """The frontier of values that read one input only: what re-ranking may keep, by input."""
    calls = {call.id: call for call in fragment(plan, [output.ref])}
    alone = {
        name
        for name, call in calls.items()
        if len(call.type.origins) == 1 and call.role != "input" and _is_kept(call.type)
    }
    refs_by_origin: dict[str, dict[Ref, None]] = {}
    for call in calls.values():
        if call.id in alone:
            continue
        for ref in call.refs():
            if ref.call in alone:
                (origin,) = calls[ref.call].type.origins
                refs_by_origin.setdefault(origin, {})[ref] = None
    if output.ref.call in alone:
        (origin,) = calls[output.ref.call].type.origins
        refs_by_origin.setdefault(origin, {})[output.ref] = None
    return {origin: tuple(refs) for origin, refs in refs_by_origin.items()}


def _is_kept(value: ValueType) -> bool:
    return not isinstance(value, TextType)


def _span(mapping: Mapping, field: str) -> Span:
    node = mapping.get(field)
    return node.span if node is not None else mapping.span
