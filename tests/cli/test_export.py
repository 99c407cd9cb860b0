"""export: a run's weights as one file, from the command line, and mistakes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from compose_vlp.cli.run import run as run_command
from compose_vlp.interop.onnx_files import PACKAGES
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.state.scores import Measurement, keep_scores
from tests.cli.support import SHORT, Cli

LORA = ("+adapters.lora={use: lora, match: vision, rank: 2}", 'stages.*.train=["**.lora"]')

ASKED = ("~outputs.image_embedding", "~outputs.caption")
"""One output is enough here: tests/interop/test_onnx_files.py exports the others."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "run"
    assert run_command(["train", "tiny/coca", *SHORT, *LORA, *ASKED, "--no-track", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(cli: Cli, trained: Path) -> Path:
    shutil.copytree(trained, "run")
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


HOSTILE = "<script>boom()</script> [x](http://bad) | `a` \x1b[2J\n# heading"


@pytest.mark.usefixtures("run")
def test_a_card_tells_what_the_weights_are_and_where_they_are_from(cli: Cli) -> None:
    scores = {"image_to_text_recall_at_1": 0.25, HOSTILE: 1.0}
    keep_scores(RunFolder.open(Path("run")), [Measurement("retrieval", "pairs", (HOSTILE,), 12, 1, scores)])
    result = cli("export run release/weights.safetensors --card")
    assert result.code == 0 and "Card: release/README.md" in result.out
    card = Path("release/README.md").read_text(encoding="utf-8")
    lines = [line.removeprefix("| ").removesuffix(" |") for line in card.splitlines() if line[:1] == "|"]
    rows = {tuple(line.split(" | ")) for line in lines}
    assert ("pretrain", "contrastive, captioning", "pairs (scenes)", "1") in rows
    ending = ("12", "1", r"image\_to\_text\_recall\_at\_1", "0.2500", "one seed")
    assert any(row[0] == "retrieval" and row[3:] == ending for row in rows)
    assert ("seed", "0") in rows and any("lora merged into" in row[1] for row in rows)
    assert ("lm\\_head", "lm\\_head") in {row[:2] for row in rows}
    assert "\n# license: " in card and str(Path.cwd()) not in card and "--no-track" not in card


def test_a_card_tells_scores_over_the_seeds_of_runs_that_were_trained_alike(cli: Cli, run: Path) -> None:
    keep_scores(RunFolder.open(run), [Measurement("retrieval", "pairs", (), 12, 1, {"mean_recall": 0.25})])
    for seed, score in ((1, 0.35), (2, 0.45)):
        other = Path(f"run-{seed}")
        shutil.copytree(run, other)
        (other / "run.json").write_text(json.dumps(json.loads((other / "run.json").read_text()) | {"seed": seed}))
        keep_scores(RunFolder.open(other), [Measurement("retrieval", "pairs", (), 12, 1, {"mean_recall": score})])
    assert cli("export run release/weights.safetensors --card").code == 0
    card = Path("release/README.md").read_text(encoding="utf-8")
    half = 4.302653 * 0.1 / 3**0.5  # Student's t of two degrees of freedom, over seeds 0.1 apart
    assert f"| 0.2500 | 0.3500 ± {half:.4f}, 3 seeds |" in card and "| trained alike with seeds | 1, 2 |" in card
    assert "```yaml" in card and "  contrastive: {use: contrastive" in card and "scenes}" not in card
    for seed in (1, 2):
        shutil.rmtree(f"run-{seed}")
    assert cli("export run release/weights.safetensors --card").code == 0
    assert "| 0.2500 | one seed |" in Path("release/README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("run")
def test_nothing_in_a_card_is_obeyed(cli: Cli) -> None:
    keep_scores(RunFolder.open(Path("run")), [Measurement("retrieval", HOSTILE, (HOSTILE,), 12, 1, {HOSTILE: 1.0})])
    assert cli("export run release/weights.safetensors --card").code == 0
    card = Path("release/README.md").read_text(encoding="utf-8")
    assert "<script" not in card and "\x1b" not in card and "\n# heading" not in card
    assert not re.search(r"(?<!\\)\[x", card) and "&lt;script&gt;" in card
    assert all(re.sub(r"\\\|", "", line).count("|") == 9 for line in card.splitlines() if "boom" in line)


@pytest.mark.usefixtures("run")
def test_a_card_is_written_over_a_card_and_over_nothing_else(cli: Cli) -> None:
    Path("mine").mkdir()
    Path("mine/README.md").write_text("my own words", encoding="utf-8")
    refused = cli("export run mine/weights.safetensors --card")
    assert refused.code == 2 and "mine/README.md is there" in refused.err
    assert Path("mine/README.md").read_text(encoding="utf-8") == "my own words" and not list(
        Path("mine").glob("*.saf*")
    )
    for _ in range(2):
        written = json.loads(cli("export run release/weights.safetensors --card --json").out)
    assert written["card"] == "release/README.md"


@pytest.mark.usefixtures("run")
def test_a_run_s_outputs_are_exported_as_onnx_with_a_card(cli: Cli) -> None:
    for package in PACKAGES:
        pytest.importorskip(package, reason=f"{package} is not installed")
    written = json.loads(cli("export run release --to onnx --card --json").out)
    assert [entry["output"] for entry in written["files"]] == ["text_embedding"]
    assert all(Path(entry["file"]).stat().st_size == entry["bytes"] for entry in written["files"])
    assert Path("release/tokenizers/bpe/tokenizer.json").is_file() and written["left_out"] == {}
    card = Path("release/README.md").read_text(encoding="utf-8")
    assert r"| text\_embedding.onnx | caption\_ids \[batch, 28\], caption\_lengths \[batch\] → " in card
    again = cli("export run release --to onnx")
    assert again.code == 2 and "release is there, and not empty" in again.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("export run weights.bin", "weights.bin is no .safetensors file"),
        ("export nowhere weights.safetensors", "no run 'nowhere'"),
        ("export run weights.safetensors --as onxx", "no format is called 'onxx'"),
        ("export run release --to transformers", "coca_tiny has not the shape of "),
        ("export run release --to onnx --apart", "adapters are merged in 'onnx'"),
        ("export run run/blueprint.yaml/weights.safetensors", "cannot be written"),
    ],
)
@pytest.mark.usefixtures("run")
def test_mistakes_are_explained(cli: Cli, words: str, says: str) -> None:
    result = cli(words)
    assert result.code == 2 and says in result.err.replace("\n", " ")
