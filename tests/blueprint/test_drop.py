"""What `drop` and `~` take out, and what falls with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.blueprint.show import values
from tests.blueprint.conftest import Resolve, only, pointed, problems_of

FALLEN = "losses.itc, losses.itm, losses.mlm, outputs.text_embedding, outputs.match"


def test_a_pattern_removes_entries_fields_and_sections(child: Resolve) -> None:
    text = "extends: albef\ndrop: [losses.mlm, losses.itc.soft, 'outputs.*_embedding', paper]\n"
    resolution = child(text)
    assert not resolution.problems
    data = values(resolution.document)
    assert list(data["losses"]) == ["itc", "itm"]
    assert "soft" not in data["losses"]["itc"]
    assert list(data["outputs"]) == ["match"]
    assert "paper" not in data


def test_a_dropped_section_is_dropped_entry_by_entry(child: Resolve) -> None:
    resolution = child("extends: vlmo\ndrop: [stages, outputs]\n")
    assert not resolution.problems
    assert not resolution.document.stages
    assert {(entry.section, entry.name) for entry in resolution.document.removed} == {
        ("stages", "language"), ("stages", "pairs"),
        ("outputs", "image_embedding"), ("outputs", "text_embedding"), ("outputs", "match"),
    }  # fmt: skip


def test_drop_acts_before_the_files_own_entries(child: Resolve) -> None:
    text = "extends: albef\ndrop: ['losses.*']\nlosses:\n  itc: {use: contrastive, scores: [i2t, t2i]}\n"
    assert values(child(text).document)["losses"] == {"itc": {"use": "contrastive", "scores": ["i2t", "t2i"]}}


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("losses.itcc", "did you mean 'losses.itc' or 'losses.itm' or 'losses.mlm'?"),
        ("losses.itc.sooft", "did you mean 'losses.itc.soft' or 'losses.mlm.soft' or 'losses.itc.scores'?"),
        ("loses.itc", "did you mean 'losses'?"),
        ("itc", "a path begins with a section: `losses.itm`, `inputs.*`"),
        ("extends", ""),
    ],
)
def test_a_pattern_that_matches_nothing(child: Resolve, pattern: str, hint: str) -> None:
    resolution = child(
        f"extends: albef\ndrop: [losses.mlm, {pattern}]\n".replace("losses.mlm, losses.itc.sooft", "losses.itc.sooft")
    )
    problem = only(resolution)
    assert pointed(problem, resolution.document.lines()).endswith(f" {pattern}")
    assert problem.message == f"`{pattern}` matches nothing"
    if hint:
        assert problem.hints[0].startswith(hint.split(" or ", maxsplit=1)[0].rstrip("?"))


def test_a_pattern_for_what_is_gone_already_says_who_removed_it(child: Resolve) -> None:
    problem = only(child("extends: blip\ndrop: [components.fusion]\n"))
    assert problem.hints[0].endswith("blip.yaml left `components.fusion` unread, so it is gone")


def test_a_dropped_input_that_is_read_lists_what_falls_with_it(child: Resolve) -> None:
    resolution = child("extends: albef\ndrop: [inputs.caption]\n")
    problem = only(resolution)
    assert pointed(problem, resolution.document.lines()) == "child.yaml:2:8 inputs.caption"
    assert problem.message == f"`caption` is still read: with it fall {FALLEN}"
    assert problem.hints == (f"drop those too, here or by overrides: ~{FALLEN.replace(', ', ' ~')}",)
    assert resolution.document.missing == {"caption"}


def test_following_the_hint_mends_it(load: Resolve) -> None:
    overrides = [f"~{path}" for path in FALLEN.split(", ")]
    resolution = load("albef", "~inputs.caption", *overrides)
    assert not resolution.problems
    assert set(resolution.document.names) == {"image", "vision", "image_proj", "v", "image_embedding"}


def test_an_input_dropped_on_the_command_line(load: Resolve) -> None:
    resolution = load("albef", "~caption")
    assert problems_of(resolution) == [("command line:2:2 caption", f"`caption` is still read: with it fall {FALLEN}")]


def test_two_inputs_of_one_pattern_are_one_message(child: Resolve) -> None:
    problem = only(child("extends: coca\ndrop: ['inputs.*']\n"))
    assert problem.message == (
        "`image` and `caption` are still read: with them fall losses.contrastive, losses.captioning, "
        "outputs.image_embedding, outputs.text_embedding, outputs.caption"
    )


def test_a_dropped_teacher_that_is_read_points_at_the_first_reader(child: Resolve) -> None:
    resolution = child("extends: albef\ndrop: [teachers.momentum]\n")
    problem = only(resolution)
    assert pointed(problem, resolution.document.lines()) == "albef.yaml:28:33 momentum"
    assert problem.message == "nothing is called `momentum`: it was dropped at child.yaml:2"
    assert [(label, f"{Path(span.file).name}:{span.line}") for label, span in problem.related] == [
        ("dropped here", "child.yaml:2"),
        ("it stood here", "albef.yaml:22"),
    ]
    assert resolution.document.missing == {"momentum"}


def test_a_dropped_param_that_is_read(load: Resolve) -> None:
    resolution = load("albef", "~alpha")
    assert [message for _, message in problems_of(resolution)] == [
        "nothing is called `$alpha`: it was dropped by an override"
    ]


def test_a_name_that_is_dropped_and_written_again_is_there(child: Resolve) -> None:
    text = (
        "extends: albef\ndrop: [inputs.caption, components.text]\ninputs:\n"
        "  caption: {type: text, tokenizer: bert, max_length: 9}\ncomponents:\n  text: {use: other}\n"
    )
    resolution = child(text)
    assert not resolution.problems
    assert values(resolution.document)["components"]["text"] == {"use": "other"}


def test_an_inherited_stage_forgets_a_dropped_loss_and_an_own_one_may_not_name_it(child: Resolve) -> None:
    assert not child("extends: vlmo\ndrop: [losses.itm]\n").problems
    text = "extends: vlmo\ndrop: [losses.itm]\nstages: {a: {data: pairs, losses: [itc, itc_vl, mlm, text, itm]}}\n"
    resolution = child(text)
    assert [place for place, _ in problems_of(resolution)] == ["child.yaml:3:60 itm"]
