"""The user's own files that declare kinds (`--plugin FILE.py`), what they import beside them, and packages."""

from __future__ import annotations

import ast
import hashlib
import linecache
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from compose_vlp import registry
from compose_vlp.blame import blamed
from compose_vlp.errors import UserError
from compose_vlp.files import is_file

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "compose_vlp.plugins"
"""The entry point of packages that declare kinds."""
_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True, eq=False)
class Plugin:
    """A file that was imported, and the modules in its folder that it imported in turn.

    Attributes:
        path: The file.
        original: The user's own file, of which `path` is a run's copy; the same where it is none.
        modules: Names of the modules that came of it, its own first.
        kinds: The names of the kinds that these declare.
        texts: What their files held when they were imported, by their paths from the plugin's folder, its own first.
    """

    path: Path
    original: Path
    modules: tuple[str, ...]
    kinds: tuple[str, ...]
    texts: dict[str, bytes]

    @property
    def files(self) -> dict[str, str]:
        """Compute the digests of its files, by their paths from its folder, its own first."""
        return {name: hashlib.sha256(text).hexdigest() for name, text in self.texts.items()}

    def is_like(self, path: Path) -> bool:
        """Does the file at `path`, with what stands beside it, say what this one did, whose kinds are still known?"""
        if registry.declared(self.modules) != list(self.kinds):
            return False
        (own, digest), *beside = self.files.items()
        here = [(path, digest), *((path.parent / name, other) for name, other in beside)]
        return path.name == Path(own).name and all(digest_of(file) == known for file, known in here)


@dataclass(frozen=True)
class Package:
    """An installed package that declares kinds, by its entry point."""

    entry_point: str
    module: str
    package: str
    version: str


_LOADED: dict[Path, Plugin] = {}
"""By the user's own file."""
_FOLDERS: list[str] = []
"""Folders of plugins, at the end of `sys.path`, so that a plugin may import what stands beside it."""
_BESIDE: dict[str, dict[str, ModuleType]] = {}
"""What was imported from these folders: two may each have a `utils.py`."""
_PACKAGES: dict[str, Package] = {}


def load_plugin(path: str | Path, original: Path | None = None, beside: Collection[Plugin] = ()) -> Plugin:
    """Import a user's file, which may declare kinds; one that was changed since it was imported is imported anew.

    Args:
        path: The file.
        original: The user's own file, of which `path` is a run's copy.
        beside: Plugins that are used together with it, so that no name may stand in two of them. Those of other files
            that were imported before give their names away.

    Raises:
        UserError: no such file, it declares nothing, or it cannot be imported: with its own file and line.
    """
    file = Path(path)
    if not is_file(file):
        raise UserError(f"no plugin file {str(file)!r}")
    file = file.resolve()
    own = original or file
    before = _LOADED.get(own)
    if before is not None and before.is_like(file):
        return before
    for known in _LOADED.values():
        if original is not None and known.is_like(file):
            return known  # what the run carries was imported from the user's own file
    if before is not None:
        _forget(before)
    others = {name for known in _LOADED.values() if known not in beside for name in known.modules}
    with registry.set_aside(others):
        plugin = _import(file, own)
    if not plugin.kinds:
        raise UserError(f"{file} declares no component, loss, function, tokenizer or source")
    _LOADED[own] = plugin
    return plugin


def load_entry_points() -> list[Package]:
    """Import the modules that installed packages offer as `compose_vlp.plugins`.

    Raises:
        UserError: one cannot be imported; names the package.
    """
    for point in _offered(_searched()):
        if point.value not in _PACKAGES:
            with blamed(f"importing {point.value}, which {_package(point).package} offers as `{point.name}`"):
                point.load()
            _PACKAGES[point.value] = _package(point)
    return list(_PACKAGES.values())


def _searched() -> tuple[tuple[str, tuple[int, ...]], ...]:
    """List the folders in which packages are looked for, each with what changes where one is put into it."""
    folders = []
    for folder in sys.path:
        try:
            status = Path(folder).stat()
        except OSError:
            continue
        folders.append((folder, (status.st_dev, status.st_ino, status.st_mtime_ns)))
    return tuple(folders)


