"""Runs are listed, chosen by conditions, and compared by what their blueprints mean."""

import json
from pathlib import Path

import pytest

from compose_vlp.errors import UserError
from compose_vlp.report.loose import study_of
from compose_vlp.report.runs import find_runs
from compose_vlp.report.summary import summarise
from compose_vlp.report.where import select
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.state.scores import Measurement, keep_scores, read_scores, tracked_names
from tests.report.made import make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    make_run(root / "a0", seed=0, scores={"mean_recall": 0.50}, losses=[3.0, 2.0, 1.0])
    make_run(root / "a1", seed=1, scores={"mean_recall": 0.54})
    make_run(root / "b0", "stages.pretrain.batch=32", seed=0, scores={"mean_recall": 0.60})
    make_run(root / "deep" / "b1", "stages.pretrain.batch=32", seed=1, scores={"mean_recall": 0.65})
    make_run(root / "blind", "losses.captioning.weight=0.5", seed=0)
    build = RunFolder.create("coca_tiny", 0, ["build"], at=root / "build")
    build.update(kind="build")
    build.finish("FINISHED")
    return root


CONDITIONS = [
    ("retrieval.mean_recall>0.52", {"a1", "b0", "b1"}),
    ("retrieval.mean_recall >= 0.54 and seed=1", {"a1", "b1"}),
    ("stages.pretrain.batch=32", {"b0", "b1"}),
    ("not stages.pretrain.batch=32 and (seed=1 or retrieval.mean_recall=0.5)", {"a0", "a1"}),
    ("seed=1 or seed=0 and stages.pretrain.batch=32", {"a1", "b1", "b0"}),
    ("status='FINISHED'", {"a0", "a1", "b0", "b1", "blind"}),
    ("retrieval.mean_recall=null", {"blind"}),
    ("blueprint!=coca_tiny", set()),
    ("seconds<61", {"a0", "b0", "blind"}),
]


@pytest.mark.parametrize(("condition", "names"), CONDITIONS)
def test_conditions_choose_runs(runs: Path, condition: str, names: set[str]):
    assert {row.folder.path.name for row in select(find_runs([runs]), condition)} == names


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("retrieval.mean_recal>0.5", "did you mean 'retrieval.mean_recall'"),
        ("stages.pretrain.batc=3", "did you mean 'stages.pretrain.batch'"),
        ("seed", "ends where a comparison after 'seed' was expected"),
        ("seed=", "ends where a value after seed= was expected"),
        ("(seed=1", "a parenthesis is not closed"),
        ("seed=1)", "')' stands where the condition should end"),
        ("seed=1 status=FINISHED", "'status' stands where the condition should end"),
        ("='x'", "'=' stands where a name was expected"),
        ("seed='x", '"\'x" cannot be read'),
        ("", "ends where a name was expected"),
        ("seed (1)", "'(' stands where a comparison was expected"),
    ],
)
def test_mistakes_in_conditions_are_explained(runs: Path, condition: str, says: str):
    with pytest.raises(UserError) as caught:
        select(find_runs([runs]), condition)
    assert says in " ".join([str(caught.value), *caught.value.problems[0].hints])


def test_scores_of_training_and_of_evaluate_are_read_together(tmp_path: Path):
    run = make_run(tmp_path / "run", scores={"mean_recall": 0.4})
    run.update(scores={"val": {"step": 5, "records": 20, "captioning.cider": 0.3}})
    first = Measurement("retrieval", "pairs", ("data.pairs.split=unseen",), 100, 7, {"mean_recall": 0.3})
    keep_scores(run, [first])
    keep_scores(run, [Measurement("retrieval", "pairs", ("data.pairs.split=unseen",), 100, 9, {"mean_recall": 0.2})])
    actual = {measurement.key: measurement for measurement in read_scores(run)}
    assert actual["captioning", "val", ()].scores == {"cider": 0.3}
    assert actual["retrieval", "pairs", ()].scores == {"mean_recall": 0.4}
    assert actual[first.key].step == 9
    (run.reports / "scores.json").write_text('[{"task": 1}]', encoding="utf-8")
    with pytest.raises(UserError, match=r"scores\.json is damaged"):
        read_scores(run)


