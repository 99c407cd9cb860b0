"""Where YAML stops: the parser's complaint in the words of the language, and the text with the mistake blanked out.

YAML's parser reports one mistake and stops. Those that people make with expressions are known, so each is reported at
the place that must change and overwritten by as many harmless letters; the next pass over the text finds the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import yaml

from compose_vlp.blueprint.nodes import Scalar, Source
from compose_vlp.blueprint.yaml_cuts import STRING, cut_problem, find_cut, open_brackets
from compose_vlp.errors import Problem, Span

_PLAIN_WORDS = {
    "did not find expected ',' or '}'": ("`,` or `}` is missing here", ()),
    "did not find expected ',' or ']'": ("`,` or `]` is missing here", ()),
    "did not find expected key": ("this line does not fit the indentation of the lines above", ()),
    "did not find expected '-' indicator": ("this line does not fit the indentation of the list above", ()),
    "could not find expected ':'": ("`:` is missing", ("a line is `key: value`",)),
    "mapping values are not allowed in this context": (
        "a key is not expected here",
        ("is the line indented like its neighbours, and the line above complete?",),
    ),
    "block sequence entries are not allowed in this context": (
        "a list item is not expected here",
        ("is the line indented like its neighbours?",),
    ),
    "found character that cannot start any token": ("no value begins with this character", ("quote the value",)),
    "did not find expected node content": ("a value is missing here", ()),
    "found unknown escape character": ("no such escape in double quotes", ("single quotes take every character",)),
}


@dataclass(frozen=True)
class Mend:
    """A piece of the text that was reported and overwritten: `lost` where its value cannot be known any more."""

    span: Span
    lost: bool


def explain(
    error: yaml.MarkedYAMLError, text: str, source: Source, lines_before: int
) -> tuple[Problem, str | None, Mend | None]:
    """The problem in our words, and the text without it with what was mended, or None where parsing cannot go on."""
    finder = _Finder(error, text, source, lines_before)
    for find in (finder.pattern, finder.colon, finder.separator, finder.cut):
        if problem := find():
            return problem
    return finder.plain(), None, None


Found = tuple[Problem, str, Mend]


@dataclass(frozen=True)
class _Finder:
    error: yaml.MarkedYAMLError
    text: str
    source: Source
    lines_before: int

    def pattern(self) -> Found | None:
        """`[**.norm]`: an alias to YAML, a pattern to us."""
        mark = self.error.context_mark
        if self.error.context != "while scanning an alias" or mark is None:
            return None
        line = self._line(mark.line)
        end = mark.column
        while end < len(line) and line[end] not in ",]} \t":
            end += 1
        word = line[mark.column : end]
        span = self._span(mark.line, mark.column, end)
        hint = f"write '{word}'" + (
            "" if word.startswith("*.") or "**" in word else "; aliases are not part of the language"
        )
        problem = Problem("a pattern that begins with `*` needs quotes", span, (hint,))
        return self._mended(problem, mark.line, mark.column, end, lost=False)

    def colon(self) -> Found | None:
        """`key: prompt("a picture of: ", caption)`: the value ends at `: `, and a key follows that cannot be one."""
        mark = self.error.problem_mark
        if self.error.problem != "mapping values are not allowed in this context" or mark is None:
            return None
        line = self._line(mark.line)
        begin = line.find(": ") + 2
        if begin < 2 or begin > mark.column:
            return None
        value = self.source.lines[mark.line + self.lines_before][begin:].strip()
        hint = f"quote the whole value: '{value}'" if "'" not in value else "quote the whole value"
        string = next((s for s in STRING.finditer(line, begin) if s.start() < mark.column < s.end()), None)
        start, end = string.span() if string else (mark.column, mark.column + 1)
        if string is None and open_brackets(line[begin : mark.column]) > 0:
            hint = "there are no functions of one's own" if "lambda" in value else "there are no slices"
            problem = Problem("`:` does not belong in an expression", self._span(mark.line, start, end), (hint,))
            return self._mended(problem, mark.line, mark.column, end, lost=True)
        problem = Problem("YAML ends the value here, at `: `", self._span(mark.line, start, end), (hint,))
        return self._mended(problem, mark.line, mark.column, mark.column + 1, lost=False)

    def separator(self) -> Found | None:
        """`batch 64`, `batch=64`, `t:text(caption)`: a line without the colon and space after its key."""
        mark = self.error.problem_mark
        if self.error.problem == "could not find expected ':'" and self.error.context_mark is not None:
            number = self.error.context_mark.line
        elif self.error.problem == "mapping values are not allowed in this context" and mark is not None:
            number = mark.line - 1  # the line above was read as a value that goes on here
        else:
            return None
        line = self._line(number).rstrip()
        pair = unseparated(line)
        if pair is None:
            return None
        begin = len(line) - len(line.lstrip())
        problem = unseparated_problem(pair, self._span(number, begin, len(line)))
        offset = Source("", self.text).offset(number + 1)
        at = begin + len(pair.key)
        filled = ": " + "_" * (len(line) - at - 2)
        text = self.text[: offset + at] + filled + self.text[offset + len(line) :]
        return problem, text, Mend(self._span(number, at + 2, len(line)), lost=True)

    def cut(self) -> Found | None:
        """A call or an index inside `{}` or `[]` that YAML cannot even cut at a comma."""
        first, last = self.error.context_mark, self.error.problem_mark
        if not (self.error.context or "").startswith("while parsing a flow") or first is None or last is None:
            return None
        for number in range(first.line, min(last.line, len(self.source.lines) - 1 - self.lines_before) + 1):
            if cut := find_cut(self._line(number), first.column if number == first.line else 0):
                start, end, at = cut
                line = number + self.lines_before
                written = self.source.lines[line][start:end]
                problem = cut_problem(written, at - start, self.source, line + 1, start + 1)
                return self._mended(problem, number, start, end, lost=True)
        return None

    def plain(self) -> Problem:
        """Everything else, at the parser's place."""
        error, opened = self.error, self.error.context_mark
        mark = error.problem_mark or opened
        assert mark is not None, "the parser marks every error"
        if opened is not None and error.context == "while scanning a quoted scalar" and "end of" in str(error.problem):
            return Problem("this quote is never closed", self._span(opened.line, opened.column, opened.column + 1))
        in_flow = (error.context or "").startswith("while parsing a flow")
        if opened is not None and in_flow and opened.line < mark.line:
            bracket = self._line(opened.line)[opened.column]
            return Problem(f"this `{bracket}` is not closed", self._span(opened.line, opened.column, opened.column + 1))
        if error.problem == "could not find expected ':'" and opened is not None:
            mark = opened
        message, hints = _PLAIN_WORDS.get(error.problem or "", (f"not YAML: {error.problem}", ()))
        return Problem(message, self._place(mark), hints)

    def _place(self, mark: yaml.Mark) -> Span:
        """The parser's place, or the end of the text's last line where it stopped after the end."""
        written = len(self.text.rstrip())
        if mark.index < written:
            return self._span(mark.line, mark.column, mark.column + 1)
        number = len(Source("", self.text[:written]).lines) - 1
        end = len(self._line(number).rstrip())
        return self._span(number, end, end + 1)

    def _line(self, number: int) -> str:
        lines = Source("", self.text).lines
        return lines[number] if number < len(lines) else ""

    def _span(self, line: int, start: int, end: int) -> Span:
        return self.source.span(line + self.lines_before + 1, start + 1, end + 1)

    def _mended(self, problem: Problem, line: int, start: int, end: int, *, lost: bool) -> Found:
        offset = Source("", self.text).offset(line + 1)
        text = self.text[: offset + start] + "_" * (end - start) + self.text[offset + end :]
        return problem, text, Mend(self._span(line, start, end), lost)


