"""Runs that are killed before their first step: there is no folder, or one with which they start."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.cli.run import run as run_command
from compose_vlp.errors import UserError
from compose_vlp.files import ProcessLock, write_atomic
from compose_vlp.runtime.state import checkpoint
from compose_vlp.runtime.state.new_folder import ENTRIES
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.training.trainer import TrainOptions
from tests.runtime.test_training import STEPS

Load = Callable[..., Blueprint]
SHORT = ("stages.pretrain.length=1 steps", *STEPS[1:])


class Killed(BaseException):
    """This process is dead: it writes nothing any more, not even to clean up."""


class Killer:
    """Kills at the write number `at` below `folder` (0: never), by Python's audit events; `writes` lists what came."""

    EVENTS = frozenset({"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.truncate", "shutil.rmtree"})
    awake: ClassVar[list[Killer]] = []
    hooked: ClassVar[bool] = False

    def __init__(self, folder: Path, at: int) -> None:
        self.folder, self.at = str(folder), at
        self.writes: list[str] = []

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in self.EVENTS or not str(arguments[0]).startswith(self.folder):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        self.writes.append(f"{event} {arguments[0]}")
        if self.at and len(self.writes) >= self.at:
            raise Killed

    @staticmethod
    def hear_all(event: str, arguments: tuple[Any, ...]) -> None:
        for killer in Killer.awake:
            killer.hear(event, arguments)


@contextmanager
def killing(folder: Path, at: int = 0) -> Iterator[Killer]:
    """The process in this block dies at its write number `at` below a folder; what it had locked is free then."""
    if not Killer.hooked:
        sys.addaudithook(Killer.hear_all)
        Killer.hooked = True
    killer = Killer(folder, at)
    Killer.awake.append(killer)
    try:
        yield killer
    except Killed:
        pass
    finally:
        Killer.awake.remove(killer)
        for path in [path for path in ProcessLock._held_here if str(path).startswith(str(folder))]:
            ProcessLock._held_here.discard(path)


def fill(folder: Path) -> None:
    (folder / "artifacts" / "programs").mkdir()
    for name in ("blueprint.yaml", "artifacts/plan.json", "artifacts/programs/one.py"):
        write_atomic(folder / name, name)


@pytest.mark.parametrize("there", [[], ["run"], ["run", "run/mine.txt"]], ids=["absent", "empty", "with a file"])
def test_a_folder_has_all_that_a_run_begins_with_or_is_no_run(tmp_path: Path, there: list[str]) -> None:
    def create(root: Path, at: int) -> list[str]:
        root.mkdir()
        for name in there:
            (root / name).write_text("") if "." in name else (root / name).mkdir()
        with killing(root, at) as killer:
            RunFolder.create("coca", 3, ["train"], at=root / "run", extra={"data": {}}, fill=fill)
        return killer.writes

    writes = create(tmp_path / "0", 0)
    assert len(writes) > 10
    for at in range(1, len(writes) + 1):
        run = tmp_path / str(at) / "run"
        create(run.parent, at)
        if "run/mine.txt" in there:
            assert (run / "mine.txt").read_text() == ""
        if (run / "run.json").exists():
            assert (run / "artifacts" / "programs" / "one.py").read_text() and (run / "blueprint.yaml").read_text()
            assert RunFolder.open(run).info.extra == {"data": {}}
        else:
            RunFolder.create("coca", 3, ["train"], at=run, fill=fill).finish("FINISHED")
            assert (run / "blueprint.yaml").read_text()


