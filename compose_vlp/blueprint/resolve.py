"""From names and overrides to one document: read, order, merge, override, prune; all mistakes in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compose_vlp.blueprint.arguments import Override, command_line, read_arguments
from compose_vlp.blueprint.document import Document, as_items
from compose_vlp.blueprint.drop import apply_drop, judge_drops
from compose_vlp.blueprint.locate import LIBRARY
from compose_vlp.blueprint.merge import merge
from compose_vlp.blueprint.names_check import judge_names, judge_references
from compose_vlp.blueprint.nodes import COMMAND_LINE, Entry, Mapping, Scalar, Source
from compose_vlp.blueprint.order import File, Order, order_files
from compose_vlp.blueprint.overrides import apply_overrides
from compose_vlp.blueprint.prune import judge_own, own_keys, prune
from compose_vlp.blueprint.render import in_order
from compose_vlp.blueprint.shrink import judge_lists
from compose_vlp.blueprint.state import FieldsOf, KindNames, State
from compose_vlp.blueprint.trees import put
from compose_vlp.errors import BlueprintError, Problem, Span


@dataclass(frozen=True)
class Resolution:
    """The result of files and overrides: the document, every mistake in them, and what was noticed.

    `sound` is false where a part could not be read or placed, so that looking further would only repeat the problems
    in other words. `notes` tell what went without being a mistake (entries that nothing reads any more).
    """

    document: Document
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    sound: bool = True

    def raise_problems(self) -> None:
        """Raise `BlueprintError` with all the problems, if there is one."""
        if self.problems:
            raise BlueprintError(self.problems, self.document.lines())


def resolve(
    names: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    library: Path = LIBRARY,
    fields_of: FieldsOf | None = None,
    kinds: KindNames | None = None,
) -> Resolution:
    """Merge the blueprints called `names` in their order, lay `overrides` over them, and drop what nothing reads.

    `fields_of` gives the keys that an entry of a kind may have (None for no such kind); without it no field is doubted.
    `kinds` lists all kinds, for messages. Mistakes are collected, never raised.
    """
    source = command_line(names, overrides)
    mentions = [Scalar(line, source.span(number, 1), source=source) for number, line in enumerate(source.lines, 1)]
    order = order_files(mentions[: len(names)], library)
    read = {reading.source.name: reading.source for reading in order.readings}
    sources = {file.label: read[file.label] for file in order.files} | read | {COMMAND_LINE: source}
    state = State(Mapping((), Span(COMMAND_LINE, 1, 1, 2)), fields_of, kinds, problems=list(order.problems))
    sound = not order.broken and all(_merge_file(state, file) for file in order.files)
    if sound:
        _name(state, order, mentions[: len(names)])
        changes, problems = read_arguments(source, len(names) + 1)
        state.problems += problems
        _override(state, changes)
        judge_references(state)
    document = Document(
        state.root,
        tuple(file.label for file in order.files),
        sources,
        tuple(state.removed),
        frozenset(state.missing),
    )
    clear = all(file.clear for file in order.files)
    return Resolution(document, tuple(in_order(state.problems, sources)), tuple(state.notes), sound and clear)


def _merge_file(state: State, file: File) -> bool:
    """Lay one file over what was merged before; false where nothing sensible can follow."""
    state.missing |= file.lost
    drop = as_items(file.root.get("drop")) if file.clear else ()  # what it means may be missing
    patterns = [pattern for pattern in drop if isinstance(pattern, Scalar)]
    if not apply_drop(state, patterns, file.label):
        return False
    own = own_keys(file.root)
    state.root = merge(state.root, file.root)
    judge_names(state, file.root)
    judge_drops(state, file.label)
    if file.whole:
        judge_own(state, own)
        judge_lists(state, file.label)
    prune(state, own, file.label)
    return True


def _override(state: State, changes: Sequence[Override]) -> None:
    before = state.root
    added = apply_overrides(state, changes)
    if state.root is before:
        return
    judge_names(state, _written_by(state.root, COMMAND_LINE))
    judge_drops(state, COMMAND_LINE)
    judge_own(state, added)
    judge_lists(state, COMMAND_LINE)
    prune(state, added, COMMAND_LINE)


def _written_by(root: Mapping, label: str) -> Mapping:
    """The entries of all sections that come from one source."""
    sections = []
    for section in root:
        if isinstance(section.value, Mapping):
            entries = tuple(entry for entry in section.value if entry.value.span.file == label)
            sections.append(Entry(section.key, Mapping(entries, section.value.span)))
    return Mapping(tuple(sections), root.span)


def _name(state: State, order: Order, mentions: Sequence[Scalar]) -> None:
    """Give the document a name where its last file has none: the files' own, as they were asked for."""
    asked = [file for file in order.files if file.mention in [mention.span for mention in mentions]]
    if not asked or (len(asked) == 1 and "name" in state.root):
        return
    text = "+".join(file.stem for file in asked)
    span = asked[-1].mention
    source = Source(COMMAND_LINE, "")
    state.root = put(state.root, ("name",), Entry(Scalar("name", span), Scalar(text, span, source=source)))
