"""YAML text to nodes with exact places; what the language leaves out of YAML is refused with what to write instead.

Read from the events of the C parser: `compose` and `load` already hide duplicate keys, anchors and tags, and both
type the scalars by YAML 1.1's guesses (`no` is False, `010` is 8, `1e-4` is a string). Columns count characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import yaml

from compose_vlp.blueprint import syntax
from compose_vlp.blueprint.nodes import BROKEN, Entry, Items, Mapping, Node, Scalar, Source
from compose_vlp.blueprint.yaml_cuts import cut_pair, mend_cuts
from compose_vlp.errors import Problem, Span, UserError
from compose_vlp.files import is_file

if TYPE_CHECKING:
    from yaml._yaml import Mark as CMark

    Mark: TypeAlias = yaml.Mark | CMark

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
KEPT_LENGTH = 50_000
"""Texts of at most so many characters are read once; the papers' have a tenth of it."""
MAX_MENDS = 20
"""So many mistakes of syntax are mended to find the next one; each costs a pass over the text."""
_STYLES: dict[str | None, str] = {"": "plain", "'": "single", '"': "double", "|": "literal", ">": "folded"}
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_NOT_YAML = "anchors, aliases, `<<` and tags are not part of the language"
_SHARE = "write a shared value under `params` and read it as `$name`"


@dataclass
class Reading:
    """The result of reading: the root (empty where nothing could be) and every mistake on the way.

    `whole` is false where a part of the text is not in `root`, so that nobody concludes from its absence.
    """

    source: Source
    root: Mapping
    problems: list[Problem] = field(default_factory=list)
    whole: bool = True


@dataclass
class Fragment:
    """A piece of YAML that was read: its node (None where there is none), its problems, whether nothing is missing."""

    node: Node | None
    problems: list[Problem]
    whole: bool


class _TooDeep(Exception):
    """Nesting beyond `MAX_DEPTH`; reading stops, because the scanner's time grows with the square of the depth."""


def read_file(path: Path, name: str | None = None) -> Reading:
    """Read a blueprint's file; `name` is what messages call it (the path, if left out).

    Raises `UserError` where there is no text to speak of: no such file, too large, or not UTF-8.
    """
    name = name or str(path)
    if not is_file(path):
        raise UserError(f"{name}: no such file" if not path.exists() else f"{name}: not a file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UserError(
            f"{name}: {size / 1e6:.1f} MB is too large for a blueprint (limit {MAX_BYTES / 1e6:.0f} MB)",
            hints=("class names, captions and other data belong into files that the blueprint names",),
        )
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{name}: {error.strerror}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", errors="replace")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        raise UserError(
            f"{name} is not UTF-8: byte 0x{raw[error.start]:02x} cannot be read",
            span=Span(name, line, column, column + 1),
            hints=("save the file as UTF-8",),
        ) from None
    if len(text) > KEPT_LENGTH:
        return read_text(text, name)
    known = _read_once(text, name)
    return replace(known, problems=[*known.problems])


@lru_cache(maxsize=256)
def _read_once(text: str, name: str) -> Reading:
    """Keep what was read, which nobody changes: a sweep or a server reads the same papers for each of its models."""
    return read_text(text, name)


def read_text(text: str, name: str) -> Reading:
    """Read a blueprint's text. Mistakes are collected; a mistake in YAML's own syntax is mended where it is known."""
    source = Source(name, text.removeprefix("\ufeff"))
    root = Mapping((), source.span(1, 1))
    refused = list(_unreadable(source))
    if refused:
        return Reading(source, root, refused, whole=False)
    read = _read(source, source.text, 0)
    node, problems = read.node, read.problems
    if node is None and not problems:
        problems.append(Problem(f"{name} is empty", source.span(1, 1, 2), ("a blueprint is a mapping of sections",)))
    elif isinstance(node, Mapping):
        root = node
    elif node is not None:
        last = len(source.lines)  # of a document without text, YAML's place is behind the last line
        place = node.span if node.span.line <= last else source.span(last, 1)
        problems.append(Problem("a blueprint is a mapping of sections", place, ("begin with `name: ...`",)))
    return Reading(source, root, problems, read.whole and node is root)