def test_tracking_has_the_scores_of_a_task_side_by_side():
    assert tracked_names("test", {"retrieval.image_to_text_recall_at_1": 0.5, "captioning.cider": 1.0}) == {
        "retrieval/test/image_to_text/recall_at_1": 0.5,
        "captioning/test/cider": 1.0,
    }


def opened(*paths: Path) -> list[RunFolder]:
    return [RunFolder.open(path) for path in paths]


def test_runs_that_differ_in_their_seed_alone_are_one_cell(runs: Path):
    study = study_of(opened(runs / "a0", runs / "b0", runs / "deep" / "b1", runs / "a1"))
    assert list(study.cells) == ["coca_tiny", "stages.pretrain.batch=32"]
    assert study.baseline == "coca_tiny"
    assert study.cells["stages.pretrain.batch=32"].startswith("stages.pretrain.batch=32 instead of ")
    assert {(trial.cell, trial.seed): trial.scores for trial in study.trials} == {
        ("coca_tiny", 0): {"retrieval.mean_recall": 0.50},
        ("coca_tiny", 1): {"retrieval.mean_recall": 0.54},
        ("stages.pretrain.batch=32", 0): {"retrieval.mean_recall": 0.60},
        ("stages.pretrain.batch=32", 1): {"retrieval.mean_recall": 0.65},
    }
    assert study.trials[0].curves == {"pretrain/loss": [(0, 3.0), (1, 2.0), (2, 1.0)]}
    assert study.trials[0].cost.parameters == 1000 and study.trials[0].cost.seconds == 60.0


def test_where_runs_are_tracked_sets_no_cells_apart(tmp_path: Path):
    """As of a sweep, whose runs are each tracked by a name of their own."""
    for seed in (0, 1):
        tracked = (f"+tracking.run_name=baseline, seed {seed}", f"+tracking.parent=p{seed}")
        make_run(tmp_path / f"{seed}", *tracked, seed=seed, scores={"mean_recall": 0.5})
    study = study_of(opened(tmp_path / "0", tmp_path / "1"))
    assert list(study.cells) == ["coca_tiny"] and [trial.seed for trial in study.trials] == [0, 1]


def test_a_cell_that_differs_in_much_is_described_in_short(tmp_path: Path):
    make_run(tmp_path / "a", scores={"mean_recall": 0.5})
    make_run(tmp_path / "b", blueprint="tiny/albef", scores={"mean_recall": 0.5})
    description = study_of(opened(tmp_path / "a", tmp_path / "b")).cells["albef_tiny"]
    assert description.endswith(" more, which `compose-vlp diff` lists") and len(description.split("; ")) == 9


def test_cells_of_one_name_are_called_by_their_folders(tmp_path: Path):
    much = [f"components.{name}.depth=3" for name in ("vision", "unimodal")] + ["components.vision.heads=2", "lr=0.5"]
    for folder, changes in (("plain", []), ("other/deep", much), ("deep", [*much, "stages.pretrain.batch=32"])):
        make_run(tmp_path / folder, *changes, scores={"mean_recall": 0.5})
    plain, deep, other = (tmp_path / folder for folder in ("plain", "deep", "other/deep"))
    assert list(study_of(opened(plain, deep)).cells) == ["plain", "deep"]
    assert list(study_of(opened(plain, deep, other)).cells) == ["plain", str(deep), str(other)]


def test_scores_on_other_data_are_no_pair(tmp_path: Path):
    make_run(tmp_path / "a", scores={"mean_recall": 0.5})
    make_run(
        tmp_path / "b", "stages.pretrain.batch=32", scores={"mean_recall": 0.9}, changes=["data.pairs.split=unseen"]
    )
    first, second = study_of(opened(tmp_path / "a", tmp_path / "b")).trials
    assert first.scores == {"retrieval.mean_recall on pairs": 0.5}
    assert second.scores == {"retrieval.mean_recall on pairs data.pairs.split=unseen": 0.9}


