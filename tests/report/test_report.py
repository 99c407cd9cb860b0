"""What a report says: tables, verdicts, notes, files; texts are escaped wherever they stand."""

import errno
import math
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from compose_vlp.errors import UserError
from compose_vlp.report import plots, tables
from compose_vlp.report.summary import Summary, front, summarise
from compose_vlp.report.write import write_report
from tests.report.made import make_study


@pytest.fixture(scope="module")
def summary() -> Summary:
    return summarise(make_study())


def test_a_large_difference_is_told_from_noise_and_a_small_one_is_not(summary: Summary):
    rows = {row.cell: row.difference for row in summary.main.cells}
    assert summary.main.score == "retrieval.mean_recall"
    assert rows["on, six"] is None
    assert tables.verdict(rows["off, six"]) == "lower"
    assert tables.verdict(rows["on, <gated> & $50|"]).startswith("cannot be told from noise")
    effects = {effect.name: effect.difference for effect in summary.main.effects}
    assert effects["teacher=off"].estimate.mean == pytest.approx(-0.2, abs=0.005)
    assert effects["teacher=off"].told_apart


def test_equal_scores_are_said_to_be_equal(summary: Summary):
    own = summary.scores[1]
    assert own.score == "captioning.cider"
    assert {tables.verdict(row.difference) for row in own.cells if row.difference} == {"equal"}


def test_one_seed_is_said_to_tell_nothing():
    single = summarise(make_study(seeds=1))
    assert single.notes[0] == "every cell has one seed: no interval can be given, and no difference told from noise"
    text = tables.markdown(tables.cell_table(single, single.main))
    assert "±" not in text and "one seed: cannot be told from noise" in text


def test_what_is_missing_is_said():
    study = make_study()
    without = [trial for trial in study.trials if trial.cell != study.baseline]
    notes = summarise(replace(study, trials=without, missing={study.baseline: "crashed twice: no space left"})).notes
    assert any("the baseline (on, six) was not measured" in note for note in notes)
    assert "on, six: crashed twice: no space left" in notes
    apart = [replace(trial, seed=trial.seed + 10 * (trial.cell != study.baseline)) for trial in study.trials]
    assert any("shares no seed with the baseline" in note for note in summarise(replace(study, trials=apart)).notes)


def test_a_grid_that_lacks_a_cell_has_the_main_effects_and_says_so():
    study = make_study()
    trials = [trial for trial in study.trials if set(trial.levels.values()) != {"off", "six"}]
    summary = summarise(replace(study, trials=trials))
    effects = {effect.name: effect.difference for effect in summary.main.effects}
    assert len(effects) == 2
    assert effects["teacher=off"].estimate.mean == pytest.approx(-0.2, abs=0.005)
    assert any("without interactions" in note for note in summary.notes)


def test_changes_one_at_a_time_have_no_effects_beside_their_differences():
    study = make_study()
    alone = [trial for trial in study.trials if trial.cell.startswith("on") or trial.cell.endswith("six")]
    summary = summarise(replace(study, trials=alone))
    assert summary.main.effects == () and not any("separate" in note for note in summary.notes)
    assert tables.verdict(summary.main.cells[2].difference) == "lower"


def test_unknown_scores_and_unmeasured_studies_are_refused(summary: Summary):
    with pytest.raises(UserError) as caught:
        summarise(summary.study, ["retrieval.mean_recal"])
    assert "did you mean 'retrieval.mean_recall'" in caught.value.problems[0].hints[0]
    with pytest.raises(UserError, match="no run has been measured"):
        summarise(replace(summary.study, trials=()))


def test_the_front_has_no_cell_that_another_beats(summary: Summary):
    assert front(summary, "retrieval.mean_recall", "parameters")[0] == "on, six"
    means = {row.cell: row.estimate.mean for row in summary.main.cells}
    for cell in front(summary, "retrieval.mean_recall", "parameters"):
        own = summary.costs[cell].parameters
        assert not any(means[o] > means[cell] and summary.costs[o].parameters <= own for o in means)


