"""Which file a name means, and the order in which files are merged."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.blueprint.locate import LIBRARY, builtin_names
from tests.blueprint.conftest import Resolve, only, pointed, problems_of


def stems(resolution) -> list[str]:  # type: ignore[no-untyped-def]
    return [Path(name).stem for name in resolution.document.files]


def test_parents_come_before_children_depth_first_each_once(load: Resolve) -> None:
    resolution = load(
        "d.yaml",
        a="graph: {g: image}\ninputs: {image: {type: image, size: 8}}\noutputs: {o: g}\n",
        b="extends: a.yaml\nx-b: 1\n",
        c="extends: a.yaml\nx-c: 1\n",
        d="extends: [b.yaml, c.yaml]\nname: d\n",
    )
    assert stems(resolution) == ["a", "b", "c", "d"]
    assert not resolution.problems


def test_commands_take_several_names(load: Resolve) -> None:
    assert stems(load("albef", "tasks/vqa_generate")) == ["albef", "vqa_generate"]
    assert stems(load("coca", "hybrids/coca_momentum")) == ["coca", "coca_momentum"]


def test_later_wins(load: Resolve) -> None:
    resolution = load("b.yaml", "a.yaml", a="extends: coca\nx-of: a\n", b="extends: coca\nx-of: b\n")
    entry = resolution.document.at("x-of")
    assert entry is not None
    assert entry.value.text == "a"  # type: ignore[union-attr]


def test_a_list_that_contradicts_the_order_is_refused(child: Resolve) -> None:
    resolution = child("extends: [blip, albef]\n")
    problem = only(resolution)
    assert pointed(problem, resolution.document.lines()) == "child.yaml:1:17 albef"
    assert problem.message == "`albef` comes before `blip`, which is built on it"
    assert not resolution.sound


def test_names_on_the_command_line_are_held_to_the_same_order(load: Resolve) -> None:
    assert problems_of(load("blip", "albef")) == [
        ("command line:2:1 albef", "`albef` comes before `blip`, which is built on it")
    ]


def test_a_second_task_is_refused(load: Resolve) -> None:
    resolution = load("albef", "tasks/vqa_generate", "tasks/retrieval")
    problem = only(resolution)
    assert problem.message == "`retrieval` is a second task: it would clear what `vqa_generate` asks for"
    assert pointed(problem, resolution.document.lines()) == "command line:3:1 tasks/retrieval"


def test_a_task_before_its_paper_is_refused_at_its_drop(child: Resolve) -> None:
    resolution = child("extends: [tasks/vqa_generate, albef]\n")
    problem = only(resolution)
    assert pointed(problem, resolution.document.lines()) == 'vqa_generate.yaml:3:8 "losses.*"'
    assert problem.message.startswith("nothing before ")
    assert problem.message.endswith("tasks/vqa_generate.yaml has losses")
    assert problem.hints == ("a task comes after the paper that it changes: [albef, tasks/vqa_generate]",)
    assert not resolution.sound


def test_a_task_alone_is_refused_in_the_same_words(load: Resolve) -> None:
    assert [message.split()[-1] for _, message in problems_of(load("tasks/vqa_generate"))] == ["losses"]


def test_a_blueprint_cannot_extend_itself(load: Resolve) -> None:
    resolution = load("a.yaml", a="extends: b.yaml\n", b="extends: a.yaml\n")
    assert problems_of(resolution) == [("b.yaml:1:10 a.yaml", "a blueprint cannot extend itself: a -> b -> a")]


def test_a_name_twice_is_refused(load: Resolve) -> None:
    assert problems_of(load("albef", "albef")) == [("command line:2:1 albef", "`albef` is named twice")]


def test_an_unknown_name_offers_near_ones(load: Resolve) -> None:
    resolution = load("albfe")
    assert problems_of(resolution) == [("command line:1:1 albfe", "no blueprint is called 'albfe'")]
    assert resolution.problems[0].hints == ("did you mean 'albef'?",)
    assert not resolution.sound


def test_a_change_that_is_written_as_in_a_file_is_shown_as_an_override(load: Resolve) -> None:
    (problem,) = load("albef", "recompute: [vision]").problems
    assert problem.hints == ("a change is written `recompute=[vision]`",)


def test_an_unknown_parent_is_refused_where_it_is_written(child: Resolve) -> None:
    assert problems_of(child("extends: [albef, nowhere.yaml]\n")) == [
        ("child.yaml:1:18 nowhere.yaml", "no blueprint is called 'nowhere.yaml'")
    ]


def test_a_file_of_this_folder_needs_its_suffix_on_the_command_line(load: Resolve) -> None:
    problem = only(load("mine", mine="extends: coca\n"))
    assert problem.hints[0] == "the file in this folder is 'mine.yaml'"


def test_a_file_beside_comes_before_a_built_in_and_never_means_itself(load: Resolve) -> None:
    mine = {"sub/albef": "extends: albef\nx-mine: 1\n", "sub/child": "extends: albef\n"}
    load("albef")
    for name, text in mine.items():
        path = Path(f"{name}.yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    resolution = load("sub/child.yaml")
    assert resolution.document.files[1:] == ("sub/albef.yaml", "sub/child.yaml")
    assert "x-mine" in resolution.document.root


def test_mistakes_of_all_files_are_found_in_one_go(load: Resolve) -> None:
    resolution = load(
        "child.yaml", parent="extends: albef\nnme: x\n", child="extends: parent.yaml\ninputs: {image: {size: }}\n"
    )
    assert [place for place, _ in problems_of(resolution)] == ["parent.yaml:2:1 nme", "child.yaml:2:18 size"]


def test_a_file_that_is_no_blueprint_stops_the_merge(load: Resolve) -> None:
    resolution = load("child.yaml", parent="- a\n", child="extends: parent.yaml\ngraph: {a: b}\n")
    assert [message for _, message in problems_of(resolution)] == ["a blueprint is a mapping of sections"]
    assert not resolution.sound


def test_the_built_ins_are_found_wherever_the_package_is() -> None:
    assert (LIBRARY / "coca.yaml").is_file()
    assert "coca" in builtin_names()


@pytest.mark.parametrize("name", ["coca.yaml", "./coca.yaml"])
def test_a_path_with_a_suffix_is_a_path_first(load: Resolve, name: str) -> None:
    resolution = load(name, coca="name: mine\ninputs: {i: {type: id}}\noutputs: {o: i}\n")
    assert resolution.document.name == "mine"
    assert resolution.document.files == ("coca.yaml",)
