"""Cells are checked before anything runs: each mistake once, at its place in the sweep's file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from compose_vlp.errors import BlueprintError, Problem
from compose_vlp.sweep.document import Sweep
from compose_vlp.sweep.plan import plan

Written = Callable[..., Sweep]


def mistakes(sweep: Sweep) -> tuple[Problem, ...]:
    with pytest.raises(BlueprintError) as caught:
        plan(sweep)
    return caught.value.problems


def test_cells_are_resolved_with_their_words(written: Written) -> None:
    sweep = written("vary: {teacher: {off: [], on: [hybrids/coca_momentum]}}", "budget: {steps: 9}")
    planned = plan(sweep)
    assert [cell.name for cell in planned.cells] == ["baseline", "teacher=on"]
    on = planned.cells[1].blueprint.check()
    assert "momentum" in on.teachers
    assert str(on.stages["pretrain"].length) == "9 steps"
    assert planned.cells[1].words[-1] == "stages.pretrain.length=9 steps"
    assert any("no interval" in note for note in planned.notes), "one seed is told"


def test_a_change_of_the_base_gives_way_to_a_level(written: Written) -> None:
    sweep = written("vary: {size: {small: [], large: [data.pairs.count=48]}}")
    assert "data.pairs.count=24" in plan(sweep).cells[0].words
    assert "data.pairs.count=24" not in plan(sweep).cells[1].words


def test_changes_of_the_base_within_what_a_level_removes_give_way(written: Written) -> None:
    changed = ["tiny/coca", "losses.captioning.weight=3", "losses.contrastive.weight=2"]
    lost = "captions: {on: [], off: ['~losses.captioning', 'stages.pretrain.losses=[contrastive]', '~outputs.caption']}"
    sweep = written(f"vary: {{{lost}}}", base=f"base: [{', '.join(changed)}]")
    on, off = (cell.words for cell in plan(sweep).cells)
    assert "losses.captioning.weight=3" in on
    assert "losses.captioning.weight=3" not in off
    assert "losses.contrastive.weight=2" in off, "what is not within it stays"


def test_a_level_may_not_change_what_the_base_removes(written: Written) -> None:
    sweep = written(
        "vary: {size: {small: [], large: [stages.pretrain.batch=6]}}",
        base="base: [tiny/coca, ~stages.pretrain, losses.captioning.weight=3]",
    )
    assert any("two overrides of `stages.pretrain" in problem.message for problem in mistakes(sweep))


def test_an_unknown_path_is_told_once_where_it_stands(written: Written) -> None:
    (problem,) = mistakes(written("vary: {'components.vision.dept': [1, 2]}"))
    assert problem.message == "component `vision` has no field `dept` (cells baseline; components.vision.dept=2)"
    assert str(problem.span) == "question.yaml:3:9"
    assert "did you mean 'depth'" in problem.hints[0]


def test_a_wrong_value_is_told_at_the_value(written: Written) -> None:
    (problem,) = mistakes(written("vary: {'components.vision.heads': [4, many]}"))
    assert str(problem.span) == "question.yaml:3:39"
    assert "(cell components.vision.heads=many)" in problem.message


def test_levels_that_contradict_each_other_are_told_with_both_places(written: Written) -> None:
    (problem,) = mistakes(
        written("vary:", "  a: {x: [], y: [data.pairs.count=30]}", "  b: {p: [], q: [data.pairs.count=36]}")
    )
    assert problem.message == "two overrides of `data.pairs.count` (cell a=y, b=q)"
    assert str(problem.span) == "question.yaml:5:18"
    assert [str(span) for _, span in problem.related] == ["question.yaml:4:18"]


def test_a_budget_names_the_stages_of_models_that_call_them_otherwise(written: Written) -> None:
    models = "vary: {model: {coca: [tiny/coca], vlmo: [tiny/vlmo]}}"
    cells = plan(
        written(models, "budget: {steps: 7, stage: [pretrain, pairs]}", base="base: [data.pairs.count=24]")
    ).cells
    assert [cell.stage for cell in cells] == ["pretrain", "pairs"]
    (problem, *_) = mistakes(
        written(models, "budget: {steps: 7, stage: [one, two]}", base="base: [data.pairs.count=24]")
    )
    assert problem.message.startswith("no stage is called `one` or `two`")


def test_a_contradiction_of_the_budget_is_told(written: Written) -> None:
    (problem,) = mistakes(written("vary: {'stages.pretrain.length': [3 steps, 5 steps]}", "budget: {steps: 9}"))
    assert "two overrides of `stages.pretrain.length`" in problem.message


def test_a_graph_that_is_wrong_names_the_level_that_made_it_so(written: Written) -> None:
    problems = mistakes(written("vary: {head: {one: [], two: ['+graph.more=nothing(image)', '+outputs.more=more']}}"))
    assert any("nothing is called `nothing`" in problem.message for problem in problems)
    assert all(problem.span.file == "question.yaml" for problem in problems)
    (width,) = mistakes(written("vary: {width: {narrow: [], odd: ['components.vision.width=30']}}"))
    assert "(cell width=odd)" in width.message
    places = [width.span, *(span for _, span in width.related)]
    assert any(place.file == "question.yaml" and place.line == 3 for place in places)


def test_a_blueprint_that_is_not_there_is_told_at_its_word(written: Written) -> None:
    (problem,) = mistakes(written("vary: {a: {x: [], y: [hybrids/coca_momentm]}}"))
    assert str(problem.span) == "question.yaml:3:23"
    assert "did you mean 'hybrids/coca_momentum'" in problem.hints[0]


def test_levels_that_make_the_same_model_are_refused(written: Written) -> None:
    (problem,) = mistakes(written("vary: {a: {x: [], y: ['components.vision.width=32.0']}}"))
    assert problem.message == "factor `a`: `x` and `y` make the same model"
    assert str(problem.span) == "question.yaml:3:19"


def test_levels_that_make_the_same_model_only_in_some_cells_are_trained_once(written: Written) -> None:
    decay = "decay: {slow: [], fast: ['+x-y=1', 'losses.contrastive.weight=0.5']}"
    loss = "loss: {plain: [], half: ['losses.contrastive.weight=0.5', '+x-z=1']}"
    sweep = written(f"vary: {{{decay}, {loss}}}", "design: one_at_a_time", "seeds: 2")
    planned = plan(sweep)
    assert planned.cells[1].identity == planned.cells[2].identity
    assert any("make the same model: it is trained once" in note for note in planned.notes)


@pytest.mark.parametrize(
    "factor", ["alpha_of: {a: [data.pairs.count=6], b: [data.pairs.count=8]}", "data.pairs.count: [6, 8]"]
)
def test_a_change_of_the_base_that_no_cell_reads_is_refused(written: Written, factor: str) -> None:
    (problem,) = mistakes(written(f"vary: {{{factor}}}", base="base: [tiny/coca, data.pairs.count=24]"))
    assert problem.message.startswith("no cell reads `data.pairs.count=24`: factor `")
    assert str(problem.span) == "question.yaml:2:19"


def test_a_fraction_tells_a_factor_of_no_effect_too(written: Written) -> None:
    real = ", ".join(f"f{i}: {{no: [], yes: ['x-{i}=1']}}" for i in range(5))
    messages = [problem.message for problem in mistakes(written(f"vary: {{{real}}}", "design: fraction"))]
    assert len(messages) == 5


def test_flops_decide_the_steps_of_each_cell(written: Written) -> None:
    sweep = written("vary: {'components.vision.depth': [1, 3]}", "budget: {flops: 1e11}", base="base: tiny/coca")
    small, large = (str(cell.blueprint.check().stages["pretrain"].length) for cell in plan(sweep).cells)
    assert int(small.split()[0]) > int(large.split()[0]) >= 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["budget: {flops: 5}"], "one step of stage `pretrain` takes"),
        (["budget: {steps: 5, stage: pretrian}"], "no stage is called `pretrian`"),
        (["measure: {data: unseen}"], "no data source is called `unseen`"),
        (["measure: {tasks: [reranking]}"], "`reranking` asks for the output"),
        (["measure: {scores: [retrieval.mean_recal]}"], "no task gives the score `retrieval.mean_recal`"),
        (["measure: {scores: [mean_recall]}"], "no task gives the score `mean_recall`"),
        (
            ["measure: {tasks: [captioning], scores: [retrieval.mean_recall]}"],
            "`retrieval.mean_recall` is of a task that is not measured",
        ),
        (["measure: {changes: [data.pairs.splt=unseen]}"], "data source `pairs` has no field `splt`"),
        (["measure: {changes: [outputs.caption.beam=2]}"], "output `caption` has no field `beam`"),
    ],
)
def test_what_cannot_be_spent_or_measured_is_told_beforehand(written: Written, lines: list[str], message: str) -> None:
    problems = mistakes(written("vary: {'losses.contrastive.weight': [1, 0.5]}", *lines))
    assert problems[0].message.startswith(message)
    assert problems[0].span is not None


def test_a_mix_in_is_found_beside_the_sweep(written: Written) -> None:
    Path("mine.yaml").write_text("extends: tiny/coca\nlosses: {contrastive: {weight: 0.5}}\n")
    sweep = written("vary: {a: {x: [], y: [mine]}}")
    assert [cell.name for cell in plan(sweep).cells] == ["baseline", "a=y"]


GATED = """
from torch import Tensor, nn
from compose_vlp.registry import Settings, fills
from compose_vlp.slots import Place


@fills("NAME", slot="ffn", rows="independent", state="none", draws="none")
class Gated(nn.Module):
    class Config(Settings):
        hidden: int = 8

    def __init__(self, config: Config, place: Place) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(place.width, config.hidden), nn.Linear(config.hidden, place.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x).relu())
"""


def test_a_level_may_be_a_kind_of_a_plugin_whose_code_is_part_of_the_cell(written: Written) -> None:
    sweep = written("vary: {ffn: {mlp: [], own: ['components.vision.ffn=swept_gated']}}")
    file = Path("gated.py")
    file.write_text(GATED.replace("NAME", "swept_gated"))
    first = plan(sweep, [file]).cells
    assert len({cell.identity.blueprint for cell in first}) == 2
    file.write_text(GATED.replace("NAME", "swept_gated") + "# other code\n")
    second = plan(sweep, [file]).cells
    for before, after in zip(first, second, strict=True):
        assert before.identity.differences(after.identity) == ["code"]
