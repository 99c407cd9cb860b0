"""A mistake is said once, wherever it is planted: papers are broken word by word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from compose_vlp.blueprint.document import SECTIONS
from compose_vlp.blueprint.nodes import Mapping, Scalar
from compose_vlp.errors import Span
from compose_vlp.graph.language.expressions import Apply, Field, Name, parse, walk
from tests.graph.support import PAPERS, paper, problems

WHOLE = ("coca", "albef", "vlmo", "beit3")  # papers in one file


def _names(name: str) -> Iterator[Span]:
    """Every name, field and argument in the graph."""
    for entry in paper(name).document.graph:
        assert isinstance(entry.value, Scalar)
        for node in walk(parse(entry.value)):
            if isinstance(node, Name):
                yield node.span
            elif isinstance(node, Field):
                yield node.name_span
            elif isinstance(node, Apply) and isinstance(node.callee, Name):
                ports = paper(name).components.get(node.callee.name)
                yield from (argument.span for argument in node.arguments if argument.name and ports is not None)


def _fields(name: str) -> Iterator[Span]:
    """Kinds of components and losses, and the ports of losses."""
    document = paper(name).document
    for section in (document.components, document.losses):
        for entry in section:
            assert isinstance(entry.value, Mapping)
            use = entry.value.get("use")
            assert use is not None
            yield use.span
    for entry in document.losses:
        assert isinstance(entry.value, Mapping)
        yield from (field.key.span for field in entry.value if field.name not in ("use", "weight", "alpha"))


@pytest.mark.parametrize("places", [_names, _fields], ids=["names", "fields"])
@pytest.mark.parametrize("name", WHOLE)
def test_one_wrong_word_is_one_message(name: str, places: object, tmp_path: Path) -> None:
    lines = (PAPERS / f"{name}.yaml").read_text().split("\n")
    file = tmp_path / "broken.yaml"
    spans = sorted(set(places(name)))[::5]  # type: ignore[operator]  # every fifth, for the time that it takes
    assert spans
    for span in spans:
        line = lines[span.line - 1]
        broken = [*lines]
        broken[span.line - 1] = f"{line[: span.column - 1]}zzz{line[span.end_column - 1 :]}"
        file.write_text("\n".join(broken))
        actual = [problem for problem in problems(str(file)) if "nothing reads" not in problem.message]
        assert len(actual) == 1, (broken[span.line - 1], [problem.message for problem in actual])
        assert actual[0].span is not None
        assert actual[0].span.line == span.line


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["albef", "~teachers.momentum"], ["nothing is called `momentum`: it was dropped by an override"]),
        (["albef", "+stages.a={data: pairs, length: 1 epoch, losses: [itd]}", "+data.pairs={use: scenes}"],
         ["no loss is called `itd`"]),
        (["albef", "losses.itc.alpha=$alfa"], ["no param is called `$alfa`"]),
        (["albef", "train=[visiom]"], ["`visiom` matches nothing: no component is called `visiom`"]),
    ],
)  # fmt: skip
def test_what_merging_has_said_is_not_said_again(arguments: list[str], messages: list[str]) -> None:
    assert [problem.message for problem in problems(*arguments)] == messages


@pytest.mark.parametrize("to", ["nearly right", "nothing like it"])
@pytest.mark.parametrize("name", [*WHOLE, "blip"])
def test_a_misspelt_section_is_one_message(name: str, to: str, tmp_path: Path) -> None:
    for file in PAPERS.glob("*.yaml"):
        (tmp_path / file.name).symlink_to(file)
    lines = (PAPERS / f"{name}.yaml").read_text().split("\n")
    for number, line in enumerate(lines):
        word = line.partition(":")[0]
        if word in SECTIONS and len(word) > 3:
            wrong = f"{word[:-2]}{word[-1]}" if to == "nearly right" else "zzzzz"
            (tmp_path / "broken.yaml").write_text(
                "\n".join([*lines[:number], wrong + line[len(word) :], *lines[number + 1 :]])
            )
            actual = problems(str(tmp_path / "broken.yaml"))
            assert [problem.message for problem in actual] == [f"`{wrong}` is not a section of a blueprint"]


def test_a_misspelt_section_hides_no_other_mistake(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "extends: albef\nlossess:\n  itc: {label_smoothing: 2}\nmodels: {a: {use: vit}}\n"
        "components:\n  vision: {dept: 3}\n  9a: {use: vit}\nbatch:\nprecision: fp8\n"
    )
    assert [problem.message.split(":")[0] for problem in problems(str(file))] == [
        "`lossess` is not a section of a blueprint",
        "`label_smoothing` should be less than 1; it is `2`",
        "`models` is not a section of a blueprint",
        "`vit` has no setting `dept`",
        "`9a` is no name for a component",
        "`batch` is empty",
        "`precision` cannot be `fp8`",
    ]
