"""The words of an expression: names, numbers, strings and signs, each with its place in the text."""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from compose_vlp.blueprint.nodes import Scalar
from compose_vlp.errors import BlueprintError, Problem


class Token(NamedTuple):
    """One word: `kind` is name, number, string, end, or the sign itself."""

    kind: str
    text: str
    start: int
    end: int


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<name>[^\W\d_]\w*)
      | (?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<sign>[.,()\[\]=$])
    )""",
    re.VERBOSE | re.DOTALL,
)
WHOLE_NUMBER = re.compile(r"-?\d+\Z")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
NOT_HERE = {  # what to say of a character that begins no word
    "{": "a mapping cannot stand in an expression",
    "+": "there is no arithmetic in expressions; `add(a, b)` adds two values",
    "-": "there is no arithmetic in expressions, and a name has no `-`: write `_`",
    "*": "there is no arithmetic in expressions; a loss has a `weight`",
    "/": "there is no arithmetic in expressions",
    ":": "an argument's name is followed by `=`",
    '"': "this string has no end",
    "'": "this string has no end",
    "_": "a name begins with a letter",
}


def tokens(scalar: Scalar) -> list[Token]:
    """All words of an expression, and its end.

    Raises:
        BlueprintError: a character begins none.
    """
    text, at, found = scalar.text, 0, []
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            refuse(scalar, start, start + 1, f"`{text[start]}` does not belong here", NOT_HERE.get(text[start]))
        kind = match.lastgroup
        word, start = match[kind], match.start(kind)
        if kind == "number" and re.match(r"\w", text[match.end() :]):
            stop = match.end() + len(re.match(r"\w*", text[match.end() :])[0])  # type: ignore[index]
            refuse(scalar, start, stop, f"`{text[start:stop]}` is neither a number nor a name", NOT_HERE["_"])
        found.append(Token(word if kind == "sign" else kind, word, start, match.end()))
        at = match.end()
    found.append(Token("end", "", end, end + 1))
    return found


def refuse(scalar: Scalar, start: int, end: int, message: str, hint: str | None = None) -> NoReturn:
    """Raise the mistake at `text[start:end]`."""
    raise BlueprintError([Problem(message, scalar.place(start, end), (hint,) if hint else ())])


def unescape(text: str) -> str:
    r"""What a string's inside says: `\n` is a line break, any other character after a backslash itself."""
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], text)
