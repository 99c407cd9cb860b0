"""Every value has a row space; ports agree on it, and nothing gathers or moves rows by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compose_vlp.errors import Problem
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Ref
from compose_vlp.graph.types import IndexType, RowSpace
from tests.graph.support import SMALL, checked, edited, paper, problems

Child = Callable[..., CheckedBlueprint]
Only = Callable[..., Problem]


def test_a_gathered_value_has_the_rows_of_all_processes() -> None:
    coca = paper("coca")
    assert coca.type_of(coca.values["i2t"]).shape() == ("main", "gathered main")


def test_an_index_of_a_gathered_similarity_needs_a_gathered_value(only: Only) -> None:
    problem = only("extends: vlmo\ngraph:\n  wrong_text: matched(caption=caption[neg.text])\n")
    assert problem.message == "`neg.text` points at rows of gathered main, and `caption` has rows of main"
    assert problem.hints == ("it chose among the rows of all processes: `gathered(caption)[neg.text]`",)


def test_an_index_within_the_batch_takes_no_gathered_value(only: Only) -> None:
    problem = only("extends: albef\ngraph:\n  wrong_text: matched(caption=gathered(caption)[neg.text])\n")
    assert problem.message == "`neg.text` points at rows of main, and `gathered(caption)` has rows of gathered main"


def test_many_answers_have_rows_of_their_own_and_owners() -> None:
    blueprint = checked("albef", "tasks/vqa_generate")
    owner = blueprint.type_of(dict(blueprint.calls["answer_logits.asked"].args)["index"])  # type: ignore[arg-type]
    assert owner == IndexType(
        RowSpace("answers", owner="main"), points_at=RowSpace("main"), origins=frozenset({"answers"})
    )
    assert str(blueprint.type_of(blueprint.values["asked"]).rows) == "main"


def test_a_context_on_other_rows_is_offered_the_owner() -> None:
    (problem,) = problems("albef", "tasks/vqa_generate", "answer_logits=answer_head(answerer(answers, context=asked))")
    assert problem.message == "rows of `asked` are main, those of `answers` are answers"
    assert problem.hints == ("`asked[answers.owner]` has one row for each of answers",)


def test_towers_of_two_sources_do_not_meet(only: Only) -> None:
    wrong = "  mixed: backbone(join(vision=patches_of(lone_image), language=words)).cls\n"
    problem = only(f"extends: beit3\ngraph:\n{wrong}outputs:\n  mixed_of: mixed\n")
    assert problem.message == "rows of `words` are main, those of `patches_of(lone_image)` are images"


def test_scores_of_one_loss_have_the_same_columns(only: Only) -> None:
    problem = only(edited(SMALL, ("i2t: compare(ie, gathered(te))", "i2t: compare(ie, te)")))
    assert problem.message == "columns of `t2i` are gathered main, those of `i2t` are main"


def test_a_table_has_rows_that_templates_share() -> None:
    blueprint = checked("coca", "tasks/zero_shot")
    assert str(blueprint.type_of(blueprint.values["of_class"]).rows) == "lines of classes"


def test_what_has_no_rows_is_not_indexed(only: Only) -> None:
    problem = only("extends: albef\ngraph:\n  wrong_text: matched(t=[t, t][neg.text])\n")
    assert problem.message == "`[t, t]` is a list, which has no rows"


@pytest.mark.parametrize("name", ["id", "wanted"])
def test_ids_and_labels_are_numbers_of_each_row(child: Child, name: str) -> None:
    kind = {"id": "id", "wanted": "label"}[name]
    blueprint = child(f"extends: albef\ninputs:\n  {name}: {{type: {kind}}}\nlosses:\n  itc: {{same: {name}}}\n")
    assert blueprint.calls[name].type.kind == "Number"
    assert blueprint.calls["keys"].arg("id") == Ref(name), "the queue behind the columns carries them"
    assert blueprint.calls["losses.itc"].arg("same") == Ref("keys", ("id",))
