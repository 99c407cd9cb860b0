"""Expressions that YAML cut in silence: `{logits: lm(a, b), weight: 2}` reads as `lm(a`, a key `b)` and a weight.

Inside `{}` and `[]` a plain scalar ends at a comma or bracket, anywhere at `: ` and ` #`. A value with an open bracket
is the fingerprint. The pieces are put together again, so that the cut is the one message about them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from compose_vlp.blueprint.nodes import BROKEN, Entry, Node, Scalar, Source
from compose_vlp.errors import Problem

Pair = tuple[Node, Node | None]
"""A key with its value, or an item of a list with None."""

STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'')
_OPEN = {"(": ")", "[": "]", "{": "}"}
_CUT = re.compile(r"[,\[\]{}]|:(?=\s)|\s#")
_NAME_BEFORE = re.compile(r"[\w$.-]*$")


def open_brackets(text: str) -> int:
    """How many brackets of `text` are open at its end, strings aside; -1 where one closes that never opened."""
    depth = 0
    for character in STRING.sub("", text):
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return -1
    return depth


def mend_cuts(pairs: Sequence[Pair], problems: list[Problem]) -> list[Pair]:
    """Join the pieces of expressions that were cut at a comma; each cut is one problem, and its value is broken."""
    mended: list[Pair] = []
    index, budget = 0, _Budget()
    while index < len(pairs):
        key, value = pairs[index]
        head = key if value is None else value
        length = _pieces(head, pairs, index + 1, budget)
        if length and isinstance(head, Scalar):
            tail = _last(pairs[index + length])
            joined = _join(head, tail)
            problems.append(_cut_problem(head, joined))
            mended.append((joined, None) if value is None else (key, joined))
        else:
            mended.append(pairs[index])
        index += 1 + length
    return mended


def cut_pair(entry: Entry) -> tuple[Scalar, Problem]:
    """Restore what YAML made a mapping of inside `[...]`, at a `: `: the text as it was written, and the problem."""
    key, value = entry.key, entry.value
    joined = _join(key, value if isinstance(value, Scalar) and not value.is_empty else key)
    if open_brackets(key.text) > 0:
        return joined, _cut_problem(key, joined)
    return joined, Problem("a list holds values, not keys", joined.span, (f"a mapping has braces: {{{joined.text}}}",))


def _last(pair: Pair) -> Scalar:
    key, value = pair
    tail = value if isinstance(value, Scalar) and not value.is_empty else key
    assert isinstance(tail, Scalar)
    return tail


@dataclass
class _Budget:
    """How many more pieces are looked at in one list or mapping: a list of thousands that open brackets is no cut."""

    pieces: int = 10_000


def _pieces(head: Node, pairs: Sequence[Pair], start: int, budget: _Budget) -> int:
    """How many of the pairs from `start` on are pieces of `head`: up to the one that closes its brackets, else none."""
    if not isinstance(head, Scalar) or head.style != "plain" or open_brackets(head.text) < 1:
        return 0
    brackets = _Brackets()
    brackets.read(head.text)
    for at in range(start, len(pairs)):
        key, value = pairs[at]
        budget.pieces -= 1
        if budget.pieces < 0 or not isinstance(key, Scalar):
            return 0
        # A quoted key with a value was written on purpose: a cut expression leaves no such pair behind.
        if isinstance(value, Scalar) and not value.is_empty and key.style != "plain":
            return 0
        if value is not None and not isinstance(value, Scalar):
            return 0
        brackets.read(f", {key.text}" + (f": {value.text}" if value is not None and not value.is_empty else ""))
        if brackets.depth <= 0:
            return at - start + 1
    return 0


class _Brackets:
    """How many brackets are open after the pieces read so far, strings aside, which may go on over pieces."""

    def __init__(self) -> None:
        self.depth = 0
        self._quote = ""

    def read(self, piece: str) -> None:
        escaped = False
        for character in piece:
            if self._quote:
                if character == self._quote and not escaped:
                    self._quote = ""
                escaped = character == "\\" and not escaped and self._quote == '"'
            elif character in "\"'":
                self._quote = character
            else:
                self.depth += (character in "([{") - (character in ")]}")


def _join(head: Scalar, tail: Scalar) -> Scalar:
    """The expression as it was written, from the first piece to the last (of its first line)."""
    source = head.source
    assert source is not None
    end = tail.span.end_column if tail.span.line == head.span.line else None
    span = source.span(head.span.line, head.span.column, end)
    text = source.lines[span.line - 1][span.column - 1 : span.end_column - 1]
    return Scalar(text, span, BROKEN, 1, source)


def _cut_problem(head: Scalar, joined: Scalar) -> Problem:
    assert head.source is not None
    comma = head.source.span(head.span.line, head.span.end_column, head.span.end_column + 1)
    return cut_problem(
        joined.text, comma.column - joined.span.column, head.source, joined.span.line, joined.span.column
    )


def cut_problem(text: str, offset: int, source: Source, line: int, column: int) -> Problem:
    """The message for `text`, which begins at `line` and `column` and is cut `offset` characters later."""
    sign = text[offset : offset + 2].strip()[:1]
    where = "the comma" if sign == "," else f"`{sign}`"
    span = source.span(line, column + offset, column + offset + 1)
    hint = "inside {} and [] stand names and fields; give the expression a name in `graph`"
    return Problem(f"YAML cuts `{text}` at {where}", span, (hint,))


def find_cut(line: str, begin: int) -> tuple[int, int, int] | None:
    """The first call or index in the flow text `line[begin:]` that YAML would cut: its start, end, and the cut."""
    at, fresh = begin, True  # fresh: a value may begin here, so that a quote quotes
    while at < len(line):
        character = line[at]
        if fresh and (quoted := STRING.match(line, at)):
            at, fresh = quoted.end(), False
            continue
        # Where a value may begin, a bracket opens a list; behind a name or a bracket it is a call or an index.
        if character in "([" and not fresh and re.match(r"[\w)\]]", line[at - 1]):
            start = _NAME_BEFORE.search(line, begin, at).start()  # type: ignore[union-attr]
            end = _closing(line, at)
            if cut := _CUT.search(line, at, end):
                return start, end, cut.start() + (cut[0][0].isspace())
            at = end
            continue
        if character in "{[," or (character == ":" and line[at + 1 : at + 2].isspace()):
            fresh = True
        elif not character.isspace():
            fresh = False
        at += 1
    return None


def _closing(line: str, opening: int) -> int:
    """The place after the bracket that closes the one at `opening` (the line's end where none does)."""
    depth, at = 0, opening
    while at < len(line):
        if string := STRING.match(line, at):
            at = string.end()
            continue
        depth += (line[at] in _OPEN) - (line[at] in _OPEN.values())
        at += 1
        if depth == 0:
            break
    return at
