"""What a shell offers while a command line is typed: blueprints, paths of settings, runs, kinds.

Nothing is checked or built for it, and whatever goes wrong offers nothing: a shell has no place for messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from compose_vlp.blueprint.locate import builtin_names
from compose_vlp.errors import UserError


def words(ctx: Any, incomplete: str) -> list[str]:
    """Offer blueprints by name and, once one is there, the paths of its settings."""
    named = [word for word in _given(ctx) if "=" not in word and not word.startswith(("+", "~", "-"))]
    names = [name for name in builtin_names() if name.startswith(incomplete)]
    files = [str(path) for path in sorted(Path().glob(f"{_literal(incomplete)}*.yaml"))]
    return [*names, *files, *_settings(named, incomplete)]


def library(incomplete: str) -> list[str]:
    """Offer what comes with the program: models, tasks, hybrids, sweeps."""
    from compose_vlp.library import listings

    return [entry.name for entry in listings() if entry.name.startswith(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Offer the folders of runs, below `runs/` or what is typed, the latest first."""
    from compose_vlp.runtime.state.run_folder import run_folders

    folders: list[Path] = []
    for root in dict.fromkeys(
        (Path("runs"), Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent)
    ):
        with suppress(OSError):
            folders += run_folders(root)
    return [name for folder in folders if (name := str(folder)).startswith(incomplete)]


def kinds(incomplete: str) -> list[str]:
    """Offer kinds of components by name."""
    from compose_vlp.catalogue import catalogue

    return sorted(name for name in catalogue() if name.startswith(incomplete))


def formats(incomplete: str) -> list[str]:
    """Offer what a trained model can be exported as."""
    from compose_vlp.interop.formats import ALL

    return [name for name in ALL if name.startswith(incomplete)]


def starts(incomplete: str) -> list[str]:
    """Offer what a component's start can be of."""
    from compose_vlp.starts import COMPONENTS

    return [sort for sort in COMPONENTS if sort.startswith(incomplete)]


def _given(ctx: Any) -> list[str]:
    """List the words that stand on the command line already."""
    return [str(word) for value in ctx.params.values() if isinstance(value, list | tuple) for word in value]


def _literal(text: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)


def _settings(names: list[str], incomplete: str) -> Iterator[str]:
    """Offer the paths that begin as typed, a step at a time: `components.`, `components.vision.`, `...depth=`."""
    from compose_vlp.blueprint.show import values
    from compose_vlp.loading import LoadedBlueprint

    sign = incomplete[:1] if incomplete[:1] in ("~", "+") else ""
    *parents, _ = incomplete.removeprefix(sign).split(".")
    if not names or "=" in incomplete:
        return
    try:
        place: Any = values(LoadedBlueprint.load(*names).document)
    except (UserError, OSError):
        return
    for parent in parents:
        place = place.get(parent) if isinstance(place, dict) else None
    for key, value in place.items() if isinstance(place, dict) else ():
        path = sign + ".".join((*parents, key))
        if path.startswith(incomplete):
            yield f"{path}." if isinstance(value, dict) and value else path if sign == "~" else f"{path}="
