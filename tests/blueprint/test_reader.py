"""Reading YAML: exact places for what the language takes, and a mend for what it leaves out."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compose_vlp.blueprint.nodes import Items, Mapping, Node, Scalar
from compose_vlp.blueprint.reader import MAX_BYTES, read_file, read_text
from compose_vlp.blueprint.render import in_order
from compose_vlp.errors import UserError
from tests.blueprint.conftest import read_problems


def scalar(text: str, *path: str) -> Scalar:
    """The value at a path of a text that has no mistakes."""
    reading = read_text(text, "f.yaml")
    assert not reading.problems
    node: Node | None = reading.root
    for name in path:
        assert isinstance(node, Mapping)
        node = node.get(name)
    assert isinstance(node, Scalar)
    return node


def plain(node: Node) -> object:
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Items):
        return [plain(item) for item in node]
    return {entry.name: plain(entry.value) for entry in node}


# --- places


def test_scalars_stay_the_text_that_was_written() -> None:
    text = "a: 1e-4\nb: no\nc: 010\nd: on\ne: 2001-01-01\nf: ~\ng: 0x10\nh: 1:30\n"
    assert plain(read_text(text, "f.yaml").root) == {
        "a": "1e-4", "b": "no", "c": "010", "d": "on", "e": "2001-01-01", "f": "~", "g": "0x10", "h": "1:30",
    }  # fmt: skip


def test_columns_count_characters_not_bytes() -> None:
    value = scalar("größe: {é: x(ü)}\n", "größe", "é")
    assert (value.span.line, value.span.column, value.span.end_column) == (1, 12, 16)
    assert value.place(2).column == 14


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        ("t: f(a, b)", 5, (1, 9)),
        ("t: 'f(''a'', b)'", 7, (1, 14)),
        ('t: "f(\\"a\\", \\u0062)"', 7, (1, 14)),
        ("t: |\n  f(a,\n    b)\n", 8, (3, 6)),
        ("g:\n  t: |-\n    f(a,\n    b)\n", 5, (4, 5)),
    ],
)
def test_a_character_of_an_expression_has_its_place(text: str, where: int, expected: tuple[int, int]) -> None:
    value = scalar(text, *(["g", "t"] if text.startswith("g") else ["t"]))
    span = value.place(where)
    assert (span.line, span.column) == expected


def test_a_span_across_lines_of_a_block_is_its_first_line() -> None:
    value = scalar("t: |\n  f(a,\n    b)\n", "t")
    span = value.place(0, len(value.text))
    assert (span.line, span.column, span.end_column) == (2, 3, 7)


def test_the_end_of_an_expression_has_a_place() -> None:
    span = scalar("t: f(a", "t").place(4)
    assert (span.column, span.end_column) == (8, 9) or (span.column, span.end_column) == (7, 8)


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("t: f(a)", True),
        ("t: |\n  f(a)", True),
        ("t: f(a,\n  b)", False),
        ("t: >\n  f(a)", False),
        ('t: "a\n  b"', False),
    ],
)
def test_only_one_line_and_literal_scalars_are_exact(text: str, exact: bool) -> None:
    assert scalar(text, "t").is_exact is exact


@given(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cn", "Co"]), min_size=1, max_size=12
    )
)
@settings(max_examples=200, deadline=None)
def test_every_character_of_a_quoted_scalar_is_where_place_says(value: str) -> None:
    single = "k: '" + value.replace("'", "''") + "'"
    double = 'k: "' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    for text in (single, double):
        read = scalar(text, "k")
        assert read.text == value
        for index, character in enumerate(value):
            span = read.place(index)
            assert text[span.column - 1 : span.end_column - 1] in (character, "''", '\\"', "\\\\")


@given(
    st.lists(st.tuples(st.integers(0, 4), st.text("ab(),é", min_size=1, max_size=6)), min_size=1, max_size=4),
    st.integers(0, 2),
    st.integers(1, 4),
    st.sampled_from(["|", "|-", "|+", "|  # why"]),
)
@settings(max_examples=200, deadline=None)
def test_every_character_of_a_literal_block_is_where_place_says(
    rows: list[tuple[int, str]], blanks: int, indent: int, sign: str
) -> None:
    rows = [(0, rows[0][1]), *rows[1:]]  # the first row that is not blank sets the indentation
    body = [""] * blanks + [" " * (indent + more) + row for more, row in rows]
    text = f"a: 1\nt: {sign}\n" + "\n".join(body) + "\nb: 2\n"
    read = scalar(text, "t")
    lines = text.split("\n")
    for index, character in enumerate(read.text):
        if character not in " \n":
            span = read.place(index)
            assert lines[span.line - 1][span.column - 1] == character


# --- what YAML cuts


def test_a_call_in_braces_is_cut_at_the_comma_and_put_together_again() -> None:
    text = "losses:\n  cap: {use: next_token, logits: lm(a, b), weight: 2}\n"
    assert read_problems(text) == [("f.yaml:2:38 ,", "YAML cuts `lm(a, b)` at the comma")]
    reading = read_text(text, "f.yaml")
    assert plain(reading.root) == {"losses": {"cap": {"use": "next_token", "logits": "lm(a, b)", "weight": "2"}}}
    assert reading.problems[0].hints == (
        "inside {} and [] stand names and fields; give the expression a name in `graph`",
    )
    assert reading.whole


@pytest.mark.parametrize(
    ("value", "under", "what"),
    [
        ("f(a, b).cls", ",", "YAML cuts `f(a, b).cls` at the comma"),
        ("f(a, x=b, c)", ",", "YAML cuts `f(a, x=b, c)` at the comma"),
        ("v[neg.image]", "[", "YAML cuts `v[neg.image]` at `[`"),
        ("f(x=[a, b])", "[", "YAML cuts `f(x=[a, b])` at `[`"),
        ('f(a, "b")', ",", 'YAML cuts `f(a, "b")` at the comma'),
        ('f("a: b")', ":", 'YAML cuts `f("a: b")` at `:`'),
        ('f("a # b")', "#", 'YAML cuts `f("a # b")` at `#`'),
    ],
)
def test_every_cut_in_braces_is_one_message_at_the_cut(value: str, under: str, what: str) -> None:
    for text in (f"l: {{a: 1, x: {value}, weight: 2}}", f"l: [1, {value}, 2]"):
        assert read_problems(text) == [(f"f.yaml:1:{text.index(under, text.index(value)) + 1} {under}", what)]
    reading = read_text(f"l: {{a: 1, x: {value}, weight: 2}}\nz: 1", "f.yaml")
    assert plain(reading.root) == {"l": {"a": "1", "x": value, "weight": "2"}, "z": "1"}
    mapping = reading.root.get("l")
    assert isinstance(mapping, Mapping)
    cut = mapping.get("x")
    assert isinstance(cut, Scalar)
    assert cut.is_broken


def test_a_quoted_call_in_braces_is_no_cut() -> None:
    assert read_problems("l: {x: 'f(a, b)', y: \"g(c, d)\"}") == []


@pytest.mark.parametrize(
    ("line", "under", "message"),
    [
        ('a: prompt("a picture of: ", caption)', '"a picture of: "', "YAML ends the value here, at `: `"),
        ('a: prompt("item # 3", caption)', '"item # 3"', "YAML ends the value here, at ` #`"),
        ("a: prompt('x: y', caption)", "'x: y'", "YAML ends the value here, at `: `"),
        ("title: CoCa: captioners", ":", "YAML ends the value here, at `: `"),
    ],
)
def test_an_unquoted_value_that_yaml_ends_early_is_read_whole(line: str, under: str, message: str) -> None:
    reading = read_text(f"{line}\nb: 1\n", "f.yaml")
    assert [p.message for p in reading.problems] == [message]
    span = reading.problems[0].span
    assert span is not None
    assert line[span.column - 1 : span.end_column - 1] == under
    key, _, value = line.partition(": ")
    assert plain(reading.root) == {key: value, "b": "1"}
    quotes_itself = "'" in value
    assert reading.problems[0].hints[0] == (
        "quote the whole value" if quotes_itself else f"quote the whole value: '{value}'"
    )


def test_a_comment_after_an_expression_with_a_sharp_in_it_is_none_of_it() -> None:
    reading = read_text('a: prompt("item # 3", b)  # "why"\n', "f.yaml")
    assert plain(reading.root) == {"a": 'prompt("item # 3", b)'}
    assert len(reading.problems) == 1


@pytest.mark.parametrize(
    "line",
    [
        "title: BLIP's decoder  # it's the third",
        "a: f(b)  # f(",
        "a: 'x # y'",
        "a: f(b  # not closed",
        'a: f("b  # open',
    ],
)
def test_a_comment_after_a_whole_value_is_a_comment(line: str) -> None:
    assert read_problems(line) == []


def test_a_pattern_that_begins_with_a_star_needs_quotes() -> None:
    text = "train: [**.norm, vision]\nfreeze: *.bias\n"
    assert read_problems(text) == [
        ("f.yaml:1:9 **.norm", "a pattern that begins with `*` needs quotes"),
        ("f.yaml:2:9 *.bias", "a pattern that begins with `*` needs quotes"),
    ]
    assert plain(read_text(text, "f.yaml").root) == {"train": ["**.norm", "vision"], "freeze": "*.bias"}


# --- what the language leaves out of YAML


def test_a_key_in_a_list_is_refused() -> None:
    assert read_problems("a: [b, c: d]\n") == [("f.yaml:1:8 c: d", "a list holds values, not keys")]
    assert read_problems("a:\n  - c: d\n  - {c: d}\n") == []


def test_a_key_written_twice_names_the_first_line() -> None:
    text = "a:\n  s: 1\n  t: 2\n\n  t: 3\n"
    assert read_problems(text) == [("f.yaml:5:3 t", "`t` is written twice, first at line 3")]


def test_anchors_merges_aliases_and_tags_point_at_the_sign_and_offer_params() -> None:
    text = "a: &x {b: 1}\nc: {<<: *x}\nd: !!python/object:os.system ls\ne: ! f\n"
    assert [place for place, _ in read_problems(text)] == [
        "f.yaml:1:4 &x", "f.yaml:2:5 <<", "f.yaml:2:9 *x", "f.yaml:3:4 !!python/object:os.system", "f.yaml:4:4 !",
    ]  # fmt: skip
    assert "write a shared value under `params` and read it as `$name`" in read_text(text, "f.yaml").problems[0].hints
    assert not read_text(text, "f.yaml").whole


def test_a_value_with_a_sign_is_not_blamed_twice() -> None:
    assert [scalar.is_broken for scalar in (read_text("a: !!int 3\n", "f.yaml").root.get("a"),)] == [True]  # type: ignore[union-attr]


def test_a_second_document_is_refused() -> None:
    assert read_problems("a: 1\n---\nb: 2\n") == [("f.yaml:2:1 ---", "a second document begins here")]


def test_a_key_that_is_a_list_is_refused() -> None:
    assert read_problems("? [a]\n: b\n") == [("f.yaml:1:3 [a]", "a key is one word")]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a:\n\tb: 1\n\tc: 2\n", "f.yaml:2:1", "a tab indents here (2 lines of this file do)"),
        ("a:\n  \tb: 1\n", "f.yaml:2:3", "a tab indents here"),
        ("a: x\x01\n", "f.yaml:1:5 \x01", "U+0001 is a control character"),
        ("a: é\x00\n", "f.yaml:1:5 \x00", "U+0000 is a control character"),
        ("", "f.yaml:1:1", "f.yaml is empty"),
        ("# nothing\n", "f.yaml:1:1 #", "f.yaml is empty"),
        ("- a\n", "f.yaml:1:1 - a", "a blueprint is a mapping of sections"),
        ("albef\n", "f.yaml:1:1 albef", "a blueprint is a mapping of sections"),
    ],
)
def test_texts_that_are_no_blueprint(text: str, place: str, message: str) -> None:
    assert read_problems(text) == [(place, message)]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: {b: 1\nc: 2\n", "f.yaml:1:4 {", "this `{` is not closed"),
        ('a: "x\nb: 1\n', 'f.yaml:1:4 "', "this quote is never closed"),
        ("a: 1\n b: 2\n", "f.yaml:2:3 :", "a key is not expected here"),
        ("a: @x\n", "f.yaml:1:4 @", "no value begins with this character"),
        ("a: [1, 2}\n", "f.yaml:1:9 }", "`,` or `]` is missing here"),
        ("a:\n  b: 1\n c: 2\n", "f.yaml:3:2 c", "this line does not fit the indentation of the lines above"),
        ("a:\n - b\n c: d\n", "f.yaml:3:2 c", "this line does not fit the indentation of the list above"),
        ('a: "\\q"\n', "f.yaml:1:5 \\", "no such escape in double quotes"),
        ("a: b\nc\n", "f.yaml:2:1 c", "`:` is missing"),
        ("a: {b: [", "f.yaml:1:9", "a value is missing here"),
    ],
)
def test_broken_yaml_is_explained_in_plain_words(text: str, place: str, message: str) -> None:
    assert read_problems(text) == [(place, message)]


def test_all_mistakes_of_a_file_are_found_in_one_go() -> None:
    text = 'a: &x 1\na: 2\nt: [**.norm]\nl: {m: f(a, b)}\ng: prompt("x: y", c)\nq: !t 1\nh: v[i]\nk: {x: v[i]}\n'
    assert [str(problem.span) for problem in in_order(read_text(text, "f.yaml").problems)] == [
        "f.yaml:1:4", "f.yaml:2:1", "f.yaml:3:5", "f.yaml:4:11", "f.yaml:5:11", "f.yaml:6:4", "f.yaml:8:9",
    ]  # fmt: skip


# --- limits


def test_nesting_is_limited_and_cheap_to_refuse() -> None:
    began = time.process_time()  # 10 ms on an idle machine of today
    problems = read_text("a: " + "[" * 400_000, "f.yaml").problems
    assert [problem.message for problem in problems] == ["nested deeper than 32 levels"]
    assert time.process_time() - began < 2


def test_a_yaml_bomb_is_refused_at_once() -> None:
    bomb = "a: &a [x]\n" + "".join(
        f"{c}: &{c} [{', '.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
    )
    problems = read_text(bomb, "f.yaml").problems
    assert all("not part of the language" in problem.message for problem in problems)
    assert len(problems) == 9 + 8 * 9


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("a: 1\n" * (MAX_BYTES // 5 + 1))
    with pytest.raises(UserError, match=r"large.yaml: 1\.0 MB is too large for a blueprint"):
        read_file(path, "large.yaml")


def test_a_file_that_is_not_utf8_is_refused_at_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: é\ntitle: größe\n".encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8: byte 0xe9") as caught:
        read_file(path, "latin.yaml")
    assert str(caught.value.problems[0].span) == "latin.yaml:1:7"


def test_a_byte_order_mark_does_not_shift_columns(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes("\ufeffa: b\n".encode())
    entry = read_file(path).root.entry("a")
    assert entry is not None
    assert entry.key.span.column == 1


def test_lines_end_as_yaml_says(tmp_path: Path) -> None:
    path = tmp_path / "dos.yaml"
    path.write_bytes(b"a: 1\r\nb: 2\rc: 3\n")
    root = read_file(path).root
    assert [entry.key.span.line for entry in root] == [1, 2, 3]


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"no such file|not a file"):
        read_file(tmp_path / name)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "closed.yaml"
    path.write_text("a: 1")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"closed\.yaml: Permission denied"):
        read_file(path, "closed.yaml")


@given(st.text(st.sampled_from("ab:,[]{}()'\"#*&!|>-? \n\t$.=x1%@`<\\"), max_size=60))
@example("---")
@example("---\n")
@example("--- ")
@settings(max_examples=600, deadline=None)
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    for problem in read_text(text, "f.yaml").problems:
        assert problem.span is not None
        assert 1 <= problem.span.line <= text.count("\n") + 1
        assert problem.span.column < problem.span.end_column


def test_a_file_is_read_anew_where_its_text_is_another(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("name: a\nname: b\n")
    first, again = read_file(file, "a.yaml"), read_file(file, "a.yaml")
    assert first == again and len(first.problems) == 1
    first.problems.clear()
    assert len(read_file(file, "a.yaml").problems) == 1, "what a reader does with its list is its own affair"
    assert read_file(file, "b.yaml").root.span.file == "b.yaml"
    file.write_text("name: b\n")
    assert scalar_of(read_file(file, "a.yaml").root) == "b"


def scalar_of(root: Mapping) -> str:
    node = root.get("name")
    assert isinstance(node, Scalar)
    return node.text
