"""What a shell offers while a line is typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from compose_vlp.cli.run import run

Offered: TypeAlias = Callable[[str], list[str]]


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offered:
    def complete(line: str) -> list[str]:
        words = f"compose-vlp {line}".split(" ")
        monkeypatch.setenv("_COMPOSE_VLP_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        run([])
        return capsys.readouterr().out.split()

    return complete


def test_commands_by_their_beginning(offered: Offered) -> None:
    assert set(offered("comp")) == {"compare", "components"}


def test_blueprints_and_files_of_this_folder(offered: Offered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny_mine.yaml").touch()
    assert {"tiny/coca", "tiny/albef", "tiny_mine.yaml"} <= set(offered("check tiny"))


@pytest.mark.parametrize(
    ("typed", "offer"),
    [
        ("components.vis", "components.vision."),
        ("components.vision.st", "components.vision.stem="),
        ("~losses.capt", "~losses.captioning."),
        ("param", "params."),
    ],
)
def test_paths_of_the_settings_of_the_blueprint_that_is_named(offered: Offered, typed: str, offer: str) -> None:
    assert offer in offered(f"train tiny/coca {typed}")


@pytest.mark.parametrize("line", ["train nothere components.", "train tiny/coca components.nothere.", "train x=1 y="])
def test_a_line_that_means_nothing_offers_nothing(offered: Offered, line: str) -> None:
    assert offered(line) == []


def test_runs_and_kinds(offered: Offered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compose_vlp.runtime.state.run_folder import RunFolder

    monkeypatch.chdir(tmp_path)
    RunFolder.create("mine", 0, ["compose-vlp"], at=Path("runs/mine-1"))
    assert offered("evaluate ru") == ["runs/mine-1"]
    assert "attention_pooler" in offered("components att")
