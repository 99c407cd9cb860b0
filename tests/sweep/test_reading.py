"""A sweep's file and its command line: what is read, and every mistake at its place."""

from collections.abc import Callable
from pathlib import Path

import pytest

from compose_vlp.errors import BlueprintError, Problem, UserError
from compose_vlp.sweep.document import Search, Sweep
from compose_vlp.sweep.reading import find_sweep, read_sweep_file, sweep_of_words

Written = Callable[..., Sweep]
VARY = "vary: {alpha: [0.4, 0]}"


def mistakes(written: Written, *lines: str, **more: str) -> tuple[Problem, ...]:
    with pytest.raises(BlueprintError) as caught:
        written(*lines, **more)
    return caught.value.problems


def test_a_level_is_a_named_bundle_of_changes_and_blueprints(written: Written) -> None:
    sweep = written(
        "vary: {teacher: {off: [], on: [hybrids/coca_momentum, 'stages.pretrain.batch=4']}, alpha: [0.4, 0]}"
    )
    teacher, alpha = sweep.factors
    assert [level.name for level in teacher.levels] == ["off", "on"]
    assert [word.text for word in teacher.levels[1].words] == ["hybrids/coca_momentum", "stages.pretrain.batch=4"]
    assert [word.is_override for word in teacher.levels[1].words] == [False, True]
    assert [level.words[0].text for level in alpha.levels] == ["alpha=0.4", "alpha=0"]


def test_the_command_line_says_the_same_as_the_file(written: Written) -> None:
    file = written(VARY, "seeds: 3")
    line = sweep_of_words([word.text for word in file.base], ["alpha=0.4|0"], name="x", seeds=(0, 1, 2), options={})
    assert line.seeds == file.seeds
    for mine, yours in zip(line.factors, file.factors, strict=True):
        assert mine.name == yours.name
        assert [(level.name, [w.text for w in level.words]) for level in mine.levels] == [
            (level.name, [w.text for w in level.words]) for level in yours.levels
        ]


def test_a_base_of_several_words_may_stand_on_one_line(written: Written) -> None:
    sweep = written(VARY, base="base: tiny/albef alpha=0.2")
    assert [word.text for word in sweep.base] == ["tiny/albef", "alpha=0.2"]
    assert sweep.base[1].place(6, 9).column == len("base: tiny/albef alpha=") + 1


def test_seeds_may_be_named(written: Written) -> None:
    assert written(VARY, "seeds: [7, 3]").seeds == (7, 3)
    assert written(VARY).seeds == (0,)


def test_a_search_has_ranges_trials_and_an_objective(written: Written) -> None:
    sweep = written("vary: {'optimizer.lr': 'log(1e-4, 1e-2)'}", "design: {use: search, trials: 3, objective: x}")
    assert isinstance(sweep.design, Search)
    assert str(sweep.factors[0].range) == "log(1e-4, 1e-2)"


@pytest.mark.parametrize(
    ("lines", "message", "hint"),
    [
        (["vary: {alpha: [0.4]}"], "factor `alpha` has one level: nothing varies", "two levels or more"),
        (["vary: {alpha: [0.4, 0.4]}"], "factor `alpha` has `0.4` twice", ""),
        (["vary: {fix: {on: [], ﬁne: [], fine: []}}"], "factor `fix` has `fine` twice", ""),
        (["vary: {ﬁx: {on: [], off: []}, fix: {on: [], off: []}}"], "`fix` is varied twice", ""),
        (["vary: {alpha: [0.4, [1, 2]]}"], "a value of `alpha` is one word", "name the levels"),
        (["vary: {alpha: 0.4}"], "`0.4` is no range: log(low, high)", "values stand in a list"),
        (["vary: {alpha: 'log(0, 1)'}"], "`log` is of numbers above 0", ""),
        (["vary: {alpha: 'int(3, 1)'}"], "the bounds of `int(3, 1)` ascend", ""),
        (["vary: {alpha: 'int(1, 2.5)'}"], "a bound of `int(1, 2.5)`: expected a whole number", ""),
        (["vary: {alpha: 'choice(a)'}"], "`choice` has two values or more", ""),
        (["vary: {alpha: 'logg(1, 2)'}"], "`logg(1, 2)` is no range", ""),
        (["vary: {a: {x: {alpha: 0}, y: []}}"], "blueprints and overrides are words", "not"),
        (["vary: [alpha]"], "`vary` holds factors", "vary: {"),
        ([VARY, "seed: 3"], "`seed` is no part of a sweep", "'seeds'"),
        ([VARY, "seeds: 0"], "`seeds` should be greater than or equal to 1", ""),
        ([VARY, "seeds: many"], "`seeds` cannot be `many`: expected a whole number", ""),
        ([VARY, "design: gird"], "`design` cannot be `gird`", "did you mean 'grid'?"),
        ([VARY, "design: search"], "a search says how many trials, and of what", "trials"),
        ([VARY, "design: {use: search, trials: 3}"], "`objective` is missing", ""),
        ([VARY, "budget: {steps: 3, minutes: 1}"], "a budget is one of steps, flops and minutes", ""),
        ([VARY, "budget: {}"], "a budget is one of steps, flops and minutes", ""),
        ([VARY, "budget: {steps: 0}"], "`steps` should be greater than or equal to 1", ""),
        ([VARY, "measure: {task: [retrieval]}"], "no field is called `task`", "did you mean 'tasks'?"),
        ([VARY, "measure: {tasks: [retrieve]}"], "`tasks` cannot be `retrieve`", "did you mean 'retrieval'?"),
        ([VARY, "leave_out: [{alfa: 0}]"], "no factor is called `alfa`", "did you mean 'alpha'?"),
        ([VARY, "leave_out: [{alpha: 0.5}]"], "factor `alpha` has no level `0.5`", "0.4"),
        ([VARY, "leave_out: [alpha]"], "`leave_out` is a list of levels by factor", ""),
        (["base_: x"], "`vary` is missing", ""),
        ([VARY, "seeds:"], "`seeds` is empty", ""),
        ([VARY, "seeds: []"], "`seeds` names none", "how many"),
    ],
)
def test_a_mistake_is_told_at_its_place(written: Written, lines: list[str], message: str, hint: str) -> None:
    problems = mistakes(written, *lines)
    expected = next((problem for problem in problems if problem.message.startswith(message)), None)
    assert expected is not None, [problem.message for problem in problems]
    assert expected.span is not None
    assert expected.span.file == "question.yaml"
    if hint and hint != "not":
        assert hint in " ".join(expected.hints)


