"""How mistakes look: place, line, carets, other places, hints; in order; none twice."""

from __future__ import annotations

from compose_vlp.blueprint.render import MOST, render
from compose_vlp.errors import Problem, Span
from tests.blueprint.conftest import Resolve

LINES = {"a.yaml": ("name: a", "graph:", "  t: text(captoin)", "\tü: x"), "command line": ("albef", "size=384")}


def test_a_problem_shows_its_line_with_carets_other_places_and_hints() -> None:
    problem = Problem(
        "nothing is called `captoin`",
        Span("a.yaml", 3, 11, 18),
        ("did you mean 'caption'?",),
        (("asked for", Span("command line", 2, 1, 5)), ("named", Span("a.yaml", 1, 1, 5))),
    )
    assert render([problem], LINES) == (
        "a.yaml:3:11: nothing is called `captoin`\n"
        "  3 |   t: text(captoin)\n"
        "    |           ^^^^^^^\n"
        "  asked for at command line: size=384\n"
        "  named at a.yaml:1:1: name: a\n"
        "  = did you mean 'caption'?\n"
        "\n"
        "1 mistake\n"
    )


def test_an_override_is_shown_without_a_line_number() -> None:
    assert render([Problem("no", Span("command line", 2, 1, 5))], LINES) == (
        "command line: no\n   | size=384\n   | ^^^^\n\n1 mistake\n"
    )


def test_a_caret_after_the_end_of_a_line_and_after_a_tab() -> None:
    text = render([Problem("end", Span("a.yaml", 1, 8, 9)), Problem("tab", Span("a.yaml", 4, 2, 3))], LINES)
    assert "  1 | name: a\n    |        ^\n" in text
    assert "  4 |  ü: x\n    |  ^\n" in text


def test_a_problem_without_a_place_or_a_known_line_stands_alone() -> None:
    problems = [Problem("somewhere", Span("gone.yaml", 9, 1, 2)), Problem("nowhere")]
    assert render(problems, LINES) == "nowhere\n\ngone.yaml:9:1: somewhere\n\n2 mistakes\n"


def test_order_is_by_place_and_nothing_is_said_twice() -> None:
    later, earlier = Problem("b", Span("a.yaml", 2, 1, 2)), Problem("a", Span("a.yaml", 1, 3, 4))
    text = render([later, earlier, later, Problem("a", Span("a.yaml", 1, 3, 9))], LINES)
    assert [line for line in text.split("\n") if line.startswith("a.yaml")] == [
        "a.yaml:1:3: a",
        "a.yaml:1:3: a",
        "a.yaml:2:1: b",
    ]
    assert text.endswith("3 mistakes\n")


def test_a_very_long_line_is_cut_around_its_carets() -> None:
    line = "x" * 500 + "HERE" + "y" * 500
    text = render([Problem("long", Span("l.yaml", 1, 501, 505))], {"l.yaml": (line,)})
    shown, carets = (row.partition("| ")[2] for row in text.split("\n")[1:3])
    assert len(shown) == 160
    assert shown[carets.index("^") : carets.rindex("^") + 1] == "HERE"


def test_only_so_many_are_shown() -> None:
    problems = [Problem(f"p{number}", Span("a.yaml", 1, number + 1, number + 2)) for number in range(MOST + 7)]
    text = render(problems, LINES)
    assert text.count("a.yaml:1:") == MOST
    assert text.endswith(f"{MOST + 7} mistakes (7 not shown)\n")


def test_no_mistakes_is_no_text() -> None:
    assert render([], LINES).strip() == ""


def test_five_mistakes_are_five_excerpts(child: Resolve) -> None:
    text = (
        "extends: albef\nnme: x\ngraph:\n  txt: text(previous)\nlosses:\n  l: {use: x, of: f(a, b)}\n"
        "drop: [losses.zz]\n"
    )
    resolution = child(text, "size=3")
    shown = render(resolution.problems, resolution.document.lines())
    assert shown.endswith("5 mistakes\n")
    assert shown.count("^") >= 5
    assert [line.split(":")[1] for line in shown.split("\n") if line.startswith("child.yaml")] == ["2", "4", "6", "7"]
