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
    "+": "there is no arithmetic in expressions; `add([a, b])` adds values",
    "-": "there is no arithmetic in expressions, and a name has no `-`: write `_`",
    "*": "there is no arithmetic in expressions; a loss has a `weight`",
    "/": "there is no arithmetic in expressions; `average([a, b])` is the mean of values",
    "@": "there is no arithmetic in expressions; a `similarity` component compares vectors",
    "%": "there is no arithmetic in expressions",
    "<": "there are no comparisons in expressions",
    ">": "there are no comparisons in expressions",
    "!": "there are no comparisons in expressions",
    "|": "there are no pipes in expressions; a component is called: `pool(vision(image))`",
    "&": "there is no arithmetic in expressions",
    ";": "an entry of `graph` is one expression; a second one is an entry of its own",
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
    text, at = scalar.text, 0
    words: list[Token] = []
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            _refuse_sign(scalar, start, words)
        kind = match.lastgroup
        word, start = match[kind], match.start(kind)
        if kind == "number" and re.match(r"\w", text[match.end() :]):
            stop = match.end() + len(re.match(r"\w*", text[match.end() :])[0])  # type: ignore[index]
            refuse(scalar, start, stop, f"`{text[start:stop]}` is neither a number nor a name", NOT_HERE["_"])
        words.append(Token(word if kind == "sign" else kind, word, start, match.end()))
        at = match.end()
    words.append(Token("end", "", end, end + 1))
    return words


def _refuse_sign(scalar: Scalar, start: int, before: list[Token]) -> NoReturn:
    """Refuse the character at `start`, which begins no word, with what to write for what was meant."""
    text, sign = scalar.text, scalar.text[start]
    end = start + 2 if text[start : start + 2] in _TWO_SIGNS else start + 1
    hint = NOT_HERE.get(sign)
    terms = _terms(text) if sign == "+" else []
    if terms:
        hint = f"there is no arithmetic in expressions; `add([{', '.join(terms)}])` adds these"
    elif sign == ":" and _in_index(before):
        hint = "there are no slices; `first(x)` is the first position, and a part of a join has its name: `x.words`"
    elif sign == ":" and any(token.text == "lambda" for token in before):
        hint = "there are no functions of one's own; a new operation is a component of a plugin"
    elif sign == "=" or text[start : start + 2] in ("==", "!=", "<=", ">="):
        hint = "there are no comparisons in expressions"
    refuse(scalar, start, end, f"`{text[start:end]}` does not belong here", hint)


_TWO_SIGNS = ("**", "//", "==", "!=", "<=", ">=", "->", ":=", "+=", "-=", "*=", "||", "&&")


def _terms(text: str) -> list[str]:
    """Give what stands between the `+` signs of a sum that is a whole expression; nothing where it is none."""
    parts, depth, begin = [], 0, 0
    bare = _STRING.sub(lambda string: "_" * len(string[0]), text)
    for place, sign in enumerate(bare):
        depth += (sign in "([") - (sign in ")]")
        if sign == "+" and depth == 0:
            parts.append(text[begin:place].strip())
            begin = place + 1
    parts.append(text[begin:].strip())
    sound = len(parts) > 1 and all(parts) and not re.search(r"[-*/@%]", bare) and depth == 0
    return parts if sound and len(text) < _SHORT else []


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_SHORT = 100


def _in_index(before: list[Token]) -> bool:
    """Tell whether the innermost bracket that is open is an index's."""
    opened: list[bool] = []
    for number, token in enumerate(before):
        if token.kind in ("(", "["):
            opened.append(token.kind == "[" and number > 0 and before[number - 1].kind in ("name", ")", "]"))
        elif token.kind in (")", "]") and opened:
            opened.pop()
    return bool(opened) and opened[-1]


def refuse(scalar: Scalar, start: int, end: int, message: str, hint: str | None = None) -> NoReturn:
    """Raise the mistake at `text[start:end]`."""
    raise BlueprintError([Problem(message, scalar.place(start, end), (hint,) if hint else ())])


def unescape(text: str) -> str:
    r"""Resolve a string's escapes: `\n` is a line break, any other character after a backslash itself."""
    return _ESCAPE.sub(lambda escape: "\n" if escape[1] == "n" else escape[1], text)
