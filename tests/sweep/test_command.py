"""`compose-vlp sweep` as a user types it."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from rich.console import Console

from compose_vlp.blueprint.locate import LIBRARY
from compose_vlp.cli.commands.sweep import _sum_up
from compose_vlp.cli.run import run
from compose_vlp.cli.sweep_table import SweepTable
from compose_vlp.sweep.designs import combinations_of
from compose_vlp.sweep.folder import TrialFolder
from compose_vlp.sweep.reading import read_sweep_file
from compose_vlp.sweep.running import Job

if TYPE_CHECKING:
    from compose_vlp.sweep.session import Session


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def test_a_dry_run_lists_the_cells_and_leaves_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    vary = ["--vary", "losses.contrastive.weight=1|0.5", "--vary", "stages.pretrain.batch=8|16"]
    assert run(["sweep", "tiny/coca", *vary, "--design", "one_at_a_time", "--steps", "3", "--dry-run", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [cell["name"] for cell in listed["cells"]] == [
        "baseline",
        "losses.contrastive.weight=0.5",
        "stages.pretrain.batch=16",
    ]
    assert "stages.pretrain.length=3 steps" in listed["cells"][0]["words"]
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tiny/coca"], "nothing is varied"),
        (["alpha=0", "--vary", "alpha=0|1"], "no blueprint is named"),
        (["tiny/coca", "--vary", "batch=8|8"], "command line: factor `batch` has `8` twice | batch=8|8"),
        (["tiny/coca", "--vary", "batchh=8|16"], "command line: `batchh` is not a name of the blueprint"),
        (["tiny/coca", "--vary", "batch=8|x"], "command line: `batch` cannot be `x`"),
        (
            ["tiny/coca", "--vary", "stages.pretrain.batch=8|16", "--on", "cloud"],
            "`--on cloud` is no place that runs are trained at",
        ),
        (["sweeps/albef_parts", "--steps", "3"], "is a sweep and says itself what `--steps` would"),
        (["sweeps/albef_part"], "did you mean 'sweeps/albef_parts'"),
    ],
)
def test_a_mistake_is_told_with_its_place(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_built_in_sweeps_ask_a_question_and_say_how_they_are_run() -> None:
    """That all of their cells pass `check` is seen where the commands in their headers are tried."""
    files = sorted((LIBRARY / "sweeps").glob("*.yaml"))
    assert files
    for file in files:
        sweep = read_sweep_file(file)
        assert len(combinations_of(sweep)) > 1
        assert sweep.question.endswith("?")
        assert f"\n#   compose-vlp sweep sweeps/{file.stem}" in file.read_text(encoding="utf-8")


def job(folder: Path, name: str, state: str, **more: object) -> Job:
    trial = TrialFolder(folder / name)
    (trial.run / "logs").mkdir(parents=True)
    return Job(name, 0, trial, state, **more)


def test_the_table_shows_steps_time_left_and_the_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, done = job(tmp_path, "off", "running"), job(tmp_path, "on", "done")
    log = running.trial.run / "logs" / "train.log"
    log.write_text(
        "2026-01-01 10:00:00  pretrain 50/900  itc 3.211  0.10 s/step  85 s left\n2026-01-01 10:00:01  saved\n"
    )
    monkeypatch.setattr(TrialFolder, "scores", lambda self: {"recall": 0.5} if self.path.name == "on" else None)
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system=None)
    table = SweepTable(console, [done, running], "recall")
    console.print(table.table())
    lines = [line.split() for line in file.getvalue().splitlines()]
    assert ["off", "0", "running", "50/900", "85", "s"] in lines
    assert ["on", "0", "done", "0.5000"] in lines
    assert "1 running, 1 done" in file.getvalue()


@pytest.mark.parametrize(("width", "shown"), [(80, 1), (120, 2), (200, 4)])
def test_the_last_table_has_as_many_scores_as_fit_with_their_whole_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, shown: int
) -> None:
    names = [f"retrieval.image_to_text_recall_at_{rank}" for rank in (1, 5, 10, 50)]
    monkeypatch.setattr(TrialFolder, "scores", lambda _: dict.fromkeys(names, 0.5))
    monkeypatch.setenv("COLUMNS", str(width))
    measure = SimpleNamespace(scores=())
    jobs = [job(tmp_path, "alpha=0", "done")]
    _sum_up(cast("Session", SimpleNamespace(jobs=jobs, path=tmp_path, sweep=SimpleNamespace(measure=measure))))
    heads = capsys.readouterr().out.splitlines()[0].split()
    assert heads == ["cell", "seed", *names[:shown]]


def test_where_no_terminal_is_events_are_lines(tmp_path: Path) -> None:
    failed = job(tmp_path, "off", "failed", reason="training was killed by SIGKILL")
    failed.trial.output.write_text("one\ntwo\n\nthree\n")
    file = io.StringIO()
    with SweepTable(Console(file=file, width=60), [failed], None) as table:
        table.changed(failed)
        table.tick([failed])
    assert file.getvalue().splitlines()[:5] == [
        "off, seed 0: failed",
        "    training was killed by SIGKILL",
        "    one",
        "    two",
        "    three",
    ]
