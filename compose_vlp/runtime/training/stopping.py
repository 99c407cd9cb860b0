"""Stopping a run from outside: Ctrl-C and SIGTERM wait for the end of the running step."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAID = b"\nstopping at the end of this step; Ctrl-C again stops at once\n"


class Stopping:
    """Within it, a signal is noted while `patiently` is on; elsewhere, or at the second Ctrl-C, it stops at once.

    SIGTERM stops as Ctrl-C does, so that a run that is told to end (by a scheduler, by torchrun) ends in good order.
    Signals reach Python's main thread only: in others nothing changes.
    """

    def __init__(self, *, speaks: bool = True) -> None:
        self.asked = False
        self._speaks = speaks
        self._patient = False
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._hear) for one in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Signals wait until `asked` is looked at."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def _hear(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a forked data worker: its parent ends it
        if not self._patient or (self.asked and number == signal.SIGINT):
            raise KeyboardInterrupt
        self.asked = True
        if self._speaks:
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, SAID)  # whole, whatever is being written