_UNSEPARATED = re.compile(r"\s*(?P<key>[A-Za-z_][\w.-]*)(?P<sign>:(?=\S)|\s*:?=\s*|\s+)(?P<value>\S.*?)\s*\Z")


class Unseparated(NamedTuple):
    """A key and its value, with the `sign` that stands between them in the place of `: `."""

    key: str
    sign: str
    value: str


def unseparated(text: str) -> Unseparated | None:
    """A line that was meant as `key: value`, or None."""
    match = _UNSEPARATED.match(text)
    if match is None or ": " in text or text.rstrip().endswith(":") or len(match["sign"] + match["value"]) < 3:
        return None
    return Unseparated(match["key"], match["sign"], match["value"])


def unseparated_problem(line: Unseparated, span: Span) -> Problem:
    """Say what is missing between key and value."""
    wrong = {":": "a space is missing after the colon"}.get(line.sign.strip(), "`:` is missing")
    value = line.value if len(line.value) < 60 else "..."
    return Problem(wrong, span, (f"a line is `key: value`; here: `{line.key}: {value}`",))


def comment_cut(scalar: Scalar) -> tuple[Problem, int] | None:
    """`prompt("item # 3", caption)` unquoted: YAML takes the rest of the line for a comment, in silence.

    Gives the problem, and the column where the value really ends.
    """
    source, span = scalar.source, scalar.span
    if scalar.style != "plain" or source is None or open_brackets(scalar.text) < 1:
        return None
    line = source.lines[span.line - 1]
    string = STRING.match(line, span.column - 1 + _open_quote(scalar.text))
    if string is None or string.end() <= span.end_column or not line[span.end_column - 1 :].lstrip().startswith("#"):
        return None
    end = _value_end(line, span.column - 1)
    value = line[span.column - 1 : end]
    hint = f"quote the whole value: '{value}'" if "'" not in value else "quote the whole value"
    place = source.span(span.line, string.start() + 1, string.end() + 1)
    return Problem("YAML ends the value here, at ` #`", place, (hint,)), end + 1


def _open_quote(text: str) -> int:
    """Find where a string of the expression `text` begins that does not end in it; its end where there is none."""
    bare = STRING.sub(lambda string: "_" * len(string[0]), text)
    return min((bare.find(sign) for sign in "\"'" if sign in bare), default=len(text))


def _value_end(line: str, begin: int) -> int:
    """Find where the value that begins at `begin` ends: before a comment that stands in no string."""
    at = begin
    while at < len(line):
        if string := STRING.match(line, at):
            at = string.end()
        elif line[at] == "#" and line[at - 1].isspace():
            break
        else:
            at += 1
    return len(line[:at].rstrip())
