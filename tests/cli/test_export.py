"""export: a run's weights as one file, from the command line, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.cli.support import SHORT, Cli

LORA = ("+adapters.lora={use: lora, match: vision, rank: 2}", 'stages.*.train=["**.lora"]')


@pytest.fixture
def run(cli: Cli) -> Path:
    result = cli("train tiny/coca --no-track --out run", *SHORT, *LORA)
    assert result.code == 0, result.err
    return Path("run")


@pytest.mark.usefixtures("run")
def test_a_run_is_exported_and_another_begins_from_it(cli: Cli) -> None:
    result = cli("export run merged.safetensors")
    assert result.code == 0 and "lora merged into" in result.out
    apart = json.loads(cli("export run apart.safetensors --apart --json").out)
    merged, both = load_file("merged.safetensors"), load_file("apart.safetensors")
    assert apart["tensors"] == len(both) > len(merged) and apart["merged"] == {}
    assert {name for name in both if ".lora." not in name} == merged.keys()
    begun = cli("train tiny/coca --no-track --out second", *SHORT, "start=[{from: merged.safetensors}]")
    assert begun.code == 0, begun.err
    assert f"{len(merged)} weights of" in begun.err and "left over" not in begun.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("export run weights.bin", "weights.bin is no .safetensors file"),
        ("export nowhere weights.safetensors", "no run 'nowhere'"),
        ("export run run/blueprint.yaml/weights.safetensors", "cannot be written"),
    ],
)
@pytest.mark.usefixtures("run")
def test_mistakes_are_explained(cli: Cli, words: str, says: str) -> None:
    result = cli(words)
    assert result.code == 2 and says in result.err.replace("\n", " ")
