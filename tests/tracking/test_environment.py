from __future__ import annotations

import getpass
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compose_vlp.tracking import environment
from compose_vlp.tracking.environment import environment_tags, versions


def test_versions_are_told_without_importing_the_packages() -> None:
    script = (
        "import sys; from compose_vlp.tracking import environment_tags as tags; tags(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert versions()["torch"].startswith("2.")


def test_a_package_that_is_missing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("no-such-package-anywhere",))
    assert list(versions()) == ["python"]


def test_the_commit_and_its_changes_are_told(tmp_path: Path) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("no git here")

    def run(*arguments: str) -> str:
        command = [git, "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    run("init")
    (tmp_path / "file").write_text("one")
    run("add", "file")
    run("commit", "-m", "first")
    tags = environment_tags(tmp_path)
    assert tags["mlflow.source.git.commit"] == run("rev-parse", "HEAD")
    assert tags["git.changed_files"] == "0"
    (tmp_path / "file").write_text("two")
    assert environment_tags(tmp_path)["git.changed_files"] == "1"


def test_no_repository_no_git_and_no_user_are_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "mlflow.source.git.commit" not in environment_tags(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    tags = environment_tags()
    assert "mlflow.source.git.commit" not in tags
    assert "mlflow.user" not in tags
    assert tags["version.python"].startswith("3.")
