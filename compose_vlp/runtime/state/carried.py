"""A run carries the plugins that it was trained with, and is loaded with them wherever it goes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from compose_vlp.errors import UserError
from compose_vlp.files import write_atomic
from compose_vlp.plugins import Package, Plugin, digest_of, load_entry_points, load_plugin, loaded_from

PLUGINS: Final = "plugins"
"""The folder below a run's that holds copies of its plugins, each in a folder of its own with what it imports."""
_LIST: Final = "plugins.json"


def carry(run: Path, plugins: Sequence[Plugin]) -> None:
    """Copy plugins into a run's folder, with digests, and note the installed packages of kinds."""
    packages = load_entry_points()
    folder = run / PLUGINS
    if not plugins and not packages:
        shutil.rmtree(folder, ignore_errors=True)
        return
    waiting = run / f"{PLUGINS}.new"
    shutil.rmtree(waiting, ignore_errors=True)
    entries = []
    for number, plugin in enumerate(plugins, 1):
        for name, text in plugin.texts.items():
            copy = waiting / str(number) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(text)
        entries.append({"folder": str(number), "original": str(plugin.original), "files": plugin.files})
    waiting.mkdir(exist_ok=True)  # the list is written last: with it, all of it is there
    written = {"plugins": entries, "packages": [asdict(package) for package in packages]}
    write_atomic(waiting / _LIST, json.dumps(written, indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    waiting.rename(folder)


def carried(run: Path, given: Sequence[str | Path | Plugin], note: Callable[[str], None]) -> tuple[Plugin, ...]:
    """Import a run's plugins, and those given in place of its own of the same file name or beside them.

    Args:
        run: The run's folder.
        given: What the user names (`--plugin`).
        note: Told where an original is other than the run's copy, or a package has another version.

    Raises:
        UserError: a copy is damaged, or a plugin cannot be imported.
    """
    own = loaded_from(given)
    listed = _listed(run)
    replaced = {plugin.path.name for plugin in own}
    plugins: list[Plugin] = [*own]
    for entry in listed.get("plugins", ()):
        file = run / PLUGINS / entry["folder"] / next(iter(entry["files"]))
        _check(file.parent, entry["files"])
        if file.name in replaced:
            continue
        original = Path(entry["original"])
        if _changed(original, entry["files"]):
            note(
                f"{original} has changed since the run was trained, and its copy {file} is used; "
                f"`--plugin {original}` takes the new one"
            )
        with _carried_alone(file, original):
            plugins.append(load_plugin(file, original, beside=plugins))
    _compare([Package(**package) for package in listed.get("packages", ())], note)
    return tuple(dict.fromkeys(plugins))


def replaced(run: Path, given: Sequence[Path]) -> list[str]:
    """Name the files that are given in place of a run's plugins, or beside them, and say something else."""
    known = {next(iter(entry["files"])): entry["files"] for entry in _listed(run).get("plugins", ())}
    return [
        f"plugin {file} is not what the run was trained with"
        for file in given
        if file.name not in known or _changed(file, known[file.name])
    ]


@contextmanager
def _carried_alone(file: Path, original: Path) -> Iterator[None]:
    """Explain that a file which a plugin reads while it is imported does not go with a run."""
    try:
        yield
    except UserError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        (problem,) = error.problems
        missing = f"{file} reads {error.__cause__.filename}, which is not here: a run carries no data files of plugins"
        hints = (f"put it there, or `--plugin {original}` uses the file that the run was trained with",)
        raise UserError(missing, span=problem.span, hints=hints) from error.__cause__


def _listed(run: Path) -> dict[str, Any]:
    file = run / PLUGINS / _LIST
    waiting = run / f"{PLUGINS}.new"
    if not file.parent.exists() and (waiting / _LIST).exists():
        waiting.rename(file.parent)  # killed between taking the old ones away and putting the new ones there
    try:
        listed: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    return listed


def _check(folder: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        if digest_of(folder / name) != digest:
            raise UserError(
                f"{folder / name} is not as the run was trained with: it was changed, or is gone",
                hints=["`--plugin FILE` gives a file of the same name in its place"],
            )


def _changed(original: Path, files: Mapping[str, str]) -> bool:
    """Is the user's own file there, and other than the copy? One that is gone was moved, which says nothing."""
    here = {name: digest_of(original.parent / name) for name in files}
    return here[next(iter(files))] is not None and here != dict(files)


def _compare(then: Sequence[Package], note: Callable[[str], None]) -> None:
    now = {package.entry_point: package for package in load_entry_points()}
    for package in then:
        here = now.get(package.entry_point)
        if here is None:
            note(f"the run was trained with {package.package} {package.version}, which is not installed here")
        elif here.version != package.version:
            note(f"the run was trained with {package.package} {package.version}; here it is {here.version}")
