"""`components/` and `blueprints/` stand at the top, and have one name in Python all the same."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

LINKED = ("components", "blueprints")


@pytest.mark.parametrize("name", LINKED)
def test_package_reaches_the_folder_at_the_top_by_a_relative_link(root: Path, name: str) -> None:
    link = root / "compose_vlp" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    assert (root / name).is_dir()
    assert not (root / name).is_symlink()


def test_every_kind_is_imported_under_the_package_name_only(root: Path) -> None:
    program = (
        "import sys; from compose_vlp import registry\n"
        "kinds = [registry.get(name) for name in registry.names()]\n"
        "assert kinds\n"
        "print(*sorted({kind.source.split('.')[0] for kind in kinds}))\n"
        "print(*sorted({'components', 'blueprints'} & set(sys.modules)))\n"
    )
    # In the checkout's root, where `import components` would work by mistake.
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["compose_vlp", ""]


def test_this_very_test_process_has_no_second_copy_of_the_components() -> None:
    assert "components" not in sys.modules


def test_components_keep_their_annotations_alive(root: Path) -> None:
    """Ports are read off annotations; as strings they would not resolve names imported for type checkers only."""
    postponed = [
        str(file.relative_to(root))
        for file in sorted((root / "components").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
    ]
    assert postponed == []


def test_no_file_of_the_package_names_a_folder_outside_the_checkout(root: Path) -> None:
    offenders = [
        str(file.relative_to(root))
        for folder in ("compose_vlp", "components", "blueprints")
        for file in sorted((root / folder).rglob("*"))
        if file.suffix in {".py", ".yaml"} and "../shared" in file.read_text(encoding="utf-8")
    ]
    assert offenders == []
