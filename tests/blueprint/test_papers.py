"""The five papers, a task and a hybrid: read, merged and pruned without a mistake."""

from __future__ import annotations

import pytest

from compose_vlp.blueprint.locate import builtin_names
from compose_vlp.blueprint.resolve import resolve
from tests.blueprint.conftest import PAPERS, Resolve

FIVE = ["coca", "albef", "blip", "vlmo", "beit3"]


@pytest.mark.parametrize("name", [name for name in builtin_names(PAPERS) if not name.startswith("tasks/")])
def test_every_blueprint_that_is_no_task_resolves_alone(load: Resolve, name: str) -> None:
    resolution = load(name)
    assert not resolution.problems
    assert resolution.sound


@pytest.mark.parametrize("paper", FIVE)
def test_the_answer_task_fits_every_paper(load: Resolve, paper: str) -> None:
    document = load(paper, "tasks/vqa_generate").document
    assert document.losses.names == ("vqa",)
    assert document.outputs.names == ("answer", "ranked")
    assert document.stages.names == ("finetune",)
    assert document.name == f"{paper}+vqa_generate"
    assert not document.teachers
    assert set(document.names) >= {"joint", "caption", "question", "answers", "closed"}
    assert not {"masker", "memory", "hard", "i2t", "codebook"} & set(document.names)


def test_blip_keeps_of_albef_what_it_reads(load: Resolve) -> None:
    resolution = load("blip")
    gone = {(entry.section, entry.name) for entry in resolution.document.removed}
    assert gone == {
        ("losses", "mlm"), ("components", "fusion"), ("components", "masker"), ("components", "mlm_head"),
        ("graph", "masked"), ("graph", "guess"), ("graph", "predicted"), ("graph", "taught"),
    }  # fmt: skip
    (note,) = resolution.notes
    assert "blip.yaml leaves unread, so gone: components.fusion, components.masker, components.mlm_head" in note
    assert resolution.document.at("components", "text", "depth").value.text == "12"  # type: ignore[union-attr]
    assert resolution.document.at("components", "vision", "patch").value.text == "16"  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [name for name in builtin_names() if "tasks/" not in name])
def test_the_built_in_blueprints_resolve(name: str) -> None:
    from compose_vlp import registry

    assert not resolve([name], fields_of=registry.fields_of).problems
