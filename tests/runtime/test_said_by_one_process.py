"""What all processes of a run meet is shown by one of them, also before they have met each other."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from compose_vlp.cli import guard
from compose_vlp.cli.run import run
from compose_vlp.errors import UserError
from compose_vlp.runtime import processes, restarts


@pytest.fixture
def under_torchrun(monkeypatch: pytest.MonkeyPatch) -> TCPStore:
    """The store that `torchrun` keeps for its processes, and the variables that name it."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    known = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    for name, value in {**known, "TORCHELASTIC_RUN_ID": "a", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "TO_SAY", timedelta(milliseconds=500))
    return store


def code_of(error: Exception) -> int:
    with guard.guarded() as outcome:
        raise error
    return outcome.code


def test_a_mistake_that_each_process_meets_is_shown_once(
    under_torchrun: TCPStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [code_of(UserError("a batch of 7")) for _ in range(3)] == [guard.MISTAKE] * 3
    assert capsys.readouterr().err.count("a batch of 7") == 1
    code_of(UserError("only here"))
    assert "only here" in capsys.readouterr().err, "another process's own mistake is shown too"


def test_the_launcher_ends_its_account_with_the_mistake(
    under_torchrun: TCPStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    assert code_of(UserError("a batch of 7\x1b[2J")) == guard.MISTAKE
    failure = ProcessFailure(local_rank=1, pid=9, exitcode=guard.MISTAKE, error_file=str(tmp_path / "error.json"))
    account = ChildFailedError("compose_vlp", {1: failure}).format_msg()
    assert "traceback : a batch of 7\u241b[2J" in account


@pytest.mark.parametrize("rank", ["0", "1"])
def test_notes_are_those_of_the_first_process(
    under_torchrun: TCPStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    assert run(["check", "tiny/vlmo", "freeze=[]"]) == 0
    assert capsys.readouterr().err.count("what it has learnt moves") == (rank == "0")


@pytest.mark.parametrize("words", [["train", "tiny/coca", "--sed", "1"], ["tain"], ["runs", "--lst"], ["doctor", "x"]])
def test_wrong_usage_is_shown_once(
    under_torchrun: TCPStore, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert run(words) == 2
    assert "Usage" in capsys.readouterr().err
    assert [run(words), capsys.readouterr().err] == [2, ""]


def test_what_was_said_before_a_restart_is_said_again(
    under_torchrun: TCPStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [processes.is_first_to_say("x"), processes.is_first_to_say("x")] == [True, False]
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert processes.is_first_to_say("x")


def test_where_nobody_keeps_a_store_every_process_speaks(
    under_torchrun: TCPStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_PORT", "none")
    assert [processes.is_first_to_say("x"), processes.is_first_to_say("x")] == [True, True]
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE")
    assert processes.is_first_to_say("y")


def test_a_run_is_found_again_only_after_a_restart(
    under_torchrun: TCPStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    restarts.note_run(tmp_path / "run")
    assert restarts.run_before_restart(tmp_path / "run") is None, "the first time"
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert restarts.run_before_restart(None) is None, "it was taken away again, since it had not begun"
    (tmp_path / "run/run.json").touch()
    assert restarts.run_before_restart(None) == tmp_path / "run"
    monkeypatch.setenv("MASTER_PORT", "1")
    assert restarts.run_before_restart(None) is None
    assert restarts.run_before_restart(tmp_path / "run") == tmp_path / "run", "the folder that the command names"
