"""The paper's figures beside what is built."""

from __future__ import annotations

import pytest

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.reader import read_text
from compose_vlp.compiler.figures import Figure, figures
from compose_vlp.errors import UserError


def document(paper: str) -> Document:
    text = f"components:\n  vision: {{use: vit}}\n  text: {{use: vit}}\nx-paper: {paper}\n"
    return Document(read_text(text, "test").root)


def test_components_are_summed_and_compared() -> None:
    (figure,) = figures(
        document("{parameters: {both: {components: [vision, text], count: 86M}}}"),
        {"vision": 80_000_000, "text": 6_100_000, "other": 5},
    )
    assert (figure.label, figure.built, figure.printed) == ("both", 86_100_000, "86M")
    assert figure.ratio == pytest.approx(86.1 / 86)
    assert figure.agrees


@pytest.mark.parametrize(
    ("built", "printed", "agrees"),
    [
        (1_011_740_288, "1B", True),  # 1.2 % off, and printed as 1B
        (1_100_000_000, "1B", True),  # as far as one digit tells
        (1_500_000_001, "1B", False),
        (382_000_000, "383M", True),
        (370_000_000, "383M", False),
        (990, "1.0K", True),
    ],
)
def test_figure_agrees_within_a_percent_or_as_printed(built: int, printed: str, agrees: bool) -> None:
    assert Figure("x", ("x",), built, printed).agrees is agrees


def test_blueprint_without_figures_has_none() -> None:
    assert figures(document("{anything: else}"), {}) == ()


@pytest.mark.parametrize(
    ("paper", "says"),
    [
        ("{parameters: 86M}", "x-paper.parameters is a mapping of figures"),
        ("{parameters: {a: {components: [vision]}}}", "figure `a` has no count"),
        ("{parameters: {a: {components: [vision], count: many}}}", "figure `a` has no count"),
        ("{parameters: {a: {components: [visoin], count: 1M}}}", "names `visoin`, which is no component"),
        ("{parameters: {a: {count: 1M}}}", "names no components"),
    ],
)
def test_malformed_figure_is_the_user_s_mistake(paper: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        figures(document(paper), {})
    (problem,) = caught.value.problems
    assert problem.span is not None
    assert "components: [vision]" in problem.hints[0]


PATHS = {"vision.experts.vision.fc1": 5, "vision.experts.text.fc1": 7, "text.experts.vision.fc1": 11, "text.norm": 13}


def test_patterns_count_parameters_by_their_paths() -> None:
    paper = "{parameters: {v: {match: ['**.experts.vision'], count: 16}, t: {match: [text.norm, vision], count: 25}}}"
    first, second = figures(document(paper), {}, lambda: PATHS)
    assert (first.built, first.components, second.built) == (16, ("**.experts.vision",), 25)
    assert first.agrees and second.agrees


@pytest.mark.parametrize(
    ("figure", "says"),
    [
        ("{match: ['**.experts.audio'], count: 1}", r"names no parameter by `\*\*\.experts\.audio`"),
        ("{match: text, count: 1}", "`match` of x-paper figure `a` is a list"),
        ("{match: [text], components: [text], count: 1}", "one of `components` and `match`"),
    ],
)
def test_patterns_that_name_nothing_are_the_user_s_mistake(figure: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        figures(document(f"{{parameters: {{a: {figure}}}}}"), {}, lambda: PATHS)
    assert caught.value.problems[0].span is not None