def test_all_mistakes_are_told_at_once(written: Written) -> None:
    problems = mistakes(written, "vary: {alpha: [1]}", "seeds: no", "desing: grid", "budget: {steps: x}")
    assert [problem.span.line for problem in problems] == [5, 3, 4, 6] or len(problems) == 4


def test_a_base_without_a_blueprint_is_refused(written: Written) -> None:
    (problem,) = mistakes(written, VARY, base="base: [alpha=0]")
    assert "names no blueprint" in problem.message


def test_a_base_of_overrides_stands_below_levels_that_are_blueprints(written: Written) -> None:
    sweep = written("vary: {model: {coca: [tiny/coca], albef: [tiny/albef]}}", base="base: [data.pairs.count=24]")
    assert [word.text for word in sweep.base] == ["data.pairs.count=24"]
    (problem,) = mistakes(written, "vary: {model: {coca: [tiny/coca], none: []}}", base="base: [data.pairs.count=24]")
    assert "names no blueprint" in problem.message


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ("alpha", "`alpha` varies nothing"),
        ("alpha=0.4", "`alpha` has one value"),
        ("alpha=0.4|", "a value of `alpha` is empty"),
        ("alpha=0.4|0.4", "factor `alpha` has `0.4` twice"),
        ("alpha=log(1, 0)", "the bounds of `log(1, 0)` ascend"),
    ],
)
def test_a_wrong_vary_is_told_with_its_argument(vary: str, message: str) -> None:
    with pytest.raises(BlueprintError) as caught:
        sweep_of_words(["tiny/coca"], [vary], name="x", seeds=(0,), options={})
    assert caught.value.problems[0].message.startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"design": "gird"}, "no design is called `gird`"),
        ({"task": ["retrieve"]}, "no task is called `retrieve`"),
        ({"trials": 3}, "a search has `--trials` and `--objective`"),
    ],
)
def test_a_wrong_option_is_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sweep_of_words(["tiny/coca"], ["alpha=0|1"], name="x", seeds=(0,), options=options)


def test_a_blueprint_is_no_sweep_and_a_sweep_no_blueprint(written: Written) -> None:
    from compose_vlp.api import Blueprint

    written(VARY)
    assert find_sweep("question.yaml") is not None
    assert find_sweep("tiny/coca") is None
    with pytest.raises(UserError, match="no such file"):
        find_sweep("nothing.yaml")
    with pytest.raises(UserError, match="no sweep is called"):
        find_sweep("sweeps/nothing")
    with pytest.raises(BlueprintError) as caught:
        Blueprint.load("question.yaml").check()
    assert any("compose-vlp sweep" in hint for problem in caught.value.problems for hint in problem.hints)


@pytest.mark.parametrize("name", ['""', "a/b", "../up", '" "'])
def test_a_name_that_no_folder_can_have_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "question.yaml"
    file.write_text(f"sweep: {name}\nbase: tiny/coca\n{VARY}\n")
    with pytest.raises(BlueprintError, match="is no name of a folder"):
        read_sweep_file(file)