def test_a_report_is_files_that_need_nothing_else(summary: Summary, tmp_path: Path):
    files = {file.name: file.read_text(encoding="utf-8") for file in write_report(summary, tmp_path / "report")}
    page = files["index.html"]
    assert "<gated>" not in page and "&lt;gated&gt; &amp; $50|" in page and "<teacher>" not in page
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page.replace("xlink:href", "href"))
    assert "var(--c0)" in page and "#0000c0" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    drawn = [name for name in ids if not name.startswith(("figure_", "axes_", "matplotlib", "patch_", "text_"))]
    clips = [name for name in drawn if re.fullmatch(r"[mpC].*[0-9a-f]{8,}.*", name)]
    assert len(clips) == len(set(clips)), "clip paths and markers of two drawings are told apart"
    assert r"on, <gated> & $50\|" in files["report.md"]
    assert r"\$50" in files["table.tex"] and r"\&" in files["table.tex"] and r"$\pm$" in files["table.tex"]
    assert files["numbers.csv"].splitlines()[0].startswith("cell,teacher,fusion,score,seeds,mean,low,high,difference")
    assert len(files["trials.csv"].splitlines()) == 1 + 12
    for name in ("differences", "effects", "front_parameters", "curve_0"):
        assert ET.fromstring(files[f"{name}.svg"]).tag.endswith("svg")
        ground = ET.fromstring(files[f"{name}.svg"])[0]
        assert ground.get("fill") == "#ffffff", "its ink is dark, and a dark page may show it"


def test_equal_summaries_give_equal_files(summary: Summary, tmp_path: Path):
    first, second = (write_report(summary, tmp_path / name) for name in "ab")
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_a_report_that_cannot_be_written_says_so(summary: Summary, tmp_path: Path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match="cannot write the report to"):
        write_report(summary, tmp_path / "file" / "report")


def test_a_disk_that_is_full_leaves_the_old_report_whole(
    summary: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = {file: file.read_bytes() for file in write_report(summary, tmp_path)}
    longer = replace(summary, study=replace(summary.study, question="another question, which changes the page"))
    for last in range(len(before)):
        synced = iter(range(last))

        def full(handle: int, synced: Iterator[int] = synced) -> None:
            if next(synced, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"cannot write the report to .*: No space left on device"):
            write_report(longer, tmp_path)
        assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_curve_shows_the_steps_that_all_seeds_have():
    study = make_study()
    short = [replace(t, curves={"pretrain/loss": t.curves["pretrain/loss"][: 300 + t.seed]}) for t in study.trials]
    assert plots.metrics_of(study) == ["pretrain/loss"]
    assert "<svg" in plots.curve_plot(replace(study, trials=short), "pretrain/loss")


def test_pages_have_every_number_for_programs(summary: Summary):
    notes = tables.as_json(summary)
    assert len(notes["rows"]) == 8 and len(notes["effects"]) == 6 and len(notes["trials"]) == 12
    row = next(row for row in notes["rows"] if row["cell"] == "off, six" and row["score"] == "retrieval.mean_recall")
    assert row["difference"] == pytest.approx(-0.2, abs=0.005) and row["p_holm"] < 0.05


def test_a_score_that_is_no_number_spoils_no_other():
    study = make_study()
    broken, *others = (t for t in study.trials if t.cell == "off, six")
    spoilt = replace(broken, scores={**broken.scores, "retrieval.mean_recall": math.nan})
    trials = [spoilt if t is broken else t for t in study.trials]
    without = [t for t in study.trials if t is not broken]
    summary = summarise(replace(study, trials=trials), ["retrieval.mean_recall"])
    assert summary.main == summarise(replace(study, trials=without), ["retrieval.mean_recall"]).main
    assert f"off, six, seed {broken.seed}: retrieval.mean_recall came out as no number" in " ".join(summary.notes)
    assert len(others) == 2


def test_a_factor_that_is_called_like_a_column_loses_no_level():
    study = make_study()
    names = {"teacher": "mean", "fusion": "seed"}
    renamed = replace(
        study,
        factors={names[name]: levels for name, levels in study.factors.items()},
        trials=[replace(t, levels={names[name]: level for name, level in t.levels.items()}) for t in study.trials],
    )
    summary = summarise(renamed)
    rows, runs = tables.numbers(summary), tables.trials(summary)
    assert set(rows["factor.mean"]) == set(runs["mean"]) == {"on", "off"}
    assert set(rows["seed"]) == set(runs["factor.seed"]) == set(study.factors["fusion"])
    assert set(runs["seed"]) == {0, 1, 2} and set(rows["mean"]).isdisjoint({"on", "off"})


def test_a_caption_is_escaped_for_latex(summary: Summary):
    """A comparison on changed data names the change, and a bare % would hide the caption's end."""
    text = tables.latex(tables.cell_table(summary, summary.main), "recall on pairs path=a&b_50%#1")
    assert r"\caption{recall on pairs path=a\&b\_50\%\#1}" in text
