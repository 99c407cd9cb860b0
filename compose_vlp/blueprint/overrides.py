"""Overrides laid over a merged blueprint: one grammar, typed by the destination, and no two about one thing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from compose_vlp.blueprint.arguments import Override, read_settings
from compose_vlp.blueprint.document import DRAFT, NAMESPACE, SECTIONS, Document
from compose_vlp.blueprint.drop import no_match, take_out
from compose_vlp.blueprint.fields import known_fields, schema_fields
from compose_vlp.blueprint.merge import merge
from compose_vlp.blueprint.nodes import COMMAND_LINE, Entry, Mapping, Scalar
from compose_vlp.blueprint.state import FieldsOf, State
from compose_vlp.blueprint.structure import check_structure
from compose_vlp.blueprint.trees import Path, dotted, find, matching, paths, put
from compose_vlp.errors import Problem, did_you_mean

_ONLY_IN_FILES = ("extends", "drop")
_SHOWN = 6
MAX_OVERRIDES = 500
"""So many changes are laid over a blueprint one by one; more than a person types belongs into a file."""


class _Refused(Exception):
    """An override that cannot be applied, for this reason."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass
class _Change:
    """An override with the paths that it reaches."""

    override: Override
    paths: list[Path]


def apply_overrides(state: State, overrides: Sequence[Override], label: str = COMMAND_LINE) -> set[tuple[str, str]]:
    """Apply them all, whatever their order; gives the added entries that something must read.

    Entries are added first, then kinds are changed, because the fields that the others may set follow from these.
    Problems and notes go to `state`.
    """
    if len(overrides) > MAX_OVERRIDES:
        message = f"{len(overrides):,} overrides; {MAX_OVERRIDES} are the most"
        place = overrides[MAX_OVERRIDES].path.span
        state.problems.append(Problem(message, place, ("write them into a file that extends the blueprint",)))
        return set()
    changes: list[_Change] = []
    added: set[tuple[str, str]] = set()
    for override in sorted(overrides, key=_precedence):
        try:
            reached = _Target(state, override).paths()
        except _Refused as refused:
            state.problems.append(refused.problem)
            continue
        changes.append(_Change(override, reached))
        if _precedence(override) < _LAST:
            for path in reached:
                _lay(state, override, path)
        if override.sign == "+" and reached[0][0] in (*NAMESPACE, "losses"):
            added.add((reached[0][0], reached[0][1]))
    changes.sort(key=lambda change: change.override.path.span)
    so_far = _Reached(state)
    accepted = [change for change in changes if not so_far.overlaps(change)]
    waiting = [change for change in accepted if _precedence(change.override) == _LAST]
    for change in sorted(waiting, key=lambda change: change.override.sign != "~"):
        for path in change.paths:
            if change.override.sign == "~":
                take_out(state, path, change.override.path.span, label)
            else:
                _lay(state, change.override, path)
    return added


def apply_settings(
    document: Document, settings: Mapping, fields_of: FieldsOf | None = None
) -> tuple[Document, list[Problem]]:
    """The document with a stage's `set` laid over it; nothing goes because of it."""
    state = State(document.root, fields_of, removed=list(document.removed))
    apply_overrides(state, read_settings(settings))
    return replace(document, root=state.root), state.problems


_LAST = 2


def _precedence(override: Override) -> int:
    if override.sign == "+":
        return 0
    return 1 if not override.sign and override.path.text.split(".")[-1] in ("use", "type") else _LAST


