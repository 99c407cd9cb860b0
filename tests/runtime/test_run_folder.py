from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compose_vlp.errors import UserError
from compose_vlp.runtime.state.run_folder import RunFolder, run_folders

CREATE = """
import sys
from pathlib import Path
from compose_vlp.errors import UserError
from compose_vlp.runtime.state.run_folder import RunFolder
at = Path(sys.argv[2]) if len(sys.argv) > 2 else None
try:
    folder = RunFolder.create("tiny/coca", 0, ["train"], root=Path(sys.argv[1]), at=at)
except UserError as error:
    print("refused:", error)
else:
    print(folder.path, flush=True)
sys.stdin.read()
"""


def create(root: Path, blueprint: str = "tiny/coca") -> RunFolder:
    return RunFolder.create(blueprint, 7, ["train", "tiny/coca"], root=root)


def start(root: Path, *at: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CREATE, str(root), *at]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_run_folder_says_what_it_is(tmp_path: Path) -> None:
    folder = create(tmp_path)
    assert folder.path.name.startswith("tiny-coca-20")
    assert {path.name for path in folder.path.iterdir() if path.is_dir()} == {
        "checkpoints",
        "logs",
        "reports",
        "artifacts",
    }
    contents = json.loads((folder.path / "run.json").read_text())
    assert (contents["blueprint"], contents["seed"], contents["command"]) == ("tiny/coca", 7, ["train", "tiny/coca"])
    assert contents["versions"]["torch"]
    folder.update(step=5)
    folder.finish("FINISHED")
    read = RunFolder.open(folder.path)
    assert read.info.status == "FINISHED"
    assert read.info.ended is not None
    assert read.info.extra == {"step": 5}
    assert read.info.command == ("train", "tiny/coca")


def test_many_runs_started_at_once_have_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: create(tmp_path), range(64)))
    assert len({folder.path for folder in folders}) == 64
    for folder in folders:
        folder.finish("KILLED")


def test_two_processes_started_at_once_in_one_given_folder_one_is_refused(tmp_path: Path) -> None:
    at = tmp_path / "mine"
    processes = [start(tmp_path, str(at)) for _ in range(2)]
    answers = sorted(first_line(process) for process in processes)
    for process in processes:
        process.communicate("")
    assert answers[0] == str(at)
    assert answers[1].startswith(f"refused: another process is working on the run in {at}")


def test_a_given_folder_with_a_run_in_it_is_refused(tmp_path: Path) -> None:
    RunFolder.create("coca", 0, [], at=tmp_path / "mine").finish("FINISHED")
    with pytest.raises(UserError, match="there is a run already in") as caught:
        RunFolder.create("coca", 0, [], at=tmp_path / "mine")
    assert "--resume" in caught.value.problems[0].hints[0]


def test_a_run_whose_process_is_gone_has_failed_and_can_be_gone_on_with(tmp_path: Path) -> None:
    process = start(tmp_path)
    path = Path(first_line(process))
    folder = RunFolder.open(path)
    assert folder.info.status == "RUNNING"
    with pytest.raises(UserError, match="another process is working"):
        folder.claim()
    process.kill()
    process.communicate()
    assert folder.info.status == "FAILED"
    folder.claim()
    assert folder.info.status == "RUNNING"
    folder.finish("FINISHED")
    assert RunFolder.open(path).info.status == "FINISHED"


def test_what_is_no_run_folder_is_said_with_the_runs_there_are(tmp_path: Path) -> None:
    run = create(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"is not a run folder: it has no run\.json") as caught:
        RunFolder.open(tmp_path / "empty")
    assert str(run.path) in caught.value.problems[0].hints[0]
    run.finish("FINISHED")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 1, "command": [], "nope": 1}'])
def test_a_damaged_run_file_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        RunFolder.open(tmp_path)


def test_a_run_of_a_later_version_is_said(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="later version"):
        RunFolder.open(tmp_path)


def test_a_root_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="cannot make a run folder"):
        create(tmp_path / "runs")


def test_run_folders_are_listed_latest_first(tmp_path: Path) -> None:
    folders = [create(tmp_path) for _ in range(2)]
    for folder in reversed(folders):
        folder.finish("FINISHED")
    assert set(run_folders(tmp_path)) == {folder.path for folder in folders}
    assert run_folders(tmp_path)[0] == folders[0].path
    assert run_folders(tmp_path / "nowhere") == []


def test_what_a_process_that_died_was_filling_is_taken_away_when_it_is_old(tmp_path: Path) -> None:
    old, new = (tmp_path / f".run.starting-{number}-abc" for number in range(2))
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, 0))
    create(tmp_path).finish("FINISHED")
    assert not old.exists() and new.exists()