@lru_cache(maxsize=8)
def _offered(_searched: object) -> tuple[EntryPoint, ...]:
    """List what packages offer, once for these folders: two hundred packages are a third of a blueprint's check."""
    from importlib.metadata import entry_points

    return tuple(entry_points(group=GROUP))


def digest_of(file: Path) -> str | None:
    """SHA-256 of a file; None where it is not there."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None


def _package(point: EntryPoint) -> Package:
    name, version = (point.dist.name, point.dist.version) if point.dist is not None else ("", "")
    return Package(point.name, point.value, name, version)


def _forget(plugin: Plugin) -> None:
    registry.forget(plugin.modules)
    for name in plugin.modules:
        sys.modules.pop(name, None)
    folder = str(plugin.path.parent)
    for name in plugin.modules:
        _BESIDE.get(folder, {}).pop(name, None)
    _LOADED.pop(plugin.original, None)


def _import(file: Path, original: Path) -> Plugin:
    text = file.read_bytes()
    digest = hashlib.sha256(str(file).encode() + text).hexdigest()
    module = ModuleType(f"compose_vlp_plugin_{file.stem}_{digest[:12]}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    linecache.checkcache(str(file))
    with _beside(file.parent) as beside:
        try:
            with blamed(f"importing the plugin {file.name}"):
                # the user asked for this file's code by `--plugin`, or trained with it
                exec(compile(text, str(file), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
        except BaseException:
            registry.forget([module.__name__, *beside])
            del sys.modules[module.__name__]
            raise
    imported = {*_named(file, {}), *(Path(str(neighbour.__file__)) for neighbour in beside.values())}
    texts = {file.name: text}
    texts |= {
        str(imported_file.relative_to(file.parent)): imported_file.read_bytes() for imported_file in sorted(imported)
    }
    modules = (module.__name__, *beside)
    return Plugin(file, original, modules, tuple(registry.declared(modules)), texts)


def _named(file: Path, known: dict[Path, None]) -> dict[Path, None]:
    """Collect the files beside a plugin that it imports by name, anywhere in its text, and those that they import."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):  # who imports it is told
        return known
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
        for top in {name.partition(".")[0] for name in names}:
            module, package = file.parent / f"{top}.py", file.parent / top
            paths = [module] if module.is_file() else []
            paths += sorted(package.rglob("*.py")) if (package / "__init__.py").is_file() else []
            for path in paths:
                if path not in known:
                    known[path] = None
                    _named(path, known)
    return known


@contextmanager
def _beside(folder: Path) -> Iterator[dict[str, ModuleType]]:
    """Let what is imported within be found in `folder`, behind all that is installed; gives what was found there."""
    here, first = str(folder), len(sys.path) - len(_FOLDERS)
    sys.path[first:] = [here, *(path for path in _FOLDERS if path != here)]
    _FOLDERS[:] = sys.path[first:]
    for name in [name for modules in _BESIDE.values() for name in modules]:
        sys.modules.pop(name, None)
    sys.modules.update(_BESIDE.get(here, {}))
    beside: dict[str, ModuleType] = {}
    before, writes = set(sys.modules) - set(_BESIDE.get(here, {})), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # nothing is left in the user's folders
    try:
        yield beside
    finally:
        sys.dont_write_bytecode = writes
        new = {name: module for name, module in sys.modules.items() if name not in before}
        beside.update({name: module for name, module in new.items() if _is_in(module, folder)})
        _BESIDE.setdefault(here, {}).update(beside)


def _is_in(module: ModuleType, folder: Path) -> bool:
    """Is it a file in this folder, and none that was installed there?"""
    file = getattr(module, "__file__", None)
    if file is None or module.__name__.startswith("compose_vlp_plugin_"):
        return False
    path = Path(file)
    return path.is_relative_to(folder) and not _INSTALLED & set(path.parts)


def loaded_from(files: Iterable[str | Path | Plugin]) -> tuple[Plugin, ...]:
    """Import all these files, each once."""
    loaded: dict[Plugin, None] = {}
    for file in files:
        loaded[file if isinstance(file, Plugin) else load_plugin(file, beside=loaded)] = None
    return tuple(loaded)
