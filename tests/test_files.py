from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compose_vlp.files import ProcessLock, write_atomic

HOLD = """
import sys
from pathlib import Path
from compose_vlp.files import ProcessLock
lock = ProcessLock(Path(sys.argv[1]))
print(lock.try_acquire(), flush=True)
sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_write_atomic_replaces_the_whole_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "long old content")
    write_atomic(path, b"new", durable=False)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomic_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_keeps_other_processes_out_until_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = holder(path)
    try:
        assert not ProcessLock(path).try_acquire()
        assert ProcessLock(path).is_held()
    finally:
        end(process)
    assert not ProcessLock(path).is_held()
    with ProcessLock(path) as lock:
        assert lock.is_held()


def test_a_lock_keeps_its_own_process_out_too_and_asking_does_not_free_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = ProcessLock(path)
    assert lock.try_acquire()
    other = ProcessLock(tmp_path / "." / "lock")
    assert other.is_held()
    assert not other.try_acquire()
    other.release()  # it never had it
    done = subprocess.run([sys.executable, "-c", HOLD, str(path)], input="", capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    lock.release()
    assert other.try_acquire()
    other.release()


def test_a_forked_worker_does_not_keep_the_lock_of_its_parent(tmp_path: Path) -> None:
    script = """
import os, sys, time
from pathlib import Path
from compose_vlp.files import ProcessLock
ProcessLock(Path(sys.argv[1])).acquire()
if os.fork() == 0:
    time.sleep(60)
print(os.getpid(), flush=True)
os.kill(os.getpid(), 9)
"""
    path = tmp_path / "lock"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    process.wait()
    try:
        assert not ProcessLock(path).is_held()
    finally:
        os.killpg(process.pid, 9)
        process.communicate()


def test_a_forked_worker_waits_for_a_lock_of_its_parent_and_has_it_then(tmp_path: Path) -> None:
    lock = ProcessLock(tmp_path / "a.lock")
    lock.acquire()
    tried, freed = multiprocessing.get_context("fork").Event(), multiprocessing.get_context("fork").Event()

    def work() -> None:
        other = ProcessLock(tmp_path / "a.lock")
        if not other.try_acquire():
            tried.set()
            freed.wait(30)
            sys.exit(0 if other.try_acquire() else 1)

    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    assert tried.wait(30)
    lock.release()
    freed.set()
    worker.join(30)
    assert worker.exitcode == 0


def test_a_lock_that_may_not_be_asked_counts_as_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    path.touch()
    monkeypatch.setattr(os, "access", lambda *args: False)
    assert ProcessLock(path).is_held()
