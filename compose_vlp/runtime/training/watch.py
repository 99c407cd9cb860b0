"""Processes that train together tell each other where they are, so that one that hangs is named and not waited for.

They do so beside the collectives, which a process that hangs never joins: by the store by which they met. So it is the
same with gloo and with NCCL, and no step takes part in it.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Final, NoReturn, Protocol

from compose_vlp.readable import duration
from compose_vlp.runtime.launcher import tell_launcher
from compose_vlp.runtime.processes import TO_SAY, Processes, open_store
from compose_vlp.runtime.training.hanging import Doing, Seen, Sign, hanging, in_words

WARNED_AFTER: Final = 1 / 6
"""Of the time after which a run ends: a process that hangs is named then."""
FAILED: Final = 1
_LOOKS: Final = 10
"""Looks at the others before one is named."""
_TO_ANSWER: Final = timedelta(seconds=60)
_NUMBERS: Final = count()
_LOST: Final = frozenset({(-1, True)})


class Store(Protocol):
    """What is asked of torch's stores."""

    def set(self, key: str, value: str, /) -> None: ...
    def check(self, keys: list[str], /) -> bool: ...
    def multi_get(self, keys: list[str], /) -> list[bytes]: ...


@dataclass
class Place:
    """Where this process is, as it says itself: after `step` steps of the run, and doing what."""

    step: int = 0
    doing: Doing = Doing.MAKING_READY

    def at(self, doing: Doing, step: int | None = None) -> None:
        """Go on to something, in the same step if none is named."""
        self.step, self.doing = self.step if step is None else step, doing

    @contextmanager
    def busy(self, doing: Doing) -> Iterator[None]:
        """Do within what takes as long as it takes."""
        before, self.doing = self.doing, doing
        try:
            yield
        finally:
            self.doing = before


@dataclass(frozen=True)
class Trouble:
    """What this process waits for in vain.

    `what` tells one trouble from another, `speaker` is who tells it, and `over` says that the wait is.
    """

    what: frozenset[tuple[int, bool]]
    words: str
    speaker: int
    over: bool


def leave(words: str) -> NoReturn:
    """End this process at once: what waits in a collective cannot be called back."""
    tell_launcher(words)
    sys.stderr.flush()
    os._exit(FAILED)


