"""The language of expressions: `image_proj(v.cls)`, `v[neg.image]`, `matched(t=t[neg.text])`, `[left, right]`.

    expr = atom { "." name | "[" expr "]" | "(" [arg {"," arg}] ")" }      arg  = [name "="] expr
    atom = name | "$" name | number | string | "[" expr {"," expr} "]"     name = letter { letter | digit | "_" }

A parser of our own: Python's `ast` counts columns in UTF-8 bytes, cannot read `from=` or `in=` as arguments' names,
and takes `vit-b(x)` for a subtraction. Every node knows its place in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from compose_vlp.blueprint.nodes import Scalar
from compose_vlp.blueprint.scalars import LARGEST_INT
from compose_vlp.errors import BlueprintError, Problem, Span
from compose_vlp.graph.language.tokens import NOT_HERE, WHOLE_NUMBER, Token, refuse, tokens, unescape

MAX_DEPTH = 50
"""Nesting beyond this is refused: no person writes it, and reading it would exhaust Python's stack."""

MAX_FOLLOWED = 20
"""The same for `x.a[b](c)...`, each of which is a level inside the next one."""
_INNER = "give inner values names in `graph`"


@dataclass(frozen=True)
class Name:
    """A name of the namespace, or `previous`."""

    name: str
    span: Span


@dataclass(frozen=True)
class Param:
    """`$name`."""

    name: str
    span: Span


@dataclass(frozen=True)
class Literal:
    """A number or a string."""

    value: int | float | str
    span: Span


@dataclass(frozen=True)
class Several:
    """`[a, b]`: a list for a port that takes several values."""

    items: tuple[Expression, ...]
    span: Span


@dataclass(frozen=True)
class Field:
    """`value.name`; `name_span` is the name's place."""

    value: Expression
    name: str
    name_span: Span
    span: Span


@dataclass(frozen=True)
class Index:
    """`value[index]`."""

    value: Expression
    index: Expression
    span: Span


@dataclass(frozen=True)
class Argument:
    """One argument of an application; `name` is empty where it goes by position."""

    name: str
    value: Expression
    span: Span
    """The name's place where there is a name, else the value's."""


@dataclass(frozen=True)
class Apply:
    """`callee(arguments)`; `callee` is a `Name`, or a `Field` of a teacher's name."""

    callee: Expression
    arguments: tuple[Argument, ...]
    span: Span


Expression: TypeAlias = Name | Param | Literal | Several | Field | Index | Apply


def parse(scalar: Scalar) -> Expression:
    """Read an expression.

    Raises:
        BlueprintError: the text is none; points at the first place that does not fit.
    """
    return _Parser(scalar).whole()


def unparse(expression: Expression) -> str:
    """The expression as text, spaced as this project writes it."""
    match expression:
        case Name(name):
            return name
        case Param(name):
            return f"${name}"
        case Literal(value):
            return _quote(value) if isinstance(value, str) else repr(value)
        case Several(items):
            return f"[{', '.join(map(unparse, items))}]"
        case Field(value, name):
            return f"{unparse(value)}.{name}"
        case Index(value, index):
            return f"{unparse(value)}[{unparse(index)}]"
        case Apply(callee, arguments):
            written = (f"{a.name}={unparse(a.value)}" if a.name else unparse(a.value) for a in arguments)
            return f"{unparse(callee)}({', '.join(written)})"


