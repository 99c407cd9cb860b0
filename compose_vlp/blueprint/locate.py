"""From what a person writes (`coca`, `tasks/vqa_generate`, `./mine.yaml`) to a file, and back to a name to print."""

from __future__ import annotations

from pathlib import Path

from compose_vlp.errors import Span, UserError, did_you_mean
from compose_vlp.files import is_file, is_folder

LIBRARY = Path(__file__).resolve().parent.parent / "blueprints"
"""The folder of the built-in blueprints, in a checkout and in an installed wheel alike."""

SWEEPS = "sweeps/"
"""Files of the library that are no blueprints."""

_SUFFIXES = (".yaml", ".yml")


def builtin_names(library: Path = LIBRARY) -> list[str]:
    """The built-in blueprints by name: `coca`, `tasks/vqa_generate`."""
    files = (file for suffix in _SUFFIXES for file in library.rglob(f"*{suffix}"))
    names = (file.relative_to(library).with_suffix("").as_posix() for file in files)
    return sorted(name for name in names if not name.startswith(SWEEPS))


def locate(written: str, mention: Span, beside: Path | None = None, library: Path = LIBRARY) -> Path:
    """The file that `written` means: a path from `beside`'s folder (the working directory without one), or a built-in.

    In `extends` a file beside comes before a built-in of the same name, and a file never means itself, so that
    `tiny/coca.yaml` can extend `coca`. On the command line a path is a path because it has its suffix.

    Raises:
        UserError: neither a file nor a built-in.
    """
    has_suffix = written.endswith(_SUFFIXES)
    candidates = [written] if has_suffix else [written + suffix for suffix in _SUFFIXES]
    folder = beside.parent if beside else Path()
    roots = [folder, library] if beside or has_suffix else [library]
    for root in roots:
        for candidate in candidates:
            path = root / candidate
            if is_file(path) and (beside is None or path.resolve() != beside.resolve()):
                return path.resolve()
    own = next((folder / candidate for candidate in candidates if is_file(folder / candidate)), None)
    if own is not None and beside is not None:
        raise UserError(
            f"{written!r} is this file itself: a blueprint cannot extend itself",
            span=mention,
            hints=(f"name the blueprint that it begins from: {', '.join(builtin_names(library)[:3])}, ...",),
        )
    if has_suffix and is_folder(folder / written):
        raise UserError(f"{written!r} is a folder", span=mention, hints=("a blueprint is a file in it",))
    hints = did_you_mean(written.removesuffix(".yaml"), builtin_names(library))
    if own is not None:
        hints = (f"the file in this folder is {candidates[0]!r}", *hints)
    setting, colon, value = written.partition(":")
    if beside is None and colon and value.startswith(" "):  # as in a file
        hints = (f"a change is written `{setting}={value.strip()}`",)
    ways = ("a path ends in .yaml",) if not has_suffix else (f"looked from {folder.resolve()}",)
    raise UserError(f"no blueprint is called {written!r}", span=mention, hints=hints or ways)


def display_name(path: Path) -> str:
    """Name a file for messages: from the working directory where it lies below that, a built-in by its name
    (`albef.yaml`) unless a file is called so here, any other in full."""
    here, library = Path.cwd(), LIBRARY.resolve()
    if path.is_relative_to(here):
        return path.relative_to(here).as_posix()
    name = path.relative_to(library) if path.is_relative_to(library) else path
    return path.as_posix() if is_file(name) else name.as_posix()
