"""Checking a blueprint: from the merged document to a typed plan, or to all of its mistakes."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from compose_vlp.blueprint.document import SECTIONS, Document
from compose_vlp.blueprint.inputs import Input, LabelInput
from compose_vlp.blueprint.schedules import Schedule
from compose_vlp.errors import BlueprintError, Problem
from compose_vlp.graph.checking.changes import at_their_changes
from compose_vlp.graph.checking.clashes import check_settings
from compose_vlp.graph.checking.column_ids import carry_ids
from compose_vlp.graph.checking.consequences import without_consequences
from compose_vlp.graph.checking.losses import COMMON, Losses
from compose_vlp.graph.checking.outputs import Outputs, stored
from compose_vlp.graph.checking.schedules import check_schedules
from compose_vlp.graph.checking.schedules import notes as too_short_stages
from compose_vlp.graph.checking.trainings import check_training, drifting, untrained
from compose_vlp.graph.checking.words_shared import check_vocabularies
from compose_vlp.graph.expanding.calls import Calls
from compose_vlp.graph.expanding.substitute import Substitution
from compose_vlp.graph.expanding.variants import stage_variant
from compose_vlp.graph.graph import CheckedBlueprint, LossEntry, OutputEntry, ResolvedComponent, fragment
from compose_vlp.graph.kinds import Kind
from compose_vlp.graph.language import sections
from compose_vlp.graph.language.adapters import read_adapters
from compose_vlp.graph.language.data import check_data
from compose_vlp.graph.language.inputs import judge_views, texts_without_tokenizer
from compose_vlp.graph.language.names import Declared, Kinds, Names
from compose_vlp.graph.language.reads import Reads
from compose_vlp.graph.language.settings import read_input, read_settings
from compose_vlp.graph.language.sharing import EVERYTHING, owner_of_all, read_share, sharing_order
from compose_vlp.graph.language.sizes import Sizing
from compose_vlp.graph.plan import Call, Plan, Ref
from compose_vlp.graph.problems import Problems

MAX_WALKS = 6
"""Walks over the graph until nothing new is learnt about sizes; a chain of components that each wait for the next one
in the wrong order needs one walk a link."""


MAX_CHAIN = 500
"""Graph entries that stand on each other; no person writes as many, and they are followed recursively."""


def check(document: Document, kinds: Kinds, problems: Iterable[Problem] = ()) -> CheckedBlueprint:
    """The typed plan of a blueprint.

    `problems` are mistakes that were found before (while merging); they are raised together with those found here.

    Raises:
        BlueprintError: all mistakes, each once, in the order of the files and their lines.
    """
    problems = tuple(problems)
    with _deep_recursion():
        checker = Checker(document, kinds, problems)
        name, depth = checker.reads.deepest()
        if depth > MAX_CHAIN:
            message = f"`{name}` stands on a chain of {depth} graph entries; {MAX_CHAIN} are the most"
            raise BlueprintError([Problem(message, document.names[name][1].key.span)], document.lines())
        checked = checker.run()
        if not checker.problems.found:
            checked = checker.with_variants(checked)
    if checker.problems.found:
        shown = at_their_changes(without_consequences(checker.problems.found, document), document, problems)
        raise BlueprintError(in_order(shown, document), document.lines())
    return checked


def in_order(problems: Iterable[Problem], document: Document) -> list[Problem]:
    """Problems as one reads: file by file in the order of merging, line by line."""
    files = list(document.sources)

    def place(problem: Problem) -> tuple[int, int, int]:
        span = problem.span
        if span is None:
            return (-1, 0, 0)
        return (files.index(span.file) if span.file in files else len(files), span.line, span.column)

    return sorted(problems, key=place)


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """Graph entries are followed recursively, some ten frames a link; Python counts frames, not memory."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 20_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


@dataclass
class Walk:
    """The result of one walk over the graph."""

    substitution: Substitution
    losses: dict[str, LossEntry] = field(default_factory=dict)
    outputs: dict[str, OutputEntry] = field(default_factory=dict)
    values: dict[str, Ref] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)