def children(expression: Expression) -> Iterator[Expression]:
    """The expressions directly inside, in the order in which they are written."""
    match expression:
        case Several(items):
            yield from items
        case Field(value):
            yield value
        case Index(value, index):
            yield value
            yield index
        case Apply(callee, arguments):
            yield callee
            for argument in arguments:
                yield argument.value
        case _:
            return


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and all inside it, outermost first."""
    yield expression
    for child in children(expression):
        yield from walk(child)


_PYTHON = ("if", "else", "for", "in", "is", "and", "or", "not", "return", "as", "await", "import")
_NO_SLICES = "there are no slices; `first(x)` is the first position"


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


# --- grammar ------------------------------------------------------------------------------------------------------


class _Parser:
    def __init__(self, scalar: Scalar) -> None:
        self.scalar = scalar
        self.tokens = tokens(scalar)
        self.at = 0
        self.depth = 0

    def whole(self) -> Expression:
        if self.peek.kind == "end":
            self.refuse("an expression is missing here")
        expression = self.expression()
        if self.peek.kind == "=":
            if self.tokens[self.at + 1].kind == "=":
                self.refuse("`==` does not belong here", "there are no comparisons in expressions")
            self.refuse("`=` names an argument, inside brackets", "a graph entry's own name stands before the colon")
        if self.peek.kind != "end":
            self.refuse(f"`{self.peek.text}` does not fit here: the expression ends before it", self._after())
        return expression

    def expression(self) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.refuse(f"nested deeper than {MAX_DEPTH} levels", _INNER)
        start, followed = self.peek.start, 0
        value = self.atom()
        while self.peek.kind in (".", "[", "("):
            followed += 1
            if followed > MAX_FOLLOWED:
                self.refuse(f"more than {MAX_FOLLOWED} fields, indices and calls in a row", _INNER)
            sign = self.take(self.peek.kind)
            if sign.kind == ".":
                name = self.take("name", "a field's name")
                value = Field(value, name.text, self.place(name), self.span(start))
            elif sign.kind == "[":
                index = self.expression()
                self.close("]", sign)
                value = Index(value, index, self.span(start))
            else:
                arguments = self.arguments(sign)
                value = Apply(value, arguments, self.span(start))
        self.depth -= 1
        return value

    def atom(self) -> Expression:
        token = self.peek
        if token.kind == "name":
            return Name(token.text, self.place(self.take("name")))
        if token.kind == "number":
            self.take("number")
            is_whole, number = WHOLE_NUMBER.match(token.text) is not None, float(token.text)
            if abs(number) >= (LARGEST_INT if is_whole else float("inf")):
                refuse(self.scalar, token.start, token.end, f"`{token.text}` is too large a number")
            number = int(token.text) if is_whole else number
            return Literal(number, self.place(token))
        if token.kind == "string":
            self.take("string")
            return Literal(unescape(token.text[1:-1]), self.place(token))
        if token.kind == "$":
            self.take("$")
            name = self.take("name", "a param's name")
            return Param(name.text, self.span(token.start))
        if token.kind == "[":
            return self.several()
        return self.refuse("an expression is missing here")

    def several(self) -> Several:
        opened = self.take("[")
        items = [self.expression()]
        while self.peek.kind == ",":
            self.take(",")
            items.append(self.expression())
        self.close("]", opened)
        return Several(tuple(items), self.span(opened.start))

    def arguments(self, opened: Token) -> tuple[Argument, ...]:
        arguments: list[Argument] = []
        more = self.peek.kind != ")"
        while more:
            argument = self.argument()
            if argument.name and any(argument.name == other.name for other in arguments):
                raise BlueprintError([Problem(f"argument `{argument.name}` is given twice", argument.span)])
            if not argument.name and arguments and arguments[-1].name:
                hint = f"`{arguments[-1].name}=` stands before it"
                raise BlueprintError([Problem("arguments without a name come first", argument.span, (hint,))])
            arguments.append(argument)
            more = self.peek.kind == ","
            if more:
                self.take(",")
        self.close(")", opened)
        return tuple(arguments)

    def argument(self) -> Argument:
        if self.peek.kind == "name" and self.tokens[self.at + 1].kind == "=":
            name = self.take("name")
            self.take("=")
            return Argument(name.text, self.expression(), self.place(name))
        value = self.expression()
        return Argument("", value, value.span)

    # --- tokens and places

    @property
    def peek(self) -> Token:
        return self.tokens[self.at]

    def take(self, kind: str, expected: str = "") -> Token:
        token = self.peek
        if token.kind != kind:
            self.refuse(f"{expected or f'`{kind}`'} is missing here")
        self.at += 1
        return token

    def close(self, sign: str, opened: Token) -> None:
        if self.peek.kind == "end":
            refuse(self.scalar, opened.start, opened.end, f"`{opened.text}` is never closed: `{sign}` is missing")
        if self.peek.kind != sign:
            if sign == "]" and self.peek.kind == "," and self._is_index(opened):
                self.refuse("an index is one value", _NO_SLICES)
            self.refuse(f"`,` or `{sign}` is missing before `{self.peek.text}`", self._after())
        self.at += 1

    def place(self, token: Token) -> Span:
        return self.scalar.place(token.start, token.end)

    def span(self, start: int) -> Span:
        """From `start` to the end of the token taken last."""
        return self.scalar.place(start, self.tokens[self.at - 1].end)

    def refuse(self, message: str, hint: str | None = None) -> NoReturn:
        refuse(self.scalar, self.peek.start, self.peek.end, message, hint)

    def _after(self) -> str | None:
        """Say what is wrong with two names in a row that look like one with a sign between them."""
        before, here = self.tokens[self.at - 1] if self.at else None, self.peek
        if here.kind == "number" and here.text.startswith("-"):
            return NOT_HERE["-"]
        if here.kind == "string" and before is not None and before.text in ("f", "r", "b", "rf", "fr"):
            return 'a string is only quoted; `prompt("a picture of ", caption)` puts words before a text'
        if before is not None and before.text == "lambda":
            return "there are no functions of one's own; a new operation is a component of a plugin"
        if here.text in _PYTHON:
            return f"there is no `{here.text}` in expressions"
        if here.kind in (")", "]"):
            return f"this `{here.text}` closes nothing"
        if here.kind == ",":
            return "an entry is one expression; several values are a list: `[a, b]`"
        if here.kind == "name" and before is not None and before.kind == "name":
            return f"a component is called with brackets: `{before.text}({here.text})`"
        return None

    def _is_index(self, opened: Token) -> bool:
        at = self.tokens.index(opened)
        return at > 0 and self.tokens[at - 1].kind in ("name", ")", "]")
