"""What a run ran on: versions, platform and the commit of the code, as tags."""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "compose-vlp",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "tokenizers",
    "xformers",
    "accelerate",
    "numpy",
)
_GIT_TIMEOUT_S = 5


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers; read from their metadata, nothing is imported."""
    by_package = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            by_package[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return by_package


def environment_tags(folder: Path | None = None) -> dict[str, str]:
    """Tags of this environment: `version.<package>`, `platform`, `cpus`, and MLflow's own for user, source and commit.

    Args:
        folder: Where the code under version control is; the working directory by default.
    """
    tags = {f"version.{name}": version for name, version in versions().items()}
    tags["platform"] = platform.platform()
    tags["cpus"] = str(os.cpu_count())
    tags["mlflow.source.type"] = "LOCAL"
    source = Path(sys.argv[0]).name
    tags["mlflow.source.name"] = "compose-vlp" if source == "__main__.py" else source
    user = _user()
    if user:
        tags["mlflow.user"] = user
    return tags | _git_tags(folder or Path.cwd())


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run as a number that has no name
        return None


def _git_tags(folder: Path) -> dict[str, str]:
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"mlflow.source.git.commit": commit, "git.changed_files": str(len((changed or "").splitlines()))}


def _git(folder: Path, *arguments: str) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    command = [program, "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