def test_runs_that_were_not_treated_alike_are_told_apart(tmp_path: Path):
    make_run(tmp_path / "a", scores={"mean_recall": 0.5})
    longer = make_run(tmp_path / "b", "stages.pretrain.batch=32")
    keep_scores(longer, [Measurement("retrieval", "unseen", (), 50, 9, {"mean_recall": 0.9})])
    longer.update(stages={"pretrain": {"steps": 1900, "seconds": 60.0}})
    study = study_of(opened(tmp_path / "a", tmp_path / "b"))
    batch = "stages.pretrain.batch=32"
    assert study.notes == [
        f"trained for other numbers of steps: 7 (coca_tiny); 1,900 ({batch})",
        f"retrieval was measured on other data: pairs (coca_tiny); unseen ({batch})",
        f"retrieval was measured on other numbers of records: 100 (coca_tiny); 50 ({batch})",
    ]
    assert set(study.notes) <= set(summarise(study).notes)


def test_runs_that_were_treated_alike_have_no_such_notes(runs: Path):
    assert study_of(opened(runs / "a0", runs / "b0", runs / "a1", runs / "blind")).notes == []


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a0"], "one run is nothing to compare"),
        (["a0", "a0"], "is named twice"),
        (["a0", "build"], "has no blueprint.yaml"),
    ],
)
def test_what_cannot_be_compared_is_explained(runs: Path, names: list[str], says: str):
    with pytest.raises(UserError, match=says):
        study_of(opened(*(runs / name for name in names)))


def test_one_experiment_done_twice_is_no_two_seeds(runs: Path, tmp_path: Path):
    again = make_run(tmp_path / "again", scores={"mean_recall": 0.1})
    with pytest.raises(UserError, match="the same blueprint and the same seed"):
        study_of([*opened(runs / "a0"), again])


def test_a_run_that_was_not_measured_is_named(runs: Path):
    study = study_of(opened(runs / "a0", runs / "blind"))
    assert study.missing == {"losses.captioning.weight=0.5": f"{runs / 'blind'} has not been measured"}


def test_the_kept_scores_are_json_of_numbers(tmp_path: Path):
    run = make_run(tmp_path / "run", scores={"mean_recall": 0.4})
    (row,) = json.loads((run.reports / "scores.json").read_text(encoding="utf-8"))
    assert row["scores"] == {"mean_recall": 0.4} and row["step"] == 7


def test_a_text_is_compared_with_a_number_as_it_is_written(runs: Path):
    rows = find_runs([runs])
    year = str(rows[-1].facts["started"])[:4]
    assert rows[-1] in select(rows, f"started>{year}")
    assert select(rows, f"started<{year}") == []


def test_a_run_that_cannot_be_read_hides_no_other(tmp_path: Path):
    make_run(tmp_path / "good", scores={"mean_recall": 0.5})
    make_run(tmp_path / "spoilt", scores={"mean_recall": 0.6})
    (tmp_path / "spoilt" / "reports" / "scores.json").write_text("[{]")
    for name, text in (("torn", "{"), ("other", '["of another program"]'), ("later", '{"format": 99}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    notes: list[str] = []
    rows = {row.folder.path.name: row.scores for row in find_runs([tmp_path], notes.append)}
    assert rows == {"good": {"retrieval.mean_recall": 0.5}, "spoilt": {}}
    assert sum("it is left out" in note for note in notes) == 3
    assert sum("scores.json is damaged" in note for note in notes) == 1


def test_all_seeds_that_were_not_measured_are_named(tmp_path: Path):
    runs = [make_run(tmp_path / name, seed=seed) for seed, name in enumerate(("first", "second"))]
    (reason,) = study_of(opened(*(run.path for run in runs))).missing.values()
    assert "first has not been measured" in reason and "second has not been measured" in reason