def read_value(source: Source, line: int, column: int) -> Fragment:
    """Read what stands in `line` of `source` from `column` on as a value of its own, places kept (an override's)."""
    text = " " * (column - 1) + source.lines[line - 1][column - 1 :]
    return _read(source, text, line - 1)


def _unreadable(source: Source) -> Iterator[Problem]:
    """Find what no mending helps: the first control character, or tab for indentation."""
    for number, line in enumerate(source.lines, 1):
        if control := _UNPRINTABLE.search(line):
            character = f"U+{ord(control[0]):04X}"
            yield Problem(
                f"{character} is a control character", source.span(number, control.start() + 1, control.end() + 1)
            )
            return
    indented = [(number, line) for number, line in enumerate(source.lines, 1) if "\t" in line[: _indent(line)]]
    if indented:
        number, line = indented[0]
        column = line.index("\t") + 1
        more = f" ({len(indented)} lines of this file do)" if len(indented) > 1 else ""
        yield Problem(
            f"a tab indents here{more}", source.span(number, column, column + 1), ("YAML indents with spaces alone",)
        )


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _read(source: Source, text: str, lines_before: int) -> Fragment:
    """Parse; where YAML stops at a mistake that is known, report it, blank it out and parse again for the others."""
    mended: list[Problem] = []
    lost: list[Span] = []
    while True:
        builder = _Builder(source, lines_before, lost)
        try:
            node = builder.document(yaml.parse(text, Loader=yaml.CSafeLoader))
            return Fragment(node, [*mended, *builder.problems], builder.whole)
        except _TooDeep:
            return Fragment(None, [*mended, *builder.problems], whole=False)
        except yaml.MarkedYAMLError as error:
            problem, mended_text, mend = syntax.explain(error, text, source, lines_before)
            mended.append(problem)
            if mended_text is None or mend is None or len(mended) >= MAX_MENDS:
                return Fragment(None, [*mended, *builder.problems], whole=False)
            text = mended_text
            lost += [mend.span] if mend.lost else []


