"""Every task crossed with every paper, full size and tiny: it fits and its model is built, or what lacks is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import build
from compose_vlp.errors import BlueprintError, Problem

ROOT = Path(__file__).resolve().parents[2] / "blueprints"
PAPERS = ("albef", "blip", "coca")
FULL = (*PAPERS, "vlmo_base", "beit3_base")
SIZES = {
    **dict.fromkeys(("vlmo_base_plus", "vlmo_large", "vlmo_staged"), "vlmo_base"),
    **dict.fromkeys(("beit3_large", "beit3"), "beit3_base"),
}
"""Other sizes, which fit what their base model fits."""
NO_MATCHING = ["matched"]
NO_QUEUE = ["memory", "momentum", "neg", "i2t_m", "t2i_m", "$alpha", "matched", "wrong_image", "wrong_text"]
NO_TEACHER = ["memory", "momentum", "i2t_m", "t2i_m", "$alpha"]
NO_CONTRAST = [*NO_QUEUE[:3], "i2t", "t2i", *NO_QUEUE[3:]]
NO_WORD_HEAD = ["attention", "word_head", "joint"]
OF_THE_PAPER = ("mlm_head", "decoder", "hidden")
"""What lacks in a paper's own entry, which stays for its name is like that of what the task lacks."""
LACKS: dict[str, dict[str, list[str]]] = {  # task -> paper -> the name that each mistake is about, in order
    "captioning": {"albef": ["logits"], "vlmo_base": ["logits"], "beit3_base": ["logits"]},
    "contrastive_retrieval": {"albef": ["memory"], "blip": ["memory"], "beit3_base": ["i2t", "t2i"]},
    "entailment": {},
    "grounding": {
        "blip": ["fusion"],
        # what the task itself changed is shown once, at its own line
        "coca": [*NO_QUEUE[:3], "$alpha", *NO_QUEUE[6:], "i2t_m", "v", "fusion"],
        "vlmo_base": ["memory", "momentum", "$alpha", "i2t_m", "fusion"],
        "beit3_base": [*NO_CONTRAST, "v", "fusion"],
    },
    "image_classification": {
        **{paper: ["seen_alone"] for paper in PAPERS},
        "vlmo_base": ["mlm_head", "seen_alone"],
    },
    "masked_captioning": {
        "albef": [*NO_WORD_HEAD[:2], "written_masker"],  # its captions have no end
        "blip": NO_WORD_HEAD[:2],
        "coca": [*NO_WORD_HEAD[:2], "written_masker"],
        "vlmo_base": NO_WORD_HEAD[:2],
    },
    "matching": {"coca": NO_MATCHING, "beit3_base": NO_MATCHING},
    "nlvr2": {"coca": ["v"], "vlmo_base": ["v"], "beit3_base": ["v"]},
    "nlvr2_two_passes": {},
    "ranked_vqa": {},
    "retrieval": {
        "coca": [*NO_QUEUE[:2], "hard", *NO_QUEUE[3:]],  # what only follows from `hard` is left out: `neg`
        "vlmo_base": NO_TEACHER,
        "beit3_base": [*NO_CONTRAST[:2], "hard", *NO_CONTRAST[3:]],
    },
    "text_assignment": {"coca": ["v"], "vlmo_base": ["v"], "beit3_base": ["v"]},
    "vqa_classify": {},
    "vqa_generate": {},
    "vqa_scores": {},
    "zero_shot_retrieval": {},
}
RECIPES = [  # papers, as their authors fine-tune them
    *[("albef", task) for task in ("entailment", "grounding", "nlvr2", "retrieval", "vqa")],
    *[("vlmo_base", task) for task in ("nlvr2", "vqa")],
    *[
        (paper, task)
        for paper in ("beit3_base", "beit3_large")
        for task in ("captioning", "classification", "nlvr2", "retrieval", "vqa")
    ],
    *[("beit3", f"giant/{task}") for task in ("captioning", "classification", "nlvr2", "retrieval", "vqa")],
    *[(paper, task) for paper in ("vlmo_base_plus", "vlmo_large") for task in ("nlvr2", "vqa")],
    *[(paper, task) for paper in ("blip", "blip_large") for task in ("captioning", "nlvr2", "retrieval", "vqa")],
]
TINY: dict[str, dict[str, list[str]]] = {
    name: LACKS[name]
    for name in (
        *("captioning", "contrastive_retrieval", "entailment", "grounding", "image_classification"),
        *("masked_captioning", "nlvr2", "nlvr2_two_passes", "text_assignment", "vqa_classify", "vqa_generate"),
        "vqa_scores",
    )
} | {
    "contrastive_retrieval": {"beit3_base": ["i2t", "t2i"]},  # batches of 64 divide the small queue
    "image_classification": {**LACKS["image_classification"], "vlmo_base": ["hidden", "mlm_head", "seen_alone"]},
    "retrieval": {"coca": NO_QUEUE, "vlmo_base": NO_TEACHER, "beit3_base": NO_CONTRAST},
}
BASE = {"vlmo": "vlmo_base", "beit3": "beit3_base"}
"""Tiny papers whose full size has another name."""


def crossed(names: list[str], lacks: list[str], file: str) -> None:
    try:
        build(Blueprint.load(*names).check(), device="meta")
        actual: list[Problem] = []
    except BlueprintError as error:
        actual = list(error.problems)
    assert len(actual) == len(lacks), [problem.message for problem in actual]
    for problem, word in zip(actual, lacks, strict=True):
        assert f"`{word}`" in problem.message
        assert problem.span is not None
        assert file in problem.span.file or word in OF_THE_PAPER


@pytest.mark.parametrize("task", LACKS)
@pytest.mark.parametrize("paper", FULL)
def test_a_task_fits_a_paper_or_says_what_is_missing(paper: str, task: str) -> None:
    crossed([paper, f"tasks/{task}"], LACKS[task].get(paper, []), "tasks/")


@pytest.mark.parametrize("task", LACKS)
def test_a_task_that_fits_a_base_model_fits_its_other_sizes(task: str) -> None:
    for size, base in SIZES.items():
        if base not in LACKS[task]:
            build(Blueprint.load(size, f"tasks/{task}").check(), device="meta")


@pytest.mark.parametrize("task", TINY)
@pytest.mark.parametrize("paper", [*PAPERS, *BASE])
def test_a_tiny_task_fits_a_tiny_paper_or_says_what_is_missing(paper: str, task: str) -> None:
    crossed([f"tiny/{paper}", f"tiny/tasks/{task}"], TINY[task].get(BASE.get(paper, paper), []), "tasks/")


@pytest.mark.parametrize(("paper", "task"), RECIPES)
def test_a_papers_own_recipe_fits_it(paper: str, task: str) -> None:
    crossed([paper, f"tasks/{paper.partition('_')[0]}/{task}"], [], "")


def test_every_task_of_the_folders_is_crossed() -> None:
    recipes = {f"{paper.partition('_')[0]}/{task}" for paper, task in RECIPES}
    for folder, tasks in ((ROOT / "tasks", {*LACKS, *recipes}), (ROOT / "tiny" / "tasks", {*TINY})):
        assert {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")} == tasks


def test_blip_grounds_through_its_text_tower() -> None:
    through = ["outputs.where.through=text", "outputs.where.layer=8"]
    blueprint = Blueprint.load("blip", "tasks/grounding", overrides=through).check()
    assert blueprint.outputs["where"].settings.through == "text"
