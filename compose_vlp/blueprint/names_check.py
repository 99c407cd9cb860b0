"""One namespace, `previous` where something is replaced, and references by plain name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from compose_vlp.blueprint.document import NAME, NAMESPACE, SECTIONS, is_expression
from compose_vlp.blueprint.names import names_read
from compose_vlp.blueprint.nodes import Entry, Mapping, Node, Scalar
from compose_vlp.blueprint.reads import Key, Reads, Unresolved
from compose_vlp.blueprint.state import State, live_keys
from compose_vlp.blueprint.trees import find, scalars
from compose_vlp.errors import Problem, Span, did_you_mean
from compose_vlp.readable import with_article


def judge_names(state: State, own: Mapping) -> None:
    """Report names that a source takes although another section has them, and `previous` where nothing is replaced."""
    clashes: dict[str, Problem] = {}
    for section, entry in _entries(own):
        clash = _clash(state.root, section, entry) if section in NAMESPACE else None
        if clash is not None:
            clashes.setdefault(entry.name, clash)
        misplaced = list(_previous(state, section, entry))
        state.problems += misplaced
        state.faulty |= {(section, entry.name)} if clash or misplaced else set()
    for key, problem in _alike(state.root, own):
        clashes.setdefault(key[1], problem)
        state.faulty.add(key)
    state.problems += clashes.values()


def _entries(own: Mapping) -> Iterator[tuple[str, Entry]]:
    for section in own:
        if section.name in SECTIONS and SECTIONS[section.name].form == "entries" and isinstance(section.value, Mapping):
            for entry in section.value:
                yield section.name, entry


def _clash(root: Mapping, section: str, entry: Entry) -> Problem | None:
    for other in NAMESPACE:
        first = find(root, (other, entry.name))
        if other == section or first is None:
            continue
        (_, earlier), (later_section, later) = sorted(
            [(other, first.key.span), (section, entry.key.span)], key=lambda place: _age(place[1], entry.key.span)
        )
        named = SECTIONS[other if later_section == section else section].named
        message = f"`{entry.name}` is the name of {with_article(named)} already: all names are in one namespace"
        return Problem(message, later, related=(("first", earlier),))
    return None


def _alike(root: Mapping, own: Mapping) -> Iterator[tuple[Key, Problem]]:
    """Names that differ only in how their letters are written (`fix` and `\ufb01x`): readers take both for one."""
    written = {(section, entry.name) for section, entry in _entries(own)}
    others = ((name,) for name, section in SECTIONS.items() if section.form == "entries" and name not in NAMESPACE)
    for group in (NAMESPACE, *others):
        seen: dict[str, tuple[str, Entry]] = {}
        sections = [(name, root.get(name)) for name in group]
        for section, entry in ((n, child) for n, value in sections if isinstance(value, Mapping) for child in value):
            other_section, other = seen.setdefault(unicodedata.normalize("NFKC", entry.name), (section, entry))
            keys = {(section, entry.name), (other_section, other.name)}
            if other.name == entry.name or not keys & written:
                continue
            own_span = (entry if (section, entry.name) in written else other).key.span
            earlier, later = sorted((other, entry), key=lambda candidate, own=own_span: _age(candidate.key.span, own))  # type: ignore[misc]
            message = f"`{later.name}` and `{earlier.name}` are the same letters, written in two ways"
            hint = "choose a name that can be told apart"
            problem = Problem(message, later.key.span, (hint,), related=(("the other", earlier.key.span),))
            yield (section if later is entry else other_section, later.name), problem


def _age(span: Span, own: Span) -> tuple[bool, int]:
    """Order of writing: what another file wrote comes first, then by line."""
    return span.file == own.file, span.line


def _previous(state: State, section: str, entry: Entry) -> Iterator[Problem]:
    for scalar in scalars(entry.value):
        for read in names_read(scalar.text) if section in ("graph", "outputs", "losses") else ():
            if read.name != "previous" or read.is_param:
                continue
            span = scalar.place(read.start, read.end)
            if not is_expression((section, entry.name), entry.value):
                hint = "give the expression a name in `graph`"
                yield Problem("`previous` stands in graph entries and in outputs that are expressions", span, (hint,))
                return
            merged = find(state.root, (section, entry.name))
            if merged is None or merged.earlier is None or not isinstance(merged.earlier.value, Scalar):
                yield _nothing_replaced(state, section, entry.name, span)
                return


def _nothing_replaced(state: State, section: str, name: str, span: Span) -> Problem:
    gone = state.gone(name, [section])
    entries = state.root.get(section)
    known = (
        [entry.name for entry in entries if entry.earlier or entry.key.span.file != span.file]
        if isinstance(entries, Mapping)
        else []
    )
    hints = (str(gone),) if gone else did_you_mean(name, known)
    message = f"`previous` replaces nothing: there is no earlier `{section}.{name}`"
    return Problem(message, span, hints)


def judge_references(state: State) -> None:
    """Report the names outside expressions that nothing answers to: `$param`, `like`, `tokenizer`, a stage's data."""
    reads = Reads(state.root)
    live, _ = live_keys(reads, state)
    _, lost = reads.live(sorted(live))
    for unresolved in lost:
        if (
            unresolved.reference.section in ("params", "inputs", "components")
            and unresolved.reference.name not in state.missing
        ):
            state.problems.append(_unknown(state, reads, unresolved))
            state.missing |= {unresolved.reference.name} if unresolved.reference.section != "params" else set()
    state.problems += _unknown_data(reads, state)


