"""The page of the commands says what their help says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from compose_vlp.cli.table import COMMANDS


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    spec = importlib.util.spec_from_file_location("gen_commands", root / "docs" / "gen_commands.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text: str = module.commands_page()
    return text


def test_every_command_has_a_section_with_its_examples(page: str) -> None:
    sections = page.split("\n## ")[1:]
    assert [section.split("\n")[0] for section in sections] == [entry.name for entry in COMMANDS]
    assert [section.split("\n")[0] for section in sections if "```bash\ncompose-vlp " not in section] == []


def test_options_are_spelt_as_they_are_typed(page: str) -> None:
    (train,) = [section for section in page.split("\n## ") if section.startswith("train\n")]
    assert "| `--resume RUN` |" in train
    assert "| `--device DEVICE` |" in train
    assert "| `--seed` | Where all random choices start. | `0` |" in train
    assert "`--plugin FILE.py`" in train


def test_arguments_that_must_be_given_say_so(page: str) -> None:
    (generate,) = [section for section in page.split("\n## ") if section.startswith("generate\n")]
    assert "| `RUN` | A run's folder, or its MLflow run id. | must be given |" in generate
