"""What becomes of errors: a mistake of the user's is explained, an unexpected one is written to a file."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from compose_vlp.errors import Stopped, UserError
from compose_vlp.readable import visible
from compose_vlp.runtime.launcher import tell_launcher

FAILED: Final = 1
MISTAKE: Final = 2
STOPPED: Final = 130


class SafeFormatter(logging.Formatter):
    """Writes log records as the console prints: nothing in them is obeyed by a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


@dataclass
class Outcome:
    """The exit code so far."""

    code: int = 0


@contextmanager
def guarded(*, as_json: bool = False) -> Iterator[Outcome]:
    """Turn what is raised inside into text on standard error and an exit code.

    With `as_json` a mistake is one JSON document on standard output instead: `{"ok": false, "problems": [...]}`.
    """
    outcome = Outcome()
    if logging.lastResort is not None:  # which speaks where nobody else listens
        logging.lastResort.setFormatter(SafeFormatter())
    try:
        yield outcome
        sys.stdout.flush()
    except UserError as error:
        outcome.code = MISTAKE
        _explain(error, as_json)
    except KeyboardInterrupt as stop:
        outcome.code = stop.code if isinstance(stop, Stopped) else STOPPED
    except BrokenPipeError:
        outcome.code = FAILED
        _forget_output()
    except Exception as error:  # noqa: BLE001 - the one place where nothing may pass
        outcome.code = _report(error, as_json)


def _explain(error: UserError, as_json: bool) -> None:
    from compose_vlp.cli import problems
    from compose_vlp.cli.console import print_json

    tell_launcher("; ".join(f"{p.span}: {p.message}" if p.span else p.message for p in error.problems))
    if not speaks(str(error)):
        return
    if as_json:
        print_json({"ok": False, "problems": problems.as_json(error.problems)})
    else:
        problems.show(error)


def speaks(words: str) -> bool:
    """Tell whether this process says it: under `torchrun`, a mistake that all processes meet is shown once."""
    if "LOCAL_RANK" not in os.environ:
        return True  # without the import of torch
    from compose_vlp.runtime.processes import is_first_to_say

    return is_first_to_say(words)


def _forget_output() -> None:
    """Whoever read our output has gone (`| head`): what is still buffered is dropped without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: Exception, as_json: bool) -> int:
    """Say whose fault it is, and give the exit code."""
    from compose_vlp.blame import call_of, fault_of, frames_of, notes_of
    from compose_vlp.cli.machine import is_of_another_process, machine_fault

    if is_of_another_process(error):
        message = "another process of this run has ended; what it says is the reason"
        if speaks(message):
            print(message, file=sys.stderr)
        return FAILED
    machine = machine_fault(error)
    if machine is not None:
        _explain(machine, as_json)
        return FAILED
    path = _save(error)
    fault = fault_of(error)
    if fault is not None:
        _explain(fault, as_json)
        print(f"The whole traceback is in {path}", file=sys.stderr)
        return MISTAKE
    print(visible(f"Unexpected {type(error).__name__}: {error}"), file=sys.stderr)
    for line in (*notes_of(error), *call_of(frames_of(error))):
        print(visible(f"  {line}"), file=sys.stderr)
    print(f"This is a fault of compose-vlp, not yours. What happened is written down in {path}", file=sys.stderr)
    return FAILED


def _save(error: Exception) -> str:
    """Imports what only a fault needs."""
    import platform
    import shlex
    import tempfile
    import traceback
    from importlib.metadata import version

    handle, name = tempfile.mkstemp(prefix="compose-vlp-error-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"compose-vlp {version('compose-vlp')}, Python {platform.python_version()}, {platform.platform()}\n")
        file.write(f"{shlex.join(sys.argv)}\n\n")
        file.writelines(traceback.format_exception(error))
    return name