def test_a_run_that_was_killed_before_its_first_checkpoint_is_started(small_coca: Load, tmp_path: Path) -> None:
    def train(root: Path, at: int, *, resume: bool = False) -> list[str]:
        options = TrainOptions(seed=1, device="cpu")
        with killing(root, at) as killer:
            small_coca(*SHORT).train(out=root / "run", options=options, track=False, resume=resume)
        return killer.writes

    writes = train(tmp_path / "whole", 0)
    renamed = [n for n, write in enumerate(writes, 1) if write.startswith("os.rename")]
    begun = next(n for n in renamed if ".starting-" in Path(writes[n - 1]).name)
    words = [number for number, write in enumerate(writes, 1) if "/tokenizers" in write]
    saved = [number for number, write in enumerate(writes, 1) if "/checkpoints/" in write]
    for at in (begun - 1, begun + 1, words[len(words) // 2], words[-1], saved[0], saved[len(saved) // 2]):
        root = tmp_path / str(at)
        train(root, at)
        assert (root / "run").exists() == (at > begun), "absent, or with all that it begins with"
        train(root, 0, resume=at > begun)
        (whole, again) = (
            checkpoint.step_folder(where / "run" / "checkpoints", 1) for where in (tmp_path / "whole", root)
        )
        for file in whole.iterdir():
            assert file.read_bytes() == (again / file.name).read_bytes(), (at, file.name)


def test_a_resumed_run_is_told_that_nothing_had_begun(
    small_coca: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blueprint = small_coca(*SHORT)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compose_vlp.runtime.training.stage_run.StageRun.run", stop)
        with pytest.raises(KeyboardInterrupt):
            blueprint.train(out=tmp_path / "run", options=TrainOptions(device="cpu"), track=False)
    assert run_command(["train", "--no-track", "--device", "cpu", "--resume", str(tmp_path / "run")]) == 0
    assert "nothing of this run had been saved: it starts at the beginning" in capsys.readouterr().err


def test_a_folder_without_its_blueprint_is_told_how_to_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RunFolder.create("coca", 0, ["compose-vlp", "train", "tiny/coca", "--out", "run"], at=tmp_path / "run").finish(
        "FAILED"
    )
    assert run_command(["train", "--resume", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr().err
    assert "nothing had begun there" in printed and "start it again: compose-vlp train tiny/coca --out run" in printed


def test_a_mistake_while_the_folder_is_filled_leaves_none(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise UserError("no")

    with pytest.raises(UserError):
        RunFolder.create("coca", 0, [], root=tmp_path, fill=fail)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["blueprint.yaml", "logs/mine.txt", "artifacts", "tokenizers/words/vocab.txt"])
def test_what_a_run_would_write_over_is_not_lost(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "run" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match=f"run has {name.split('/', maxsplit=1)[0]}, which a run would write over"):
        RunFolder.create("coca", 0, [], at=tmp_path / "run", fill=fill)
    assert mine.read_text() == "mine"
    assert [path.name for path in mine.parent.iterdir()] == [mine.name]


def test_a_run_that_fails_to_begin_leaves_the_folder_as_it_was(small_coca: Load, tmp_path: Path) -> None:
    (tmp_path / "run" / "notes").mkdir(parents=True)
    (tmp_path / "run" / "notes" / "mine.txt").write_text("mine")

    def fail(*_: object) -> None:
        raise UserError("no")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compose_vlp.runtime.training.trainer.build", fail)
        for out in ("run", "new"):
            with pytest.raises(UserError, match="no"):
                small_coca(*SHORT).train(out=tmp_path / out, options=TrainOptions(device="cpu"), track=False)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "run",
        "run/notes",
        "run/notes/mine.txt",
    ]


def test_taking_a_run_away_may_be_killed_too(tmp_path: Path) -> None:
    def undo(run: Path, at: int) -> list[str]:
        run.mkdir(parents=True)
        (run / "mine.txt").write_text("mine")
        folder = RunFolder.create("coca", 0, [], at=run, fill=fill)
        with killing(run, at) as killer:
            folder.take_away()
        return killer.writes

    for at in range(1, len(undo(tmp_path / "0", 0)) + 1):
        run = tmp_path / str(at)
        undo(run, at)
        if (run / "run.json").exists():
            RunFolder.open(run).claim()
        else:
            RunFolder.create("coca", 0, [], at=run, fill=fill).finish("FINISHED")
        assert (run / "mine.txt").read_text() == "mine" and (run / "blueprint.yaml").read_text()


def test_a_run_writes_at_the_top_of_its_folder_what_is_known(small_coca: Load, tmp_path: Path) -> None:
    small_coca(*SHORT).train(out=tmp_path / "run", options=TrainOptions(device="cpu"), track=True)
    assert {path.name for path in (tmp_path / "run").iterdir()} <= ENTRIES
