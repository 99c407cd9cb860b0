"""What is installed by others: a wheel built through the sdist, away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Distributions:
    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The sdist, and the wheel that is built from it (and not from the checkout)."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(root)]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return Distributions(next(out.glob("*.tar.gz")), next(out.glob("*.whl")))


@pytest.fixture(scope="module")
def installed(built: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with the wheel, and with this environment's libraries behind it."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=False)
    bin_folder = home / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(bin_folder / "python"), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", "--no-compile", str(built.wheel)], check=True)
    own = next(home.glob("lib/python*/site-packages"))
    # A plain path: the .pth files in that folder (the checkout's editable install) are not followed from here.
    (own / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return bin_folder


def outside(folder: Path, *command: str) -> str:
    """What a command prints that runs in an empty folder, knowing nothing of the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_of(root: Path, folder: str) -> set[str]:
    """The committed files below a root folder, as the wheel should hold them."""
    listed = subprocess.run(["git", "ls-files", folder], cwd=root, capture_output=True, text=True, check=True)
    return {f"compose_vlp/{line}" for line in listed.stdout.splitlines()}


@pytest.mark.parametrize("folder", ["components", "blueprints"])
def test_wheel_holds_every_file_of_the_folders_at_the_top(root: Path, built: Distributions, folder: str) -> None:
    if not (root / ".git").exists():
        pytest.skip("not a git checkout, so nothing says which files are the project's")
    names = zipfile.ZipFile(built.wheel).namelist()
    expected = files_of(root, folder)
    assert expected
    assert expected <= set(names)
    assert len(names) == len(set(names))


def test_wheel_holds_the_package_and_nothing_else(built: Distributions) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(built.wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"compose_vlp"}


def test_sdist_holds_what_a_build_needs(built: Distributions) -> None:
    with tarfile.open(built.sdist) as archive:
        tops = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"compose_vlp", "components", "blueprints", "pyproject.toml", "README.md", "LICENSE"} <= tops
    assert tops.isdisjoint({".venv", "tests", "runs", "site", "shared"})


def test_installed_command_starts_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    assert "build" in outside(tmp_path, str(installed / "compose-vlp"), "--help")


def test_installed_package_finds_its_own_components(root: Path, installed: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from compose_vlp import registry; import compose_vlp\n"
        "kinds = [registry.get(name) for name in registry.names()]\n"
        "print(compose_vlp.__file__); print(len(kinds)); print('components' in sys.modules)\n"
        "import inspect; print(*{inspect.getfile(kind.implementation) for kind in kinds}, sep='\\n')\n"
    )
    module, count, doubled, *files = outside(tmp_path, str(installed / "python"), "-c", program).splitlines()
    home = str(installed.parent)
    assert module.startswith(home)
    assert int(count) > 0
    assert doubled == "False"
    assert [file for file in files if not file.startswith(home)] == []


def test_installed_command_finds_its_own_blueprints(installed: Path, tmp_path: Path) -> None:
    assert "vision" in outside(tmp_path, str(installed / "compose-vlp"), "show", "coca")
