"""`compose-vlp bench` times whole steps, and says what stands in the way of one."""

from __future__ import annotations

import json

import pytest

import compose_vlp.bench
from tests.cli.support import Cli


def test_steps_are_timed_with_passes_and_without(cli: Cli) -> None:
    measured = json.loads(cli("bench tiny/albef --batch 4 --rounds 2 --device cpu --json").out)
    compiled, plain = measured["programs"]
    assert (measured["stage"], measured["rows"], measured["precision"]) == ("pretrain", 4, "fp32")
    assert all(len(program["seconds"]) == 2 and min(program["seconds"]) > 0 for program in (compiled, plain))
    assert compiled["median"] == sum(compiled["seconds"]) / 2
    assert 0 < compiled["flops"] < plain["flops"]
    assert 0 < compiled["kept_bytes"] < plain["kept_bytes"]
    assert measured["peak_flops"] > 0


def test_a_table_is_printed_for_people(cli: Cli) -> None:
    printed = cli("bench tiny/coca --batch 2 --rounds 1 --device cpu").out
    for words in ("Stage pretrain: 2 rows a step, fp32, cpu", "compiled", "no passes", "times as long", "rows/s"):
        assert words in printed


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bench tiny/vlmo --stage pair", "did you mean"),
        ("bench tiny/albef ~stages", "there is no step to time"),
        ("bench tiny/albef --rounds 0", "--rounds"),
    ],
)
def test_mistakes_name_the_way_out(cli: Cli, line: str, message: str) -> None:
    result = cli(line)
    assert result.code == 2
    assert message in result.err


def test_what_does_not_fit_is_not_begun(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose_vlp.bench, "free_memory", lambda device: 10_000_000)
    result = cli("bench tiny/coca --batch 2 --device cpu")
    assert result.code == 2
    assert "10.0 MB are free" in result.err
