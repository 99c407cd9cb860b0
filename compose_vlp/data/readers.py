"""Processes that read data ahead: they end when the process that started them says so, and by no other signal.

A scheduler, `timeout` or a terminal sends its signal to a whole group of processes. The one that trains saves and stops
in good order, for which it still needs its readers; it ends them itself.
"""

from __future__ import annotations

import atexit
import signal
import sys
from typing import Final

if sys.platform == "linux":  # a fork needs no pickling, so that sources of plug-ins work; elsewhere it is not safe
    from multiprocessing.context import ForkContext as Context
    from multiprocessing.context import ForkProcess as Process
else:
    from multiprocessing.context import SpawnContext as Context
    from multiprocessing.context import SpawnProcess as Process

DEAF_TO: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Reader(Process):
    """A process that reads. SIGTERM does not end it, so that `terminate` takes the signal that ends any."""

    def start(self) -> None:
        super().start()
        atexit.register(self._end_with_parent)  # before multiprocessing ends its children by SIGTERM, and waits

    def terminate(self) -> None:
        self.kill()

    def _end_with_parent(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch takes the end of a reader for an error
        self.kill()


class ReaderContext(Context):
    """Starts readers."""

    Process = Reader


def deafen(_: int) -> None:
    """Hear none of the signals that a group of processes is sent, from here on in this process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, DEAF_TO)