class Checker:
    """One check of one document."""

    def __init__(self, document: Document, kinds: Kinds, before: Iterable[Problem] = ()) -> None:
        self.document = document
        self.kinds = kinds
        self.problems = Problems()
        self.problems.extend(before)
        # After a mistake, merging may have taken what is read after all for unread.
        pruned = [removed.name for removed in document.removed if removed.by is None] if self.problems.found else []
        self.names = Names(document, kinds, self.problems, document.missing | frozenset(pruned))
        self.reads = Reads(self.names)
        self.inputs: dict[str, Input] = {}
        self.shares: dict[str, dict[str, str]] = {}
        self.sizings: dict[str, Sizing] = {}
        self.loss_sizings: dict[str, Sizing] = {}
        self.notes: list[str] = []

    def run(self) -> CheckedBlueprint:
        """The checked blueprint, as far as it is sound; whatever is wrong is in `problems`."""
        self._declarations()
        read = sections.read(self.names)
        check_data(self.names)
        for name in self.reads.order():
            self.reads.of(name)
        walk = self._walk_until_settled()
        self.problems.extend(walk.problems.found)
        calls = walk.substitution.calls.done
        if not self.problems.found:
            check_vocabularies(calls, self.sizings, self.shares, self.problems)
        check_settings(self.names, [*self.sizings.values(), *self.loss_sizings.values()], self._owners())
        checked = self._checked(walk, read)
        check_training(checked, self.problems)
        check_schedules(checked, self.problems)
        return checked

    def with_variants(self, checked: CheckedBlueprint) -> CheckedBlueprint:
        """The same with the blueprints of the stages that set something."""
        variants = {
            stage: variant
            for stage in checked.stages
            if (variant := stage_variant(checked, stage, self.kinds, self.problems, self._again)) is not None
        }
        return dataclasses.replace(
            checked,
            variants=variants,
            notes=(*checked.notes, *untrained(checked), *drifting(checked), *too_short_stages(checked)),
        )

    def _again(self, document: Document, problems: Problems) -> CheckedBlueprint:
        checker = Checker(document, self.kinds)
        checked = checker.run()
        problems.extend(checker.problems.found)
        return checked

    # --- what is declared

    def _declarations(self) -> None:
        functions = frozenset(self.kinds.names("function"))
        for name, (section, entry) in self.document.names.items():
            if name in functions:
                hint = f"call this {SECTIONS[section].named} otherwise"
                self.problems.add(f"`{name}` is the name of a function", entry.key.span, hint)
        for entry in self.document.inputs:
            spec = read_input(self.names, entry)
            if spec is not None:
                self.inputs[entry.name] = spec
        declared = {name: self.names.component(name) for name in self.document.components.names}
        sound = {name: component for name, component in declared.items() if component is not None}
        self.shares = {name: dict(read_share(self.names, component)) for name, component in sound.items()}
        for name in sharing_order(self.names, self.shares):
            if name not in sound:
                continue
            sizing = read_settings(self.names, sound[name], ("use", "share"), self._owned(name))
            if sizing is not None:
                self.sizings[name] = sizing
        for name in self.document.losses.names:
            loss = self.names.declared("losses", name, ("loss",))
            skip = COMMON | loss.kind.ports.keys() if loss else ()
            sizing = read_settings(self.names, loss, skip) if loss else None
            if sizing is not None:
                self.loss_sizings[name] = sizing
        judge_views(self.names, self.inputs)
        for name in texts_without_tokenizer(self.names, self.inputs):
            del self.inputs[name]

    def _owners(self) -> frozenset[str]:
        """The components from which others share; none after a mistake, which may have kept them from being called."""
        if self.problems.found:
            return frozenset()
        return frozenset(source.partition(".")[0] for share in self.shares.values() for source in share.values())

    def _owned(self, name: str) -> list[Any]:
        """The written fields of the component with which this one shares everything."""
        owner = owner_of_all(self.shares[name])
        if owner is None or owner not in self.sizings:
            return []
        shared = [entry for entry in self.sizings[owner].declared.mapping if entry.name not in ("use", "share")]
        return [*self._owned(owner), *shared]

    # --- walking

    def _walk_until_settled(self) -> Walk:
        """Walk until a walk was made with the sizes that its own calls say."""
        sizings = [*self.sizings.values(), *self.loss_sizings.values()]
        for sizing in sizings:
            sizing.describe()
        for _ in range(MAX_WALKS):
            before = [dict(sizing.inferred) for sizing in sizings]
            walk = self._walk()
            self._settle(walk)
            if before == [dict(sizing.inferred) for sizing in sizings]:
                break
        return walk

    def _settle(self, walk: Walk) -> None:
        calls = walk.substitution.calls
        roots = [Ref(loss.call) for loss in walk.losses.values()] + [output.ref for output in walk.outputs.values()]
        plan = tuple(calls.done.values())
        asked = len(self.document.losses.names) + len(self.document.outputs.names)
        unsure = len(walk.losses) + len(walk.outputs) < asked
        live = {call.id for call in fragment(Plan(plan), roots)}
        sizings = {**{f"losses.{name}": sizing for name, sizing in self.loss_sizings.items()}, **self.sizings}
        calls.dimensions.settle(plan, live, sizings, unsure=unsure)
        for name, sizing in self.sizings.items():
            owner = self.sizings.get(owner_of_all(self.shares.get(name, {})) or "")
            for setting, size in owner.inferred.items() if owner is not None else ():
                sizing.inherit(setting, size)

    def _walk(self) -> Walk:
        problems = Problems()
        for sizing in (*self.sizings.values(), *self.loss_sizings.values()):
            sizing.begin()
        calls = Calls(self.names, self.inputs, self.sizings, problems)
        walk = Walk(Substitution(self.names, self.reads, calls, problems), problems=problems)
        for name in self.reads.order():
            value = walk.substitution.entry(name)
            if isinstance(value, Ref):
                walk.values[name] = value
        self._losses(walk)
        outputs = Outputs(walk.substitution, problems)
        for entry in self.document.outputs:
            output = outputs.entry(entry)
            if output is not None:
                walk.outputs[entry.name] = output
        return walk

    def _losses(self, walk: Walk) -> None:
        losses = Losses(walk.substitution, self.loss_sizings, walk.problems)
        for name in self.document.losses.names:
            declared = self.names.declared("losses", name, ("loss",))
            loss = losses.entry(declared) if declared else None
            if loss is not None:
                walk.losses[name] = loss
        walk.schedules = losses.schedules

    # --- the result

    def _checked(self, walk: Walk, read: sections.Sections) -> CheckedBlueprint:
        calls = walk.substitution.calls
        roots = {name: Ref(loss.call) for name, loss in walk.losses.items()}
        roots |= {name: output.ref for name, output in walk.outputs.items()}
        plan = carry_ids(Plan(tuple(calls.done.values()), roots), self._kind_of)
        functions = {c.target: self.kinds.get(c.target) for c in plan.calls if c.role == "function"}
        outputs = {name: _with_stored(plan, output) for name, output in walk.outputs.items()}
        components = {
            name: self._resolved(self.sizings[name].declared)
            for name in self.document.components.names
            if name in self.sizings
        }
        return CheckedBlueprint(
            self.document,
            components,
            functions,
            _counted(self.inputs, calls.dimensions.limits),
            {**read.params, **walk.schedules},
            read.teachers,
            plan,
            {name: walk.values[name] for name in self.document.graph.names if name in walk.values},
            walk.losses,
            outputs,
            read.stages,
            read.start,
            read.optimizer,
            read.settings,
            tuple(self.notes),
            adapters=read_adapters(self.names),
        )

    def _kind_of(self, call: Call) -> Kind | None:
        sizing = self.sizings.get(call.target)
        return sizing.declared.kind.with_settings(sizing.config) if sizing else None

    def _resolved(self, declared: Declared) -> ResolvedComponent:
        sizing = self.sizings[declared.name]
        share = self.shares[declared.name]
        if EVERYTHING in share:
            owner = self.names.component(share[EVERYTHING])
            own = [part for part in declared.kind.parts if owner and part not in owner.kind.parts]
            self.notes += [f"{declared.name}: {part} is its own, {share[EVERYTHING]} has none" for part in own]
        inferred = dict(sizing.inferred)
        measures = {setting: sizing.measure(setting) for setting in inferred}
        kind = declared.kind.with_settings(sizing.config)
        return ResolvedComponent(declared.name, kind, sizing.config, share, declared.span, inferred, measures)


def _counted(inputs: Mapping[str, Input], classes: Mapping[str, int]) -> dict[str, Input]:
    """The inputs, with as many classes as the logits have that labels meet which do not say how many they are."""
    return {
        name: spec.model_copy(update={"count": classes[name]})
        if isinstance(spec, LabelInput) and name in classes and spec.classes is None and spec.count is None
        else spec
        for name, spec in inputs.items()
    }


def _with_stored(plan: Plan, output: OutputEntry) -> OutputEntry:
    return dataclasses.replace(output, stored=stored(plan, output))
