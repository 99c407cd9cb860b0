"""`verify` says what agrees and what does not, and its exit code says so too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.cli.support import Cli


@pytest.fixture
def folder(oracle: Callable[[str], Path], tmp_path: Path) -> Path:
    copy = tmp_path / "recorded"
    shutil.copytree(oracle("coca/pretrain"), copy)
    return copy


def test_the_same_numbers_are_success(cli: Cli, folder: Path) -> None:
    actual = cli(f"verify {folder} --format open_clip_coca")
    assert actual.code == 0
    assert "gradient norm" in actual.out
    assert "the same numbers" in actual.out


def test_other_numbers_are_named_and_fail(cli: Cli, folder: Path) -> None:
    outputs = load_file(folder / "outputs.safetensors")
    outputs["contrastive_loss"] *= 1.01
    outputs["unknown"] = outputs["logits"].clone()
    save_file(outputs, folder / "outputs.safetensors")
    actual = cli(f"verify {folder} --format open_clip_coca")
    assert actual.code == 1
    assert "loss contrastive_loss" in actual.out
    assert "value unknown: not compared" in actual.out
    notes = json.loads(cli(f"verify {folder} --format open_clip_coca --json").out)
    assert (notes["passed"], notes["failures"]) == (False, ["contrastive_loss", "unknown"])


def test_gradients_that_pass_by_the_floor_are_listed(cli: Cli, folder: Path) -> None:
    norms = json.loads((folder / "grad_norms.json").read_text())
    name = "text_decoder.cross_attn.0.ln_1.weight"
    norms[name] += 5e-7 + 1e-4 * norms[name]
    (folder / "grad_norms.json").write_text(json.dumps(norms))
    actual = cli(f"verify {folder} --format open_clip_coca")
    assert actual.code == 0
    assert "1 gradients are 0 but for rounding" in actual.out
    assert f"  {name}" in actual.out


def test_an_unknown_format_is_the_users_mistake(cli: Cli, folder: Path) -> None:
    actual = cli(f"verify {folder} --format open_clip")
    assert actual.code == 2
    assert "did you mean 'open_clip_coca'?" in actual.err
