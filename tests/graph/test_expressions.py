"""The grammar of expressions: what is read, where each piece stands, and what is refused at which place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose_vlp.blueprint.nodes import Mapping, Scalar, Source
from compose_vlp.blueprint.reader import read_text
from compose_vlp.errors import BlueprintError, Span
from compose_vlp.graph.language.expressions import (
    Apply,
    Argument,
    Expression,
    Field,
    Index,
    Literal,
    Name,
    Param,
    Several,
    parse,
    unparse,
    walk,
)


def scalar(text: str) -> Scalar:
    """An expression that begins in column 1 of line 1."""
    source = Source("f.yaml", text)
    return Scalar(text, Span("f.yaml", 1, 1, len(text) + 1), source=source)


def under(text: str, span: Span) -> str:
    return text[span.column - 1 : span.end_column - 1]


@pytest.mark.parametrize(
    "text",
    [
        "v",
        "v.cls",
        "both.vision.tokens",
        "v[neg.image]",
        "image_proj(first(pool_one(visual)))",
        "matched(t=t[neg.text])",
        "momentum.i2t(image_embedding=momentum.image_embedding)",
        "fused(v=[left, right], caption=statement)",
        'begin(caption, "[DEC]")',
        "blend(a, b, ratio=0.5, alpha=$alpha)",
        "join(from=a, in=b)",
        "f()",
        "größe(été)",
    ],
)
def test_reads_and_writes_back(text: str) -> None:
    assert unparse(parse(scalar(text))) == text


def test_spaces_do_not_matter() -> None:
    assert unparse(parse(scalar(" fusion( t ,context = v [ neg . image ] ) "))) == "fusion(t, context=v[neg.image])"


def test_numbers_and_strings_are_typed() -> None:
    node = parse(scalar("f(1, -2, 0.5, 1e-4, 'it\\'s', \"a\\n\")"))
    assert isinstance(node, Apply)
    assert [argument.value.value for argument in node.arguments] == [1, -2, 0.5, 1e-4, "it's", "a\n"]
    assert [type(argument.value.value) for argument in node.arguments] == [int, int, float, float, str, str]


def test_every_node_knows_its_place() -> None:
    text = 'upper(v[neg.image], expert="both", others=[a.cls, $b])'
    places = {unparse(node): under(text, node.span) for node in walk(parse(scalar(text)))}
    assert all(written == place for written, place in places.items())
    assert len(places) == 11


def test_places_count_characters_and_look_through_quotes() -> None:
    reading = read_text('graph:\n  größe: "ä(ö.cls, \\"x\\")"\n', "f.yaml")
    graph = reading.root.get("graph")
    assert isinstance(graph, Mapping)
    value = graph.get("größe")
    assert isinstance(value, Scalar)
    line = reading.source.lines[1]
    pieces = {unparse(node): line[node.span.column - 1 : node.span.end_column - 1] for node in walk(parse(value))}
    assert pieces["ä"] == "ä"
    assert pieces["ö.cls"] == "ö.cls"
    assert pieces['"x"'] == '\\"x\\"'


def test_places_in_a_block_are_those_of_its_lines() -> None:
    reading = read_text("graph:\n  x: |\n    fusion(\n      t,\n      context=v)\n", "f.yaml")
    graph = reading.root.get("graph")
    assert isinstance(graph, Mapping)
    value = graph.get("x")
    assert isinstance(value, Scalar)
    spans = {unparse(node): node.span for node in walk(parse(value))}
    assert (spans["t"].line, spans["t"].column) == (4, 7)
    assert (spans["v"].line, spans["v"].column) == (5, 15)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("f(a", "(", "`(` is never closed: `)` is missing"),
        ("f([a, b)", ")", "`,` or `]` is missing before `)`"),
        ("f(a b)", "b", "`,` or `)` is missing before `b`"),
        ("f(a,", "", "an expression is missing here"),
        ("f(a,)", ")", "an expression is missing here"),
        ("v.", "", "a field's name is missing here"),
        ("v[]", "]", "an expression is missing here"),
        ("[]", "]", "an expression is missing here"),
        ("", "", "an expression is missing here"),
        ("a b", "b", "`b` does not fit here: the expression ends before it"),
        ("a + b", "+", "`+` does not belong here"),
        ("vit-b(x)", "-", "`-` does not belong here"),
        ("f(x) * 2", "*", "`*` does not belong here"),
        ("3x", "3x", "`3x` is neither a number nor a name"),
        ("f('a)", "'", "`'` does not belong here"),
        ("f(a: b)", ":", "`:` does not belong here"),
        ("$", "", "a param's name is missing here"),
        ("t = text(x)", "=", "`=` names an argument, inside brackets"),
        ("f(a=1, a=2)", "a", "argument `a` is given twice"),
        ("f(a=1, b)", "b", "arguments without a name come first"),
        ("_x", "_", "`_` does not belong here"),
        ("{a}", "{", "`{` does not belong here"),
    ],
)
def test_refuses_at_the_place_that_does_not_fit(text: str, place: str, message: str) -> None:
    with pytest.raises(BlueprintError) as caught:
        parse(scalar(text))
    (problem,) = caught.value.problems
    assert problem.message == message
    assert problem.span is not None
    assert under(text, problem.span) == place


def test_says_that_there_is_no_arithmetic() -> None:
    with pytest.raises(BlueprintError) as caught:
        parse(scalar("vit-b(x)"))
    assert "a name has no `-`" in caught.value.problems[0].hints[0]


def test_refuses_what_nests_without_end() -> None:
    with pytest.raises(BlueprintError, match="nested deeper than 50 levels"):
        parse(scalar("f(" * 3000 + "x" + ")" * 3000))


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True)
SPAN = Span("f.yaml", 1, 1, 2)
ATOMS: st.SearchStrategy[Expression] = st.one_of(
    NAMES.map(lambda name: Name(name, SPAN)),
    NAMES.map(lambda name: Param(name, SPAN)),
    st.integers(-(10**6), 10**6).map(lambda number: Literal(number, SPAN)),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: Literal(number, SPAN)),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=8).map(lambda text: Literal(text, SPAN)),
)


def _bigger(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    values = st.one_of(
        NAMES.map(lambda name: Name(name, SPAN)), inner.filter(lambda node: not isinstance(node, Literal))
    )
    named = st.lists(st.tuples(NAMES, inner), max_size=2, unique_by=lambda pair: pair[0])
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda items: Several(tuple(items), SPAN)),
        st.tuples(values, NAMES).map(lambda pair: Field(pair[0], pair[1], SPAN, SPAN)),
        st.tuples(values, inner).map(lambda pair: Index(pair[0], pair[1], SPAN)),
        st.tuples(values, st.lists(inner, max_size=2), named).map(
            lambda three: Apply(
                three[0],
                tuple(Argument(name, value, SPAN) for name, value in [*(("", v) for v in three[1]), *three[2]]),
                SPAN,
            )
        ),
    )


@given(st.recursive(ATOMS, _bigger, max_leaves=12))
def test_what_is_written_back_reads_the_same(expression: Expression) -> None:
    text = unparse(expression)
    assert unparse(parse(scalar(text))) == text
    assert [type(node) for node in walk(parse(scalar(text)))] == [type(node) for node in walk(expression)]


@given(st.text(alphabet="abv.([])=,$\"'0 1-_:é\n", max_size=30))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    try:
        expression = parse(scalar(text))
    except BlueprintError as error:
        spans = [problem.span for problem in error.problems]
    else:
        spans = [node.span for node in walk(expression)]
    assert spans
    assert all(span is not None and span.line >= 1 and span.column < span.end_column for span in spans)
