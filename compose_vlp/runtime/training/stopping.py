"""Stopping a run from outside: Ctrl-C, SIGTERM and a closed terminal wait for the end of the running step."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, Self

from compose_vlp.errors import Stopped

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAID: Final = b"\nstopping at the end of this step; Ctrl-C again stops at once\n"


class Stopping:
    """Within it, a signal is noted while `patiently` is on; elsewhere, or at the second Ctrl-C, it stops at once.

    SIGTERM and SIGHUP stop as Ctrl-C does, so that a run that is told to end (by a scheduler, by torchrun, by a
    terminal that closes) ends in good order; sent again, as to a process and to its group, they are no more than the
    first one. Under `nohup` SIGHUP says nothing. Signals reach Python's main thread only: in others nothing changes.

    `asked` is the first signal that was noted, 0 while there was none.
    """

    def __init__(self, *, speaks: bool = True) -> None:
        self.asked = 0
        self._speaks = speaks
        self._patient = False
        self._breaking_off = False
        self._leaving = False
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # ignored: `nohup`
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Signals wait until `asked` is looked at."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    @contextmanager
    def breaking_off(self) -> Iterator[None]:
        """Within `patiently`: what is long and can be done again is broken off, and the signal noted.

        Raises:
            Stopped: a signal came, now or before.
        """
        if self.asked:
            raise Stopped(self.asked)
        self._breaking_off = True
        try:
            yield
        finally:
            self._breaking_off = False

    def _hear(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a forked process: its parent ends it
        if number != signal.SIGINT and (self.asked or self._leaving):
            return
        if not self._patient or self.asked:
            self._leaving = True
            raise Stopped(number)
        self.asked = number
        if self._speaks:
            self._say()
        if self._breaking_off:
            raise Stopped(number)

    @staticmethod
    def _say() -> None:
        """Write all at once, whatever is being written; to a terminal that is gone, nothing."""
        try:
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, SAID)
        except OSError:
            return
