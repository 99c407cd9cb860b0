"""capfilt on the command line: from a run and a source to a data set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.support import SHORT, Cli

COCA = (
    "inputs.image.size=16",
    "components.vision.patch=8",
    "components.vision.stem=patch",
    "components.vision.stem_depth=0",
    "components.bpe.vocab_size=320",
)


def test_a_data_set_comes_out_with_its_provenance(cli: Cli, blip: Path, tmp_path: Path) -> None:
    words = ("capfilt --threshold 0 --json --data pairs --out clean", str(blip), "data.pairs.noise=0.4")
    output = json.loads(cli(*words).out)
    assert output["records"] == output["pictures"] == 12 and output["web"] == {"judged": 12, "kept": 12}
    asked = json.loads((tmp_path / "clean" / "capfilt.json").read_text(encoding="utf-8"))
    assert asked["captioner"]["run"] == asked["filter"]["run"] == "blip/step-00000001"
    assert asked["captioner"]["search"] == {"top_p": 0.9}
    assert asked["data"]["entry"]["noise"] == 0.4
    assert json.loads(cli(*words).out) == output, "nothing is left to do"
    again = cli(f"capfilt {blip} --threshold 0.1 --data pairs --out clean")
    assert again.code == 2 and "was begun with other settings" in again.err


def test_what_came_out_is_data_for_the_next_run(
    cli: Cli, blip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # where the index of shards is kept
    words = ("capfilt --threshold 0 --data pairs --limit 8 --form webdataset --texts web --out clean", str(blip))
    result = cli(*words)
    assert result.code == 0 and result.err == ""
    assert "8 of 8 pictures have a text that fits." in result.out
    assert "data: {clean: {use: webdataset, path: 'clean/shards/*.tar'}}" in result.out
    result = cli("capfilt --threshold 0 --data clean/shards --out cleaner", str(blip))
    assert result.code == 0 and "8 of 8 pictures" in result.out


def test_parts_are_done_by_several_processes(cli: Cli, blip: Path) -> None:
    words = f"capfilt {blip} --threshold 0 --data pairs --out clean --shard"
    assert "Other parts are not done yet" in cli(words, "1/2").out
    assert "12 of 12 pictures" in cli(words, "0/2").out


def test_a_model_without_a_matching_head_filters_by_cosine(cli: Cli, tmp_path: Path, blip: Path) -> None:
    assert cli("train tiny/coca --no-track --out coca", *COCA, *SHORT).code == 0
    result = cli("capfilt coca --data pairs --out clean")
    assert result.code == 2 and "needs `--threshold`" in result.err
    assert cli("capfilt coca --data pairs --out clean --threshold -1").code == 0
    assert cli("capfilt coca --filter", str(blip), "--data", "pairs", "--threshold", "0", "--out", "both").code == 0
    asked = json.loads((tmp_path / "both" / "capfilt.json").read_text(encoding="utf-8"))
    assert asked["captioner"]["run"].startswith("coca/") and asked["filter"]["run"].startswith("blip/")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--data pair", "did you mean 'pairs'?"),
        ("--data nowhere.jsonl", "no file 'nowhere.jsonl'"),
        ("--data pairs --images photos", "an entry of `data` says it itself"),
        ("--data pairs --shard 2/2", "is no part of the work"),
        ("--data pairs --filter nowhere", "no run 'nowhere'"),
        ("--data pairs --output captoin", "takes one of caption"),
        ("--data pairs --max-length 500", "max_length 500 is longer"),
    ],
)
def test_mistakes_are_explained(cli: Cli, blip: Path, words: str, says: str) -> None:
    result = cli(f"capfilt {blip} --out clean {words}")
    assert result.code == 2
    assert says in result.err
