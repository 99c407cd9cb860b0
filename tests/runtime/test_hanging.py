"""A process for which the others wait in vain is named, and after a stated time the run ends."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import torch
from torch.distributed import HashStore

from compose_vlp.api import Blueprint
from compose_vlp.runtime.processes import Processes
from compose_vlp.runtime.training import watch as watch_module
from compose_vlp.runtime.training.hanging import Doing, Seen, Sign, hanging, in_words
from compose_vlp.runtime.training.loop import StageLoop
from compose_vlp.runtime.training.trainer import TrainOptions
from compose_vlp.runtime.training.watch import Place, Watch
from tests.conftest import SMALL
from tests.runtime.test_training import STEPS
from tests.runtime.test_training import Watch as Listening
from tests.support import spawn

READING, COMPUTING, EVALUATING, SAVING, DONE = (
    Doing.READING_DATA, Doing.COMPUTING, Doing.EVALUATING, Doing.SAVING, Doing.DONE,
)  # fmt: skip
LONG, WAIT_S = 100.0, 120.0


def seen(*places: tuple[int, Doing], silent: tuple[int, ...] = (), still: tuple[int, ...] | None = None) -> list[Seen]:
    """Processes at steps, doing something; those in `silent` give no sign, those in `still` (all) get no further."""
    return [
        Seen(
            rank,
            Sign(1, step, doing, f"node{rank}", "read, mine.py:7"),
            LONG if rank in silent else 0.0,
            LONG if still is None or rank in still else 0.0,
        )
        for rank, (step, doing) in enumerate(places)
    ]


@pytest.mark.parametrize(
    ("processes", "ranks"),
    [
        (seen((3, COMPUTING), (3, READING), (3, COMPUTING)), [1]),
        (seen((3, COMPUTING), (2, COMPUTING), (3, COMPUTING)), [1]),
        (seen((3, COMPUTING), (3, READING), still=(0,)), []),  # it has just come there
        (seen((3, COMPUTING), (3, COMPUTING), silent=(1,)), [1]),
        (seen((3, COMPUTING), (3, COMPUTING)), [0, 1]),  # nobody is behind
        (seen((3, EVALUATING), (3, COMPUTING)), []),  # the others wait for it, rightly
        (seen((3, EVALUATING), (3, READING)), []),  # who hangs there is named when that is over
        (seen((3, SAVING), (3, SAVING)), []),
        (seen((3, EVALUATING), (3, COMPUTING), silent=(0,)), [0]),  # it was stopped while it evaluated
        (seen((8, DONE), (8, Doing.ENDING_THE_STEP)), [1]),
        (seen((8, DONE), (8, DONE), silent=(0, 1)), []),
    ],
)
def test_who_is_behind_or_gives_no_sign_hangs_and_who_is_waited_for_rightly_does_not(
    processes: list[Seen], ranks: list[int]
) -> None:
    assert [process.rank for process in hanging(processes, LONG / 2)] == ranks


def test_it_is_named_with_its_machine_and_what_it_does() -> None:
    (behind,) = hanging(processes := seen((3, COMPUTING), (3, READING)), LONG / 2)
    assert in_words([behind], 2, LONG / 2) == (
        "process 1 on node1 has not got further for 1 min 40 s: reading data, after 3 steps of the run "
        "(in read, mine.py:7)"
    )
    silent = hanging(seen((3, COMPUTING), (3, READING), silent=(1,)), LONG / 2)
    assert "has given no sign for 1 min 40 s, and was last reading data, after 3 steps" in in_words(silent, 2, LONG / 2)
    assert in_words(processes, 2, LONG / 2).startswith("none of the processes gets any further: process 0 on node0")
    many = seen(*[(3, COMPUTING)] * 9)
    assert in_words(many[:8], 9, LONG / 2).endswith("; and 4 more processes")
    assert Sign.unpacked(behind.sign.packed()) == behind.sign


def watch(rank: int, doing: Doing, store: Any, notes: Queue[str], patience: float = 1.8) -> Watch:
    """A process that is in step 3 for good."""
    processes = Processes(rank, 2, torch.device("cpu"))
    say = lambda words: notes.put(f"{rank} says: {words}")  # noqa: E731
    leave = lambda words: notes.put(f"{rank} ends: {words}")  # noqa: E731
    return Watch(processes, Place(3, doing), patience, say, store, "a", leave)


def test_one_process_tells_and_all_end() -> None:
    store, notes = HashStore(), Queue[str]()
    watches = [watch(rank, doing, store, notes) for rank, doing in enumerate((COMPUTING, READING))]
    for watcher in watches:
        watcher.start()
    lines = [notes.get(timeout=WAIT_S) for _ in range(4)]
    for watcher in watches:
        watcher.close()
    assert lines[0].startswith("0 says: process 1 on ") and lines[0].endswith("within 1.5 s (`--patience`)")
    assert ": the run ends. `train --resume RUN` goes on" in lines[1]
    assert {line[:6] for line in lines[2:]} == {"0 ends", "1 ends"}


def test_that_all_go_on_is_told_once_the_one_that_hung_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "WARNED_AFTER", 1 / 2000)
    store, notes = HashStore(), Queue[str]()
    watches = [watch(rank, doing, store, notes, 600.0) for rank, doing in enumerate((COMPUTING, READING))]
    for each in watches:
        each.start()
    assert notes.get(timeout=WAIT_S).startswith("0 says: process 1 on ")
    for each in watches:  # what evaluates is waited for
        each._place.at(Doing.EVALUATING)
    lines = iter(lambda: notes.get(timeout=WAIT_S), "0 says: all processes go on")
    assert all("ends" not in line for line in lines)
    for each in watches:
        each.close()


class Dead(HashStore):
    """The machine that keeps the store is gone, and no call comes back."""

    def check(self, _: list[str]) -> bool:
        return threading.Event().wait()


def test_a_store_that_does_not_answer_is_told_and_ends_the_run() -> None:
    notes = Queue[str]()
    watcher = watch(0, COMPUTING, Dead(), notes)
    watcher.start()
    lines = [notes.get(timeout=WAIT_S) for _ in range(3)]
    assert "where the processes of this run meet, has not answered for" in lines[0]
    assert "the run ends." in lines[1] and lines[2].startswith("0 ends")


def test_who_ends_leaves_word_for_the_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    watch_module.leave("process 1 hangs")
    assert codes == [1] and "process 1 hangs" in (tmp_path / "error.json").read_text()


class Wakes(Listening):
    """Lets a process that was stopped go on once it is named."""

    def __init__(self, pid: Path) -> None:
        super().__init__()
        self.pid = pid

    def note(self, text: str) -> None:
        super().note(text)
        if "no sign" in text:
            os.kill(int(self.pid.read_text()), signal.SIGCONT)


def stops(rank: int, out: Path) -> list[str]:
    """Train on two processes, of which the second is stopped in the third step."""
    setattr(watch_module, "WARNED_AFTER", 1 / 300)  # noqa: B010 - of five minutes; this process is at its end
    steps, listener = StageLoop.run, Wakes(out / "pid")
    if rank == 1:
        (out / "pid").write_text(str(os.getpid()))

        def stopped(self: StageLoop, first: int, last: int) -> Any:
            for report in steps(self, first, last):
                yield report
                if report.step == 2:
                    os.kill(os.getpid(), signal.SIGSTOP)

        StageLoop.run = stopped  # type: ignore[method-assign]
    options = TrainOptions(seed=1, device="cpu", patience=5.0)
    blueprint = Blueprint.load("tiny/coca", overrides=[*SMALL, *STEPS])
    torch.distributed.barrier()
    blueprint.train(out=out / "run", options=options, track=False, listener=listener)
    return [*listener.notes, f"{len(listener.totals)} steps"]


def test_a_process_that_is_stopped_is_named_by_the_other(tmp_path: Path) -> None:
    notes, _ = spawn(stops, tmp_path)
    line = next(note for note in notes if "no sign" in note)
    assert line.startswith("process 1 on ")
    assert notes[-1] == "8 steps"
    assert line in (tmp_path / "run" / "logs" / "train.log").read_text()