class Watch:
    """Looks after the others from `start` to `close`, in threads of its own.

    A process for which the others have waited a sixth of `patience` is named; after all of it every process ends
    itself, the one that hangs, too, if it is not stopped altogether. All judge alike. Seconds are those of this process
    alone: clocks may be apart, and time in which it was stopped itself is none.

    Args:
        processes: those that train together.
        place: where this one is.
        patience: seconds.
        say: told what hangs, and that it goes on, in one of the processes.
        store: by which they tell each other.
        name: of this watch in the store, the same in all processes.
        leave_by: ends this process.
    """

    def __init__(
        self,
        processes: Processes,
        place: Place,
        patience: float,
        say: Callable[[str], None],
        store: Store,
        name: str,
        leave_by: Callable[[str], None] = leave,
    ) -> None:
        self._processes, self._place, self._say, self._store = processes, place, say, store
        self._patience, self._warned_after = patience, patience * WARNED_AFTER
        self._leave = leave_by
        self._name = name
        self._main = threading.get_ident()
        self._host = socket.gethostname()
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=task, daemon=True) for task in (self._exchange, self._look_after)]
        self._beat, self._time, self._answered = 0, 0.0, 0.0
        nothing = Sign(0, 0, Doing.MAKING_READY, "a machine that has told nothing yet", "code that is not known")
        self._heard = dict.fromkeys(range(processes.world), (nothing, 0.0, 0.0))  # with when it came, and moved
        self._told: frozenset[tuple[int, bool]] = frozenset()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Look no more, and tell the others that this process is done."""
        self._place.at(Doing.DONE)
        self._closed.set()
        for thread in self._threads:
            thread.join(TO_SAY.total_seconds())

    def _exchange(self) -> None:
        """Give signs and hear those of the others; a store that is gone ends it, and then it answers no more."""
        try:
            while not self._closed.wait(self._warned_after / _LOOKS):
                self._tell()
                self._hear()
                self._answered = self._time
            self._tell()
        except RuntimeError:
            return

    def _tell(self) -> None:
        self._beat += 1
        sign = Sign(self._beat, self._place.step, self._place.doing, self._host, _code_of(self._main))
        self._store.set(self._of(self._processes.rank), sign.packed())

    def _hear(self) -> None:
        known = self._heard
        ranks = [rank for rank, (sign, *_) in known.items() if sign.beat or self._store.check([self._of(rank)])]
        heard = {}
        for rank, text in zip(ranks, self._store.multi_get([self._of(rank) for rank in ranks]), strict=True):
            sign, (before, came, moved) = Sign.unpacked(text), known[rank]
            heard[rank] = (
                sign,
                came if sign.beat == before.beat else self._time,
                moved if sign.place == before.place else self._time,
            )
        self._heard = known | heard

    def _of(self, rank: int) -> str:
        return f"compose-vlp/watch/{self._name}/{rank}"

    def _look_after(self) -> None:
        each, before = self._warned_after / _LOOKS, time.monotonic()
        while not self._closed.wait(each):
            now = time.monotonic()
            self._time += min(now - before, 2 * each)  # if more has passed, this process was stopped itself
            before = now
            self._judge(self._trouble())

    def _trouble(self) -> Trouble | None:
        unanswered = self._time - self._answered
        if unanswered > self._warned_after:
            address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            words = f"{address}, where the processes of this run meet, has not answered for {duration(unanswered)}"
            return Trouble(_LOST, words, min(self._processes.rank, 1), unanswered > self._patience)
        seen = [
            Seen(rank, sign, self._answered - came, self._answered - moved)
            for rank, (sign, came, moved) in self._heard.items()
        ]
        named = hanging(seen, self._warned_after)
        if not named:
            return None
        speaker = min((process.rank for process in seen if process.silent <= self._warned_after), default=0)
        words = in_words(named, self._processes.world, self._warned_after)
        what = frozenset((process.rank, process.silent > self._warned_after) for process in named)
        return Trouble(what, words, speaker, bool(hanging(seen, self._patience)))

    def _judge(self, trouble: Trouble | None) -> None:
        if trouble is None:
            if self._told and self._processes.main:
                self._say("all processes go on")
            self._told = frozenset()
        elif trouble.over:
            self._end(trouble)
        elif trouble.what != self._told:
            self._told = trouble.what
            if trouble.speaker == self._processes.rank:
                rest = duration(self._patience - self._warned_after)
                self._say(f"{trouble.words}; the run ends if nothing changes within {rest} (`--patience`)")

    def _end(self, trouble: Trouble) -> None:
        """End this process; the one that speaks does so first, since a launcher ends all others when one ends."""
        if trouble.speaker == self._processes.rank:
            self._say(
                f"{trouble.words}: the run ends. `train --resume RUN` goes on from its last checkpoint, as "
                f"`torchrun --max-restarts` does by itself; `--patience` waits longer than "
                f"{self._patience / 60:.3g} minutes"
            )
        else:
            time.sleep(TO_SAY.total_seconds())
        self._closed.set()
        self._leave(trouble.words)


@contextmanager
def watched(processes: Processes, place: Place, patience: float, say: Callable[[str], None]) -> Iterator[None]:
    """Within it, processes that train together look after each other; `patience` seconds, of which 0 are for ever."""
    store = open_store(_TO_ANSWER) if processes.world > 1 and patience else None
    if store is None:
        yield
        return
    name = f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_NUMBERS)}"
    watch = Watch(processes, place, patience, say, store, name)
    watch.start()
    try:
        yield
    finally:
        watch.close()


def _code_of(thread: int) -> str:
    """Name the place in the code where a thread is, not within torch."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 (there is no other way)
    while frame is not None and frame.f_back is not None and f"{os.sep}torch{os.sep}" in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is None:
        return "no code"
    return f"{frame.f_code.co_name}, {Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
