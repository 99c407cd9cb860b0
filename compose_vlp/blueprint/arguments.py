"""What a person types after the command: names of blueprints, then overrides `path=value`, `+path={...}`, `~path`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from numbers import Integral, Real
from os import PathLike, fspath
from typing import Any, TypeAlias

from compose_vlp.blueprint.document import is_expression
from compose_vlp.blueprint.nodes import COMMAND_LINE, Mapping, Node, Scalar, Source
from compose_vlp.blueprint.reader import read_value
from compose_vlp.errors import Problem, Span, UserError
from compose_vlp.files import is_file

_FLOW = re.compile(r"[{\[\"']")
_SUFFIXES = (".yaml", ".yml")
_SEPARATED = re.compile(r"(?P<path>[\w./*]+)(?::\s*|\s+)(?P<value>[^\s/].*)$")
"""What a colon or a space divides where `=` was meant; `http://...` is not so meant."""
_FORMS = "an override is path=value, +path={...} or ~path"
_TAKEN = "overrides are a list of texts `path=value`, one such text, or a mapping {path: value}"

Overrides: TypeAlias = str | Dict[str, Any] | Iterable[str]
"""Changes as Python gives them: a list of `path=value`, one of them, or a mapping from paths to values."""


@dataclass(frozen=True)
class Override:
    """One change: `sign` is '' (set), '+' (add) or '~' (remove); `value` is the text after `=`, not yet read."""

    sign: str
    path: Scalar
    value: Scalar | None
    written: Scalar
    node: Node | None = None
    """The value where it is a node already (a stage's `set`)."""

    def read(self, path: tuple[str, ...]) -> tuple[Node, list[Problem]]:
        """The value as the destination takes it: an expression is raw text, `{...}`, `[...]` and quotes are YAML."""
        if self.node is not None:
            return self.node, []
        assert self.value is not None, "only `~path` has no value"
        raw = path[0] == "graph" or (is_expression(path, self.value) and not self.value.text.startswith("{"))
        if raw or not _FLOW.match(self.value.text):
            return self.value, []
        source, span = self.value.source, self.value.span
        assert source is not None, "arguments are read from a source"
        read = read_value(source, span.line, span.column)
        return (read.node if read.node is not None else Mapping((), span)), read.problems


def is_override(argument: str) -> bool:
    """Tell an override from a blueprint's name, or its file in a folder whose name has a `=`."""
    return (argument[:1] in ("+", "~") or "=" in argument) and not (argument.endswith(_SUFFIXES) and is_file(argument))


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The blueprints' names and the overrides among a command's arguments."""
    names = [argument for argument in arguments if not is_override(argument)]
    return names, [argument for argument in arguments if is_override(argument)]


def override_texts(overrides: Overrides) -> list[str]:
    """Write overrides from Python as they are typed: a list of them, one alone, or a mapping from paths to values.

    Raises:
        UserError: something else, or a value that YAML has no form for.
    """
    given: object = overrides  # whatever the caller's types promise
    if isinstance(given, str):
        return [given]
    if isinstance(given, Dict):
        return [_typed(path, value) for path, value in given.items()]
    if isinstance(given, bytes | bytearray) or not isinstance(given, Iterable):
        raise UserError(f"overrides are {given!r}", hints=(_TAKEN,))
    texts = list(given)
    for text in texts:
        if not isinstance(text, str):
            raise UserError(f"overrides have {text!r}, which is no text", hints=(_TAKEN,))
    return texts


def _typed(path: Any, value: Any) -> str:
    """Type one entry of a mapping: `~path` has no value, a text stands as it would after `=`, all else is YAML."""
    if not isinstance(path, str):
        raise UserError(f"overrides have the path {path!r}, which is no text", hints=(_TAKEN,))
    if path.startswith("~") and value is None:
        return path
    if isinstance(value, PathLike):
        value = fspath(value)
    if isinstance(value, str) and value.strip():
        return f"{path}={value}"
    if not isinstance(value, bool) and isinstance(value, Real):
        return f"{path}={value}"
    try:
        return f"{path}={json.dumps(value, ensure_ascii=False, default=_plain)}"
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"the override {path!r} is {type(value).__name__}: {error}", hints=(_TAKEN,)) from error


def _plain(value: Any) -> Any:
    """Give the text or number that stands for a value inside a list or a mapping."""
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise TypeError(f"{value!r} is no text, number, list or mapping")


def command_line(names: Sequence[str], overrides: Sequence[str]) -> Source:
    """The source that arguments are read from: one line each, names first; a line break inside one becomes a space."""
    lines = [re.sub(r"[\r\n\x85\u2028\u2029]", " ", argument) for argument in (*names, *overrides)]
    return Source(COMMAND_LINE, "\n".join(lines))


def read_arguments(source: Source, first: int) -> tuple[list[Override], list[Problem]]:
    """The overrides in `source` from line `first` on."""
    overrides, problems = [], []
    for number in range(first, len(source.lines) + 1):
        if not source.lines[number - 1].strip():
            continue
        read = _override(source, number)
        if isinstance(read, Problem):
            problems.append(read)
        else:
            overrides.append(read)
    return overrides, problems


def read_settings(mapping: Mapping) -> list[Override]:
    """The overrides of a stage's `set`: keys are paths."""
    return [Override("", entry.key, None, entry.key, entry.value) for entry in mapping]


def _override(source: Source, number: int) -> Override | Problem:
    line = source.lines[number - 1]
    whole = Scalar(line, source.span(number, 1, len(line) + 1), source=source)
    sign = line[0] if line[0] in "+~" else ""
    path, equals, value = line[len(sign) :].partition("=")
    start = len(sign) + 1
    place = _piece(source, number, start, path)
    if sign == "~":
        if equals:
            return Problem("`~path` takes no value", source.span(number, start + len(path)), (_FORMS,))
        return Override(sign, place, None, whole) if path else Problem(_FORMS, whole.span)
    if not path or not equals:
        meant = _SEPARATED.match(path)
        hint = f"`{sign}{meant['path'].replace('/', '.')}={meant['value']}`" if meant else _FORMS
        return Problem(f"`{line}` is no override", whole.span, (hint,))
    if not value.strip():
        at = len(line) + 1
        hint = f"did the shell eat a `$name`? write it in single quotes: '{line}$name'"
        return Problem(f"`{path}=` is empty", Span(source.name, number, at, at + 1), (hint,))
    lead = len(value) - len(value.lstrip())
    return Override(sign, place, _piece(source, number, start + len(path) + 1 + lead, value.strip()), whole)


def _piece(source: Source, number: int, column: int, text: str) -> Scalar:
    return Scalar(text, source.span(number, column, column + max(len(text), 1)), source=source)
