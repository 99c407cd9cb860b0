"""Whose fault an exception is: blame follows the frames of its traceback.

What passes through a file of the user's own (a plugin) is that file's; what passes through a model of transformers,
timm or open_clip, that model's. Only the rest is ours.
"""

from __future__ import annotations

import linecache
import os
import re
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from compose_vlp.errors import Problem, Span, UserError

FOREIGN: Final = ("transformers/models/", "timm/models/", "open_clip/")
"""Code of models that components wrap."""
_FRAME: Final = re.compile(r'^ *File "(.+?)", line (\d+), in (.+)$', re.MULTILINE)
_IN_WORKER: Final = re.compile(r"Caught (\w+) in DataLoader worker process \d+\.\s*Original Traceback")
_CALL: Final = re.compile(r"\b(m|m_\w+|losses)\.(\w+)[(,]|^\s*\S+ = (\w+)\(")
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_META_DEVICE: Final = "`build` measures on torch's meta device, whose tensors have shapes and no numbers"
_MADE_ON_META: Final = (
    "`__init__` runs on torch's meta device too, whose tensors have shapes and no numbers: it makes weights, draws and "
    "fills them, and reads no number of them (`.item()`, `if`, `.tolist()`)"
)
_META: Final = re.compile(r"\bmeta (?:device|tensor)|'meta' backend", re.IGNORECASE)


class Fault(UserError):
    """A fault of code that is not ours, told with its own file and line."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.span}: {problem.message}" if problem.span else problem.message)
        self.problems = (problem,)


@dataclass(frozen=True)
class Frame:
    """A line that was running."""

    file: str
    line: int
    function: str

    @property
    def text(self) -> str:
        return linecache.getline(self.file, self.line).strip()

    @property
    def is_plugin(self) -> bool:
        """Is it in a file of the user's own, or of a package that declares kinds?"""
        return _is_plugin(self.file)

    @property
    def is_foreign(self) -> bool:
        path = self.file.replace(os.sep, "/")
        return any(f"/{part}" in path for part in FOREIGN) and not _is_ours(self.file)

    @property
    def is_watch(self) -> bool:
        """Does it only wait for exceptions?"""
        return self.function in ("guarded", "blamed", "noted") and _is_ours(self.file)

    @property
    def is_program(self) -> bool:
        return self.file.startswith("<program ")


@contextmanager
def noted(text: str) -> Iterator[None]:
    """Add to what is raised within what was being done; a mistake that is explained already needs no more."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        error.add_note(text)
        raise


@contextmanager
def blamed(doing: str) -> Iterator[None]:
    """Explain at once what is raised within, where code that is not ours did it.

    Raises:
        Fault: in place of such an exception.
    """
    try:
        with noted(f"while {doing}"):
            yield
    except (UserError, KeyboardInterrupt):
        raise
    except SystemExit as end:
        raise Fault(Problem(f"the process was ended (code {end.code}) while {doing}")) from end
    except Exception as error:
        fault = fault_of(error) or _nobody_s(error)
        raise fault from error


def fault_of(error: BaseException) -> Fault | None:
    """Judge whether an exception is a fault of the user's own code or of a foreign model's; None if of neither."""
    if isinstance(error, SyntaxError) and error.filename and _is_plugin(error.filename):
        column = error.offset or 1
        end = error.end_offset if error.end_lineno == error.lineno and error.end_offset else column + 1
        span = Span(error.filename, error.lineno or 1, column, max(end, column + 1))
        return Fault(Problem(f"this is no Python: {error.msg}", span, notes_of(error)))
    frames = frames_of(error)
    started = (place for place, frame in enumerate(frames) if _is_ours(frame.file) and not frame.is_watch)
    called = next(started, len(frames))  # what called us is not ours to judge
    places = [place for place, frame in enumerate(frames) if place > called and frame.is_plugin]
    if not places:
        ours = max((place for place, frame in enumerate(frames) if _is_ours(frame.file)), default=-1)
        places = [place for place, frame in enumerate(frames) if frame.is_foreign and place > ours]
    if not places:
        return None
    frame, inner = frames[places[-1]], frames[places[-1] + 1 :]
    library = [entry for entry in inner if not _is_ours(entry.file) and not entry.file.startswith("<")]
    hints = [f"in {frame.function}" + (f", through {_shown(library[-1])}" if library else "")]
    hints += [*call_of(frames), *notes_of(error), *_about_meta(error, [frames[place] for place in places])]
    return Fault(Problem(f"{_name(error)}: {_message(error)}", _span(frame), tuple(hints)))


def call_of(frames: Sequence[Frame]) -> list[str]:
    """Name the call of the compiled program that was running, with its component."""
    program = next((frame for frame in reversed(frames) if frame.is_program), None)
    if program is None:
        return []
    call = _CALL.search(program.text)
    what = "" if call is None else f" of loss {call[2]!r}" if call[1] == "losses" else f" of {call[2] or call[3]!r}"
    return [f"in the call{what}: {program.text}"]


def notes_of(error: BaseException) -> tuple[str, ...]:
    """List what was being done, the innermost first."""
    return tuple(getattr(error, "__notes__", ()))


def frames_of(error: BaseException) -> list[Frame]:
    """List the lines that were running, outermost first; those of a worker process that read data, too."""
    frames = [
        Frame(entry.filename, entry.lineno or 1, entry.name) for entry in traceback.extract_tb(error.__traceback__)
    ]
    if _IN_WORKER.search(str(error)):
        frames += [Frame(file, int(line), name) for file, line, name in _FRAME.findall(str(error))]
    return frames


def _name(error: BaseException) -> str:
    worker = _IN_WORKER.search(str(error))
    return worker[1] if worker else type(error).__name__


def _message(error: BaseException) -> str:
    """Take the first line of the message; of an error from a worker process, that of the original."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if _IN_WORKER.search(str(error)):
        original = [line for line in lines if line.startswith(f"{_name(error)}:")]
        return original[-1].partition(": ")[2] if original else ""
    return lines[0] if lines else ""


