"""Packages that declare kinds are found where they are installed, and looked for once."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest

from compose_vlp import Blueprint, plugins


@pytest.fixture(autouse=True)
def _none_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_PACKAGES", {})


def install(folder: Path, name: str) -> None:
    """What an installer leaves of a package in its folder."""
    before = folder.stat().st_mtime_ns
    described = folder / f"{name}-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nkinds = {name}\n")
    (folder / f"{name}.py").write_text('"""Nothing."""\n')
    os.utime(folder, ns=(before + 10**9, before + 10**9))  # some file systems count in hundredths of a second


def test_a_package_that_is_installed_while_python_runs_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "first_of_test" not in {package.module for package in plugins.load_entry_points()}
    for names in (["first_of_test"], ["first_of_test", "second_of_test"]):
        install(tmp_path, names[-1])
        own = [package for package in plugins.load_entry_points() if package.module.endswith("_of_test")]
        assert own == [plugins.Package("kinds", name, name, "1.0") for name in names]


def test_packages_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: asked.append(group) or ())
    plugins._offered.cache_clear()
    for _ in range(3):
        Blueprint.load("tiny/coca")
    plugins._offered.cache_clear()  # this answer was not true
    assert asked == [plugins.GROUP]