class _Builder:
    """One pass over the events. Where a rule of the language is broken, the problem is noted and reading goes on.

    `lost` are the pieces of the text that were overwritten: a scalar there is broken.
    """

    def __init__(self, source: Source, lines_before: int, lost: list[Span]) -> None:
        self.source = source
        self.lines_before = lines_before
        self.lost = lost
        self.problems: list[Problem] = []
        self.whole = True
        self.depth = 0

    def document(self, events: Iterator[yaml.Event]) -> Node | None:
        node: Node | None = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    hint = "a blueprint is one document; another one is another file, named in `extends`"
                    self._lose(Problem("a second document begins here", self._span(event), (hint,)))
                    return node
            elif isinstance(event, yaml.NodeEvent):
                node = self._node(event, events)
        return node

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event]) -> Node:
        if isinstance(event, yaml.NodeEvent):
            self._refuse_signs(event)
        if isinstance(event, yaml.AliasEvent):
            return Scalar(f"*{event.anchor}", self._span(event), BROKEN, 1, self.source)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.problems.append(Problem(f"nested deeper than {MAX_DEPTH} levels", self._span(event)))
            raise _TooDeep
        node = (
            self._items(event, events) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(event, events)
        )
        self.depth -= 1
        return node

    def _items(self, start: yaml.Event, events: Iterator[yaml.Event]) -> Items:
        items: list[Node] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            item = self._node(event, events)
            items.append(self._listed(item) if getattr(start, "flow_style", False) else item)
        mended = mend_cuts([(item, None) for item in items], self.problems)
        return Items(tuple(key for key, _ in mended), self._span(start, event))

    def _listed(self, item: Node) -> Node:
        """An item of `[...]`; `[f("a: b")]` and `[a: b]` are mappings to YAML, and mistakes to us."""
        line = self.source.lines[item.span.line - 1]
        if not isinstance(item, Mapping) or line[item.span.column - 1] == "{":
            return item
        joined, problem = cut_pair(item.entries[0])
        self.problems.append(problem)
        return joined

    def _mapping(self, start: yaml.Event, events: Iterator[yaml.Event]) -> Mapping:
        pairs: list[tuple[Node, Node | None]] = []
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            pairs.append((self._node(event, events), self._node(next(events), events)))
        entries: dict[str, Entry] = {}
        for key, value in mend_cuts(pairs, self.problems):
            assert value is not None
            if not isinstance(key, Scalar):
                self._lose(Problem("a key is one word", key.span))
            elif key.text in entries:
                first = entries[key.text].key.span
                message = f"`{key.text}` is written twice, first at line {first.line}"
                self._lose(Problem(message, key.span, related=(("first", first),)))
            else:
                entries[key.text] = Entry(key, value)
        return Mapping(tuple(entries.values()), self._span(start, event))

    def _lose(self, problem: Problem) -> None:
        self.problems.append(problem)
        self.whole = False

    def _refuse_signs(self, event: yaml.NodeEvent) -> None:
        if isinstance(event, yaml.AliasEvent):
            hints = (_SHARE, "a pattern that begins with `*` needs quotes")
            self._lose(Problem(f"`*{event.anchor}` is an alias: {_NOT_YAML}", self._span(event), hints))
            return
        if event.anchor is None and getattr(event, "tag", None) is None:
            return
        mark = _begin(event)
        line = self.source.lines[mark.line + self.lines_before]
        if event.anchor is not None:
            column = line.find(f"&{event.anchor}", mark.column) + 1
            span = self._line_span(event, column, column + 1 + len(event.anchor))
            self.problems.append(Problem(f"`&{event.anchor}` is an anchor: {_NOT_YAML}", span, (_SHARE,)))
        if getattr(event, "tag", None) is not None:
            column = line.find("!", mark.column) + 1
            word = line[column - 1 :].split(maxsplit=1)[0]
            span = self._line_span(event, column, column + len(word))
            hint = "a field's type is known from its kind; write the bare value"
            self.problems.append(Problem(f"`{word}` is a tag: {_NOT_YAML}", span, (hint,)))

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        style = _STYLES[event.style]
        rows = _end(event).line - _begin(event).line + 1
        if style in ("literal", "folded"):
            return Scalar(event.value, self._block_span(event), style, rows, self.source)
        if event.anchor is not None or event.tag is not None:
            style = BROKEN  # the sign was refused, and hides where the value begins
        scalar = Scalar(event.value, self._span(event), style, rows, self.source)
        if style != "plain" or rows > 1 or scalar.is_empty:
            return scalar
        return self._plain_scalar(scalar)

    def _plain_scalar(self, scalar: Scalar) -> Scalar:
        """A plain scalar of one line, with its text as the user wrote it where a mistake was overwritten."""
        span, line = scalar.span, self.source.lines[scalar.span.line - 1]
        text = line[span.column - 1 : span.end_column - 1]
        if text == "<<":
            self.problems.append(Problem(f"`<<` merges mappings: {_NOT_YAML}", span, (_SHARE,)))
        elif cut := syntax.comment_cut(scalar):
            problem, end_column = cut
            self.problems.append(problem)
            span = self.source.span(span.line, span.column, end_column)
            text = line[span.column - 1 : end_column - 1]
        lost = any(
            piece.line == span.line and piece.column < span.end_column and span.column < piece.end_column
            for piece in self.lost
        )
        return Scalar(text, span, BROKEN if lost else "plain", 1, self.source)

    def _block_span(self, event: yaml.ScalarEvent) -> Span:
        """The first line of a block's text, from its indentation on (the sign `|` itself where there is no text)."""
        for number in range(_begin(event).line + 1, _end(event).line + 1):
            line = self.source.lines[number + self.lines_before]
            if line.strip():
                leading = len(event.value) - len(event.value.lstrip(" \n"))
                newlines = event.value[:leading].count("\n")
                column = _indent(line) - (leading - event.value[:leading].rfind("\n") - 1) + 1
                return self.source.span(number + self.lines_before + 1 - newlines, column)
        return self._span(event)

    def _line_span(self, event: yaml.Event, column: int, end_column: int | None) -> Span:
        return self.source.span(_begin(event).line + self.lines_before + 1, column, end_column)

    def _span(self, start: yaml.Event, end: yaml.Event | None = None) -> Span:
        first, last = _begin(start), _end(end or start)
        end_column = last.column + 1 if last.line == first.line else None
        return self._line_span(start, first.column + 1, end_column)


def _begin(event: yaml.Event) -> Mark:
    mark = event.start_mark
    assert mark is not None, "the parser marks every event"
    return mark


def _end(event: yaml.Event) -> Mark:
    mark = event.end_mark
    assert mark is not None, "the parser marks every event"
    return mark