class _Reached:
    """The places that overrides reach: each path, and each mapping above one, with the first override that does."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.whole: dict[Path, Override] = {}
        self.above: dict[Path, Override] = {}

    def overlaps(self, change: _Change) -> bool:
        """Report a change of what an earlier one changes too, or of a part or the whole of it."""
        clash = next((clash for path in change.paths if (clash := self._earlier(path)) is not None), None)
        if clash is not None:
            shorter, earlier = clash
            message = f"two overrides of `{dotted(shorter)}`"
            related = (("the other", earlier.path.span),)
            self.state.problems.append(Problem(message, change.override.path.span, ("leave one out",), related))
        for path in change.paths:
            self.whole.setdefault(path, change.override)
            for length in range(1, len(path)):
                self.above.setdefault(path[:length], change.override)
        return clash is not None

    def _earlier(self, path: Path) -> tuple[Path, Override] | None:
        if path in self.above:
            return path, self.above[path]
        parts = (path[:length] for length in range(1, len(path) + 1))
        return next(((part, self.whole[part]) for part in parts if part in self.whole), None)


def _lay(state: State, override: Override, path: Path) -> None:
    """Set the value at a path as a file would that holds nothing else; other entries and fields stay."""
    value, problems = override.read(path)
    state.problems += problems
    if problems:
        return
    entry = Entry(Scalar(path[-1], override.path.span, source=override.path.source), value)
    root = _alone(path, entry)
    if len(path) <= 2:
        structure = check_structure(root)
        root = structure.root
        state.problems += structure.problems
        if structure.problems:
            return
    changes_kind = len(path) == 3 and path[-1] in ("use", "type")
    if path[0] in _MERGED_BY_FILES_ONLY or path[0].startswith(DRAFT) or (len(path) > 2 and not changes_kind):
        state.root = put(state.root, path, replace(entry, earlier=find(state.root, path)))
    else:
        state.root = _merged(state.root, root)


_MERGED_BY_FILES_ONLY = ("stages",)
"""Sections that a file replaces whole, while an override changes what its path says."""


def _alone(path: Path, entry: Entry) -> Mapping:
    """A root that holds one entry at a path."""
    span = entry.key.span
    for name in path[-2::-1]:
        entry = Entry(Scalar(name, span), Mapping((entry,), entry.value.span))
    return Mapping((entry,), span)


def _merged(base: Mapping, own: Mapping) -> Mapping:
    """A file's merge, but that the document keeps its name and title."""
    merged = merge(base, own)
    for entry in base:
        if entry.name in ("name", "title") and entry.name not in merged:
            merged = put(merged, (entry.name,), entry)
    return merged


