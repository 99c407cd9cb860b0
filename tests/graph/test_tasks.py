"""Nine tasks crossed with five papers: each fits, or says why not in one line a cause."""

from __future__ import annotations

import pytest

from compose_vlp.errors import BlueprintError
from compose_vlp.graph.types import Flow, LogitsType
from tests.graph.support import FIVE, PAPERS, checked, pointed, problems

LACKS: dict[str, dict[str, list[str]]] = {  # task -> paper -> the name that each mistake is about, in order
    "retrieval": {
        "coca": ["matched", "wrong_image", "wrong_text"],
        "beit3": ["i2t", "t2i", "matched", "wrong_image", "wrong_text"],
    },
    "vqa_generate": {},
    "vqa_classify": {},
    "entailment": {},
    "nlvr2_two_passes": {},
    "nlvr2_one_pass": {"coca": ["v"], "vlmo": ["v"], "beit3": ["v"]},
    "captioning": {"albef": ["logits"], "vlmo": ["logits"], "beit3": ["logits"]},
    "zero_shot": {"beit3": ["similarity"]},
    "grounding": {
        "coca": ["matched", "v", "fusion"],
        "vlmo": ["fusion"],
        "beit3": ["matched", "v", "fusion"],
        "blip": ["fusion"],
    },
}


@pytest.mark.parametrize("task", LACKS)
@pytest.mark.parametrize("paper", FIVE)
def test_a_task_fits_a_paper_or_says_what_is_missing(paper: str, task: str) -> None:
    expected = LACKS[task].get(paper, [])
    actual = problems(paper, f"tasks/{task}")
    assert len(actual) == len(expected), [str(problem) for problem in actual]
    for problem, word in zip(actual, expected, strict=True):
        assert f"`{word}`" in problem.message
        assert problem.span is not None
        assert problem.span.file.endswith(f"tasks/{task}.yaml")


def test_every_task_of_the_folder_is_crossed() -> None:
    assert {path.stem for path in (PAPERS / "tasks").glob("*.yaml")} == {*LACKS, "captioning_by_mask"}


def test_beit3_captions_at_mask_slots_and_keeps_what_it_has_seen() -> None:
    blueprint = checked("beit3", "tasks/captioning_by_mask")
    logits = blueprint.type_of(blueprint.outputs["caption_of"].ref)
    assert isinstance(logits, LogitsType)
    assert logits.reads["caption"] is Flow.PAST
    assert blueprint.outputs["caption_of"].settings.by == "mask"


def test_blip_grounds_through_its_text_tower() -> None:
    blueprint = checked("blip", "tasks/grounding", "outputs.where.through=text")
    assert blueprint.outputs["where"].settings.through == "text"


def test_grounding_names_what_does_look_at_the_image() -> None:
    (problem,) = problems("albef", "tasks/grounding", "outputs.where.through=vision")
    assert problem.message == "`vision` does not look at `v` as a context on the way to `matched`"
    assert problem.hints == ("`fusion` looks at it",)


def test_grounding_without_cross_attention_says_so() -> None:
    (problem,) = problems("vlmo", "tasks/grounding", "outputs.where.through=lower")
    assert problem.hints == ("nothing looks at `v` by cross-attention on the way",)


def test_a_classifier_reads_the_question_wherever_the_paper_reads_its_caption() -> None:
    for paper in FIVE:
        calls = checked(paper, "tasks/vqa_classify").training
        assert {call.target for call in calls if call.role == "input"} == {"image", "question", "wanted"}


def test_answers_have_rows_of_their_own() -> None:
    for paper in FIVE:
        blueprint = checked(paper, "tasks/vqa_generate")
        assert str(blueprint.type_of(blueprint.values["answer_logits"]).rows) == "answers"
        output = blueprint.outputs["ranked"]
        assert (output.form, output.over, output.among) == ("rank", "answers", "closed")


def test_zero_shot_needs_no_training_and_scores_lines_of_the_table() -> None:
    blueprint = checked("albef", "tasks/zero_shot")
    assert not blueprint.training
    scores = blueprint.type_of(blueprint.outputs["class_of"].ref)
    assert str(scores.columns) == "lines of classes"  # type: ignore[attr-defined]


def test_a_task_on_a_paper_that_lacks_its_name_points_into_the_task() -> None:
    with pytest.raises(BlueprintError) as caught:
        checked("albef", "tasks/captioning")
    (problem,) = caught.value.problems
    assert pointed(problem, caught.value.excerpts) == "captioning.yaml:4:13 logits"
    assert problem.message == "nothing is called `logits`"