def _unknown(state: State, reads: Reads, unresolved: Unresolved) -> Problem:
    section, name = unresolved.reference.section, unresolved.reference.name
    sign = "$" if section == "params" else ""
    known = reads.sections[section].names
    gone = state.gone(name, [section])
    hints = (str(gone),) if gone else did_you_mean(name, known)
    if not hints and name in reads.names:
        hints = (f"`{name}` is {with_article(SECTIONS[reads.names[name]].named)}",)
    if not hints and unresolved.reader[0] == "inputs" and section == "components":
        hints = (f"a tokenizer is a component: `components: {{{name}: {{use: wordpiece, ...}}}}`",)
    if section == "components" and state.fields_of is not None and state.fields_of(name) is not None:
        hints = (f"`{name}` is a kind: a component is a name of yours for it, `words: {{use: {name}, ...}}`",)
    if section == "params" and (name.isupper() or not NAME.match(name)):
        hints = (
            *hints,
            "variables of the shell are not read here; a path may begin with `~/`, the home folder",
        )
    message = f"no {SECTIONS[section].named} is called `{sign}{name}`"
    return Problem(message, unresolved.reference.span, hints)


def _unknown_data(reads: Reads, state: State) -> Iterator[Problem]:
    known = reads.sections["data"].names
    for entry in reads.sections["stages"]:
        for scalar in _data_of(entry):
            silent = scalar.is_broken or scalar.text.startswith("$") or scalar.text in state.missing
            if scalar.text not in known and not silent:
                yield _no_source(scalar, known)
    for entry in reads.sections["data"]:
        mix: Node | None = entry.value.get("mix") if isinstance(entry.value, Mapping) else None
        for part in mix if isinstance(mix, Mapping) else ():
            if part.name not in known and part.name not in state.missing:
                yield _no_source(part.key, known)


def _data_of(stage: Entry) -> Iterator[Scalar]:
    """The sources that a stage is trained and evaluated on."""
    evaluate = stage.value.get("evaluate") if isinstance(stage.value, Mapping) else None
    for part in (stage.value, evaluate):
        data = part.get("data") if isinstance(part, Mapping) else None
        yield from scalars(data) if data is not None else ()


def _no_source(word: Scalar, known: tuple[str, ...]) -> Problem:
    hints = did_you_mean(word.text, known) or (f"+data.{word.text}={{use: ..., ...}} adds one",)
    return Problem(f"no data source is called `{word.text}`", word.span, hints)