def _about_meta(error: BaseException, own: Sequence[Frame]) -> tuple[str, ...]:
    """Explain what torch's meta device cannot do; `own` are the lines of the file that is blamed."""
    if not _META.search(str(error)):
        return ()
    if any(frame.function == "__init__" for frame in own):
        return (_MADE_ON_META,)
    return (f"{_META_DEVICE}, where this operation has no kernel; training and evaluation need none",)


def _nobody_s(error: Exception) -> Fault:
    """Report an exception that no line of the user's raised: an installed package cannot be imported."""
    return Fault(Problem(f"{_name(error)}: {_message(error)}", None, notes_of(error)))


def _span(frame: Frame) -> Span:
    line = linecache.getline(frame.file, frame.line).rstrip()
    start = len(line) - len(line.lstrip())
    return Span(frame.file, frame.line, start + 1, max(len(line), start + 1) + 1)


def _shown(frame: Frame) -> str:
    return f"{frame.file}:{frame.line} in {frame.function}"


@cache
def _is_ours(file: str) -> bool:
    """Is it a file of this package? Its components are also known by the path that they have in a checkout."""
    package = Path(__file__).parent
    roots = {package.resolve(), (package / "components").resolve(), (package / "data").resolve()}
    path = Path(file)
    return file.startswith("<program ") or any(path.resolve().is_relative_to(root) for root in roots)


@cache
def _is_plugin(file: str) -> bool:
    """Is it the user's own: neither ours, nor installed, nor Python's, nor made up; or of a package of kinds?"""
    if file.startswith("<") or _is_ours(file):
        return False
    path = Path(file).resolve()
    if any(path.is_relative_to(folder) for folder in _packages_of_kinds()):
        return True
    return not (_INSTALLED & set(path.parts) or any(path.is_relative_to(root) for root in _python()))


def _python() -> list[Path]:
    """List the folders of Python's own modules."""
    paths = sysconfig.get_paths()
    return [Path(paths[name]).resolve() for name in ("stdlib", "platstdlib")]


def _packages_of_kinds() -> list[Path]:
    """List the folders of installed packages that declare kinds."""
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    folders: list[Any] = []
    for point in entry_points(group="compose_vlp.plugins"):
        spec = find_spec(point.module.partition(".")[0])
        folders += [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])] if spec else []
    return [Path(folder).resolve() for folder in folders]
