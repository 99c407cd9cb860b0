"""Which names an expression reads, without parsing it: enough to know what is still wanted after a merge.

The grammar proper is `compose_vlp.graph`'s. This scan knows strings, numbers, fields, argument names and `$params`,
and is right on every expression that parses.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<param>\$[^\W\d_]\w*)
    |(?P<name>[^\W\d_]\w*)
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A piece of an expression: `kind` is space, string, number, param, name or sign; places count from 0."""

    kind: str
    text: str
    start: int
    end: int


class Read(NamedTuple):
    """A name that an expression reads, at `text[start:end]`.

    `fields` are what follows after dots (`momentum.predicted` reads `momentum` with the field `predicted`), `called`
    whether an argument list follows, `is_param` whether it was written `$name` (`name` is without the sign).
    """

    name: str
    start: int
    end: int
    fields: tuple[str, ...] = ()
    called: bool = False
    is_param: bool = False


def tokens(text: str) -> list[Token]:
    """All tokens of an expression but its spaces; a character of no token is a sign."""
    every = (Token(m.lastgroup or "sign", m[0], m.start(), m.end()) for m in _TOKEN.finditer(text))
    return [token for token in every if token.kind != "space"]


@lru_cache(maxsize=4096)
def names_read(text: str) -> tuple[Read, ...]:
    """The names read by an expression, in order; argument names, fields, strings and numbers are none."""
    reads: list[Read] = []
    stream = tokens(text)
    depth = 0
    for index, token in enumerate(stream):
        before = stream[index - 1].text if index else ""
        after = stream[index + 1].text if index + 1 < len(stream) else ""
        depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
        if token.kind == "param":
            reads.append(Read(token.text[1:], token.start, token.end, is_param=True))
        elif token.kind == "name" and before != "." and not (after == "=" and before in ("(", ",") and depth > 0):
            fields, following = _fields(stream, index + 1)
            reads.append(Read(token.text, token.start, token.end, fields, following == "("))
    return tuple(reads)


def _fields(stream: list[Token], index: int) -> tuple[tuple[str, ...], str]:
    """The fields from `index` on, and the sign after them."""
    fields: list[str] = []
    while index + 1 < len(stream) and stream[index].text == "." and stream[index + 1].kind == "name":
        fields.append(stream[index + 1].text)
        index += 2
    return tuple(fields), stream[index].text if index < len(stream) else ""
