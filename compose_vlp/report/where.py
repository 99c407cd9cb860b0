"""Conditions on runs: `blueprint=albef_tiny and (retrieval.mean_recall>0.5 or not status=FINISHED)`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.report.runs import FACTS, Cell, RunRow

Condition: TypeAlias = Callable[[RunRow], bool]

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<sign><=|>=|!=|==|=|<|>|\(|\))|(?P<quoted>'[^']*'|"[^"]*")|(?P<word>[^\s()<>=!'"]+))"""
)
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EXAMPLE: Final = "a condition looks like `blueprint=albef_tiny and retrieval.mean_recall>0.5`"


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def select(rows: Sequence[RunRow], text: str) -> list[RunRow]:
    """Keep the runs that fulfil a condition; a comparison with a value that a run does not have is not fulfilled.

    Names are the facts of `FACTS`, scores (`retrieval.mean_recall`) and settings of the blueprint by path
    (`stages.pretrain.batch`). Words are joined by `and`, `or`, `not` and parentheses; `and` binds more closely.

    Raises:
        UserError: what is no condition, or a name that none of the runs has.
    """
    reader = _Reader(_tokens(text))
    condition = reader.condition()
    know(rows, reader.names)
    return [row for row in rows if condition(row)]


class _Reader:
    """Reads a condition from its tokens, from left to right."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = list(tokens)
        self.names: list[str] = []

    def condition(self) -> Condition:
        whole = self._any()
        if self._tokens:
            raise _wrong(f"{self._tokens[0].text!r} stands where the condition should end")
        return whole

    def _any(self) -> Condition:
        parts = [self._all()]
        while self._takes("or"):
            parts.append(self._all())
        return lambda row: any(part(row) for part in parts)

    def _all(self) -> Condition:
        parts = [self._single()]
        while self._takes("and"):
            parts.append(self._single())
        return lambda row: all(part(row) for part in parts)

    def _single(self) -> Condition:
        if self._takes("not"):
            denied = self._single()
            return lambda row: not denied(row)
        if self._takes("("):
            inner = self._any()
            if not self._takes(")"):
                raise _wrong("a parenthesis is not closed")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        name = self._next("word", "a name").text
        sign = self._next("sign", f"a comparison after {name!r}").text
        if sign not in _COMPARE:
            raise _wrong(f"{sign!r} stands where a comparison was expected, after {name!r}")
        value = self._next("word quoted", f"a value after {name}{sign}")
        self.names.append(name)
        asked = _read(value)
        return lambda row: _holds(row.value(name), sign, asked, value.text)

    def _takes(self, text: str) -> bool:
        if self._tokens and self._tokens[0].kind != "quoted" and self._tokens[0].text == text:
            del self._tokens[0]
            return True
        return False

    def _next(self, kinds: str, expected: str) -> _Token:
        if not self._tokens:
            raise _wrong(f"the condition ends where {expected} was expected")
        if self._tokens[0].kind not in kinds.split():
            raise _wrong(f"{self._tokens[0].text!r} stands where {expected} was expected")
        return self._tokens.pop(0)


def _tokens(text: str) -> list[_Token]:
    tokens, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise _wrong(f"{text[place:].strip()!r} cannot be read")
        tokens.append(_Token(match.lastgroup, match[match.lastgroup]))
        place = match.end()
    return tokens


def _read(token: _Token) -> Cell:
    if token.kind == "quoted":
        return token.text[1:-1]
    if token.text in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[token.text]
    try:
        return float(token.text)
    except ValueError:
        return token.text


def _holds(value: Cell, sign: str, asked: Cell, text: str) -> bool:
    """Compare numbers as numbers, and all else as it is written: `started>2026` compares texts."""
    if value is None or asked is None:
        return {"=": value is asked, "==": value is asked, "!=": value is not asked}.get(sign, False)
    if isinstance(value, str) or isinstance(asked, str):
        return _COMPARE[sign](str(value), text[1:-1] if text[:1] in "'\"" else text)
    return _COMPARE[sign](value, asked)


def know(rows: Sequence[RunRow], names: Iterable[str]) -> None:
    """Refuse names that no run has; of no runs at all nothing is known."""
    for name in names:
        if not rows or name in FACTS or any(name in row.scores or name in row.settings for row in rows):
            continue
        scores = {score for row in rows for score in row.scores}
        near = did_you_mean(name, {*FACTS, *scores, *(path for row in rows for path in row.settings)})
        measured = f"measured: {', '.join(sorted(scores))}" if scores else "none of them has been measured"
        raise UserError(f"no run has {name!r}", hints=near or (f"every run has {', '.join(FACTS)}; {measured}",))


def _wrong(what: str) -> UserError:
    return UserError(f"--where: {what}", hints=(_EXAMPLE,))