class _Target:
    """The target of an override: its paths in the merged blueprint, or the reason why there is none."""

    def __init__(self, state: State, override: Override) -> None:
        self.state = state
        self.root = state.root
        self.override = override
        self.span = override.path.span
        self.written = override.path.text

    def paths(self) -> list[Path]:
        parts = self._full_path()
        if parts[0] in _ONLY_IN_FILES:
            raise self._refused(
                f"`{parts[0]}` is for files", "name blueprints before the overrides; remove with `~path`"
            )
        if self.override.sign == "~":
            return self._removed(parts)
        if self.override.sign == "+":
            return [self._added(parts)]
        if "*" in dotted(parts):
            return self._matched(parts)
        self._must_be_settable(parts)
        return [parts]

    def _full_path(self) -> Path:
        parts = tuple(self.written.split("."))
        if re.search(r"[/:\s]|^-", self.written):
            path = ".".join(re.findall(r"[\w*-]+", self.written.lstrip("-")))
            whole = path if self.override.sign == "~" else f"{path}=..."
            raise self._refused(f"`{self.written}` is no path: names are divided by dots", f"`{whole}`")
        if not all(parts):
            raise self._refused(f"`{self.written}` is no path", "a path is names between dots: inputs.image.size")
        head = parts[0]
        if head in SECTIONS or head.startswith(DRAFT):
            return parts
        section = self._section_of(head)
        if len(parts) == 1 and section:
            return (section, head)
        if len(parts) == 1:
            paths = list(self._ending_in(head))
            near = did_you_mean(head, [*self._names(), *SECTIONS])
            hints = tuple(f"there is {dotted(path)}" for path in paths[:_SHOWN])
            raise self._refused(f"`{head}` is not a name of the blueprint", *(hints or near))
        if section:
            raise self._refused(f"`{head}` is not a section", f"the full path is {section}.{self.written}")
        if "*" not in head:
            raise self._refused(f"`{head}` is not a section", *did_you_mean(head, SECTIONS))
        return parts

    def _section_of(self, name: str) -> str:
        return next((section for section in NAMESPACE if find(self.root, (section, name))), "")

    def _names(self) -> list[str]:
        return [path[1] for path in paths(self.root, 2) if path[0] in NAMESPACE]

    def _ending_in(self, word: str) -> Iterator[Path]:
        """Full paths that end in a word: entries and fields, written or not."""
        for path in paths(self.root, 2):
            if path[1] == word:
                yield path
            elif word in (self._fields(path) or ()):
                yield (*path, word)

    def _fields(self, path: Path) -> frozenset[str] | None:
        """The fields of the entry at a path of two, those of its schema and those that are written."""
        entry = find(self.root, path)
        if entry is None or SECTIONS.get(path[0]) is None or SECTIONS[path[0]].form != "entries":
            return None
        known = known_fields(path[0], entry, self.state.fields_of)
        if known is None:
            return None
        return known | frozenset(entry.value.names if isinstance(entry.value, Mapping) else ())

    # --- removing, adding, setting --------------------------------------------------------------------------

    def _removed(self, parts: Path) -> list[Path]:
        paths = matching(self.root, dotted(parts))
        if not paths:
            raise _Refused(no_match(self.state, dotted(parts), self.span))
        return paths

    def _added(self, parts: Path) -> Path:
        there = find(self.root, parts)
        if there is not None:
            raise self._refused(
                f"`{dotted(parts)}` exists", f"without `+` it is changed: {dotted(parts)}=...", at=there
            )
        if len(parts) == 2 and parts[0] in SECTIONS and SECTIONS[parts[0]].form == "entries":
            return parts
        if parts[0].startswith(DRAFT) and len(parts) == 1:
            return parts
        raise self._refused(
            f"`+` adds an entry, and `{dotted(parts)}` is none", f"a field is set without it: {dotted(parts)}=..."
        )

    def _matched(self, parts: Path) -> list[Path]:
        if len(parts) < 3:
            raise self._refused(
                f"`{self.written}` names no field", "`*` stands for entries: components.*.positions=rope"
            )
        pattern, rest = parts[:2], parts[2:]
        entries = [path for path in paths(self.root, 2) if all(map(fnmatchcase, path, pattern))]
        having = [path for path in entries if self._has(path, rest[0])]
        if not having:
            section = pattern[0]
            named = SECTIONS[section].named if section in SECTIONS else "entry"
            raise self._refused(f"no {named} that matches has a field `{rest[0]}`", *self._who_has(entries, rest[0]))
        matched = [(*path, *rest) for path in having]
        self.state.notes.append(f"{self.written} is {', '.join(map(dotted, matched))}")
        return matched

    def _who_has(self, entries: list[Path], field: str) -> tuple[str, ...]:
        """Find the field that no entry of these has: in other entries, in other kinds, under a near name."""
        hints = tuple(f"there is {dotted(path)}" for path in list(self._ending_in(field))[:_SHOWN])
        if kinds := self.state.kinds_with(field):
            hints += (f"kinds that have it: {', '.join(kinds)}",)
        known = {name for path in entries for name in self._fields(path) or ()}
        return hints or did_you_mean(field, known)

    def _has(self, path: Path, field: str) -> bool:
        known = self._fields(path)
        return field in known if known is not None else find(self.root, (*path, field)) is not None

    def _must_be_settable(self, parts: Path) -> None:
        section = SECTIONS.get(parts[0])
        for length in range(1, len(parts)):
            above = find(self.root, parts[:length])
            if above is not None and not isinstance(above.value, Mapping):
                path = dotted(parts[:length])
                raise self._refused(f"`{path}` has no fields", f"set it whole: {path}=...", at=above)
        if section is None or len(parts) == 1:
            return
        if section.form == "mapping":
            self._must_know(parts[1], schema_fields(parts[0], None) or frozenset(), f"`{parts[0]}`")
            return
        if section.form != "entries":
            raise self._refused(f"`{parts[0]}` has no fields", f"set it whole: {parts[0]}=...")
        entry = find(self.root, parts[:2])
        if entry is None:
            near = did_you_mean(dotted(parts[:2]), [dotted(path) for path in paths(self.root, 2)])
            gone = self.state.gone(parts[1], [parts[0]])
            add = f"+{dotted(parts[:2])}={{...}} adds one"
            raise self._refused(f"no {section.named} is called `{parts[1]}`", *([str(gone)] if gone else near), add)
        if len(parts) > 2:
            known = self._fields(parts[:2])
            if known is not None:
                self._must_know(parts[2], known, f"{section.named} `{parts[1]}`")

    def _must_know(self, field: str, known: frozenset[str], owner: str) -> None:
        if field not in known:
            hints = did_you_mean(field, known) or (f"fields: {', '.join(sorted(known))}",)
            raise self._refused(f"{owner} has no field `{field}`", *hints)

    def _refused(self, message: str, *hints: str, at: Entry | None = None) -> _Refused:
        related = (("it stands here", at.key.span),) if at else ()
        return _Refused(Problem(message, self.span, hints, related))
