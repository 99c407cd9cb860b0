"""After each file: what nothing reads any more goes, and a file's own entry that nothing reads is a mistake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compose_vlp.blueprint.document import NAMESPACE, SECTIONS, Removed
from compose_vlp.blueprint.nodes import Entry, Mapping
from compose_vlp.blueprint.reads import Key, Reads, Unresolved
from compose_vlp.blueprint.shrink import empty_stages, shrink_lists
from compose_vlp.blueprint.state import State, is_dropped, live_keys
from compose_vlp.blueprint.trees import find
from compose_vlp.errors import SURE, Problem, did_you_mean, nearest


def own_keys(root: Mapping) -> set[Key]:
    """The entries that a file writes and that something must read."""
    sections = ((name, root.get(name)) for name in (*NAMESPACE, "losses"))
    return {(name, entry.name) for name, node in sections if isinstance(node, Mapping) for entry in node}


def judge_own(state: State, own: set[Key]) -> None:
    """Report the entries of a file that nothing reads: a renamed parent entry, a misspelt override, a leftover."""
    reads = Reads(state.root)
    live, lost = live_keys(reads, state)
    state.problems += _unread(state, reads, live, own, lost)


def prune(state: State, own: set[Key], label: str) -> None:
    """Remove the inherited entries that nothing reads, and shrink inherited lists, until nothing changes."""
    gone: dict[str, list[str]] = {}
    changed = True
    while changed:
        reads = Reads(state.root)
        live, lost = live_keys(reads, state)
        unknown = _unknown(state, lost)
        kept = live | own
        unread = [key for key in reads.references if key[1] and key not in kept and not _meant(key[1], unknown)]
        for section, name in unread:
            entry = find(state.root, (section, name))
            assert entry is not None, "references are read off the root"
            state.remove(Removed(section, name, entry.key.span, label))
            gone.setdefault("in no stage" if section == "losses" else "unread", []).append(f"{section}.{name}")
        changed = shrink_lists(state, label) or bool(unread)
    state.notes += [f"{label} leaves {how}, so gone: {', '.join(names)}" for how, names in gone.items()]


def _unread(state: State, reads: Reads, live: set[Key], own: set[Key], lost: list[Unresolved]) -> Iterator[Problem]:
    unknown = _unknown(state, lost)
    for number, (section, name) in enumerate(sorted(own - live - state.faulty)):
        entry = find(state.root, (section, name))
        if entry is None or _meant(name, unknown):
            continue  # the misspelt reader is the mistake, and its message offers this name
        if section == "losses":
            if any(losses.span.file == entry.key.span.file for _, losses in empty_stages(state.root)):
                continue  # the stage without losses is the mistake, and its message offers this one
            hint = f"add it to the `losses` of a stage ({', '.join(reads.sections['stages'].names)}), or drop it"
            yield Problem(f"loss `{name}` is in no stage", entry.key.span, (hint,), unread=True)
        else:
            yield _unread_problem(state, reads, section, entry, near=number < _WITH_NEAR_NAMES)


def _unknown(state: State, lost: Iterable[Unresolved]) -> list[str]:
    """The names in graph entries, and where names are looked up, that nothing answers to: misspelt, for all we know.

    A name that was taken away is not misspelt.
    """
    return [
        unresolved.reference.name
        for unresolved in lost
        if (unresolved.reference.section or unresolved.reader[0] == "graph")
        and not is_dropped(unresolved, state)
        and not (unresolved.reference.called and state.is_function(unresolved.reference.name))
    ]


def _meant(name: str, unknown: Iterable[str]) -> bool:
    return any(name in nearest(word, [name]) for word in unknown)


_WITH_NEAR_NAMES = 50
"""Near names are looked for so often: each costs a pass over all names, and nobody mends more before trying again."""


def _unread_problem(state: State, reads: Reads, section: str, entry: Entry, *, near: bool) -> Problem:
    name = entry.name
    message = f"nothing reads {SECTIONS[section].named} `{name}`"
    if gone := state.gone(name, [section]):
        return Problem(message, entry.key.span, (str(gone),), unread=True)
    if not near:
        return Problem(message, entry.key.span, unread=True)
    others = [other for other in reads.sections[section].names if other != name]
    hints, misspelt = did_you_mean(name, others), bool(nearest(name, others, 1, cutoff=SURE))
    for missed in nearest(name, [r.name for r in state.removed if r.section == section], 1):
        hints += (str(state.gone(missed, [section])),)
    explained = hints or ("whatever a file writes must be read by a loss or an output",)
    return Problem(message, entry.key.span, explained, unread=True, misspelt=misspelt)
