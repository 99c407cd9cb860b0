"""Taking entries out: `drop` in a file, `~` on the command line, and what falls with what is taken."""

from __future__ import annotations

from collections.abc import Sequence

from compose_vlp.blueprint.document import SECTIONS, Removed
from compose_vlp.blueprint.nodes import COMMAND_LINE, Mapping, Scalar
from compose_vlp.blueprint.reads import Reads, Unresolved
from compose_vlp.blueprint.state import State
from compose_vlp.blueprint.trees import Path, dotted, find, matching, paths, without
from compose_vlp.errors import Problem, Span, did_you_mean

CLEARED_BY_TASKS = ("losses", "outputs")


def apply_drop(state: State, patterns: Sequence[Scalar], label: str) -> bool:
    """Remove what a file's `drop` names of all that was merged before; false where a task stands before its paper."""
    for pattern in patterns:
        paths = matching(state.root, pattern.text)
        section = pattern.text.split(".")[0]
        if not paths and section in CLEARED_BY_TASKS and section not in state.root:
            hint = "a task comes after the paper that it changes: [albef, tasks/vqa_generate]"
            state.problems.append(Problem(f"nothing before {label} has {section}", pattern.span, (hint,)))
            return False
        if not paths:
            state.problems.append(no_match(state, pattern.text, pattern.span))
        for path in paths:
            take_out(state, path, pattern.span, label)
    return True


def take_out(state: State, path: Path, by: Span, label: str) -> None:
    """Remove what stands at a path: a section's entries, an entry, or a field."""
    entry = find(state.root, path)
    if entry is None:
        return
    holds_entries = path[0] in SECTIONS and SECTIONS[path[0]].form == "entries"
    if holds_entries and len(path) == 1:
        assert isinstance(entry.value, Mapping), "files are merged by the form of their sections"
        for child in entry.value:
            take_out(state, (path[0], child.name), by, label)
    elif holds_entries and len(path) == 2:
        state.remove(Removed(path[0], path[1], entry.key.span, label, by))
    else:
        state.root = without(state.root, path)


def no_match(state: State, pattern: str, span: Span) -> Problem:
    """The message for a pattern or path that matches nothing."""
    parts = pattern.split(".")
    hints: tuple[str, ...]
    if len(parts) == 2 and (gone := state.gone(parts[1], [parts[0]])):
        hints = (str(gone),)
    elif parts[0] not in SECTIONS and "*" not in parts[0]:
        hints = did_you_mean(parts[0], SECTIONS) or ("a path begins with a section: `losses.itm`, `inputs.*`",)
    else:
        known = [dotted(path) for path in paths(state.root) if path[0] == parts[0] and len(path) == len(parts)]
        hints = did_you_mean(pattern, known)
    return Problem(f"`{pattern}` matches nothing", span, hints)


def judge_drops(state: State, label: str) -> None:
    """Report what `label` took out and something still reads: an input at the drop, all else at its first reader."""
    reads = Reads(state.root)
    _, lost = reads.live(reads.roots)
    taken: dict[Span, list[str]] = {}
    for unresolved in lost:
        name = unresolved.reference.name
        gone = state.gone(name, [unresolved.reference.section] if unresolved.reference.section else ())
        if gone is None or gone.by is None or gone.file != label or name in state.missing:
            continue
        if unresolved.reference.section == "losses":
            continue  # a stage's list: an inherited one shrinks, a file's own is judged with the lists
        state.missing.add(name)
        if gone.section == "inputs":
            taken.setdefault(gone.by, []).append(name)
        else:
            state.problems.append(_still_read(unresolved, gone))
    for span, names in taken.items():
        state.problems.append(_fallen(reads, names, span))


def _still_read(unresolved: Unresolved, gone: Removed) -> Problem:
    by = gone.by
    assert by is not None, "only what was dropped is still read"
    where = "by an override" if by.file == COMMAND_LINE else f"at {by.file}:{by.line}"
    sign = "$" if gone.section == "params" else ""
    message = f"nothing is called `{sign}{gone.name}`: it was dropped {where}"
    return Problem(message, unresolved.reference.span, related=(("dropped here", by), ("it stood here", gone.at)))


def _fallen(reads: Reads, names: list[str], by: Span) -> Problem:
    """Report what falls with dropped inputs, and what would drop that too."""
    fallen = [
        dotted(key)
        for key in reads.references
        if key[0] in CLEARED_BY_TASKS and any(unresolved.reference.name in names for unresolved in reads.live([key])[1])
    ]
    inputs = " and ".join(f"`{name}`" for name in names)
    verb = "is" if len(names) == 1 else "are"
    message = f"{inputs} {verb} still read: with {'it' if len(names) == 1 else 'them'} fall {', '.join(fallen)}"
    drops = " ".join(f"~{path}" for path in fallen)
    how = f"drop those too: {drops}"
    if by.file != COMMAND_LINE:
        how = f"drop those too, here or by overrides: {drops}"
    return Problem(message, by, (how,))
