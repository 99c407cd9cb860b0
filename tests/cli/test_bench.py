"""`compose-vlp bench` times whole steps, and says what stands in the way of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import compose_vlp.bench.steps
from compose_vlp.api import Blueprint
from compose_vlp.bench.processes import Request, bench_processes
from compose_vlp.bench.steps import COMPILED, PLAIN, Prepared
from compose_vlp.sweep.values import blueprints_of_values
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
        ("bench tiny/albef --picture curve.svg", "nothing is varied"),
        ("bench tiny/albef --vary 'alpha=0|1' --picture curve.png", "--picture curve.svg"),
        ("bench tiny/albef --vary 'alpha=0|1' --picture none/curve.svg", "there is no folder none"),
        ("bench tiny/albef --vary 'alpha=0|1' --processes 2", "one thing is varied at a time"),
        ("bench tiny/albef --vary 'batch=2|4' --batch 2", "leave `--batch` out"),
        ("bench tiny/albef --vary 'alpha='", "varies nothing"),
        ("bench tiny/albef --vary 'alpha=0'", "has one value"),
        ("bench tiny/albef --vary 'optimizer.lr=log(1e-4, 1e-2)'", "each value is to be named"),
        ("bench tiny/albef --vary 'components.vision.dept=1|2'", "did you mean 'depth'"),
        ("bench tiny/albef --processes '2|none' --device cpu", "--processes '1|2|4'"),
        ("bench tiny/albef --processes '1|3' --batch 4 --device cpu", "a batch of 12 does not divide the queue's size"),
    ],
)
def test_mistakes_name_the_way_out(cli: Cli, line: str, message: str) -> None:
    result = cli(line)
    assert result.code == 2
    assert message in result.err


def test_what_does_not_fit_is_not_begun(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose_vlp.bench.steps, "free_memory", lambda device: 10_000_000)
    result = cli("bench tiny/coca --batch 2 --device cpu")
    assert result.code == 2
    assert "10.0 MB are free" in result.err


def test_each_value_is_timed_and_drawn(cli: Cli, tmp_path: Path) -> None:
    line = "bench tiny/albef --vary 'stages.pretrain.batch=2|4' --rounds 1 --device cpu --picture curve.svg"
    first, second = json.loads(cli(f"{line} --json").out)
    assert [(point["value"], point["rows"]) for point in (first, second)] == [("2", 2), ("4", 4)]
    for before, after in zip(first["programs"], second["programs"], strict=True):
        assert before["name"] == after["name"] and min(*before["seconds"], *after["seconds"]) > 0
        assert before["flops"] < after["flops"] and before["kept_bytes"] < after["kept_bytes"]
    drawing = (tmp_path / "curve.svg").read_text(encoding="utf-8")
    for words in ("stages.pretrain.batch", "compiled", "no passes", "seconds of a step", "rows a second"):
        assert words in drawing


@pytest.mark.parametrize(
    ("blueprint", "vary"),
    [
        ("tiny/coca", "inputs.caption.max_length=8|16|24"),
        ("tiny/albef", "components.*.depth=1|2|3"),
    ],
)
def test_a_setting_changes_what_a_step_is(blueprint: str, vary: str) -> None:
    path, loaded = blueprints_of_values([blueprint, "stages.pretrain.batch=2"], vary)
    work = [Prepared(each.check()).costs for each in loaded.values()]
    assert path == vary.partition("=")[0]
    for program in (COMPILED, PLAIN):
        flops = [cost.flops if (cost := costs[program]) is not None else 0 for costs in work]
        assert 0 < flops[0] < flops[1] < flops[2]


def test_a_value_that_cannot_be_has_its_place(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prepared, "bench", lambda *_: pytest.fail("timed"))
    result = cli("bench tiny/albef --vary 'components.vision.heads=4|5|7'")
    assert result.code == 2
    assert "heads 5 does not divide width 128 (with `components.vision.heads=5`)" in result.err
    assert "| components.vision.heads=4|5|7\n   |                             ^" in result.err
    assert "2 mistakes" in result.err


def test_a_step_needs_what_it_holds_at_most() -> None:
    """More than weights, moments and what is kept: a layer that runs again makes all of it once more."""
    changes = "stages.pretrain.precision=bf16", "recompute=[vision, unimodal, multimodal]"
    prepared = Prepared(Blueprint.load("tiny/coca", overrides=changes).check(), batch=32)
    cost, weights = prepared.costs[PLAIN], sum(parameter.numel() for parameter in prepared.meta.parameters())
    assert cost is not None
    assert prepared.needed - 16 * weights > 1.2 * cost.kept


def test_a_value_that_does_not_fit_is_named_before_the_first_is_timed(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    vary = "stages.pretrain.batch=2|64"
    _, loaded = blueprints_of_values(["tiny/coca"], vary)
    first, second = (Prepared(blueprint.check()).needed for blueprint in loaded.values())
    assert first < second
    monkeypatch.setattr(Prepared, "bench", lambda *_: pytest.fail("timed"))
    monkeypatch.setattr(compose_vlp.bench.steps, "free_memory", lambda device: (first + second) // 2)
    monkeypatch.setattr(compose_vlp.bench.steps, "SPARE", 1.0)
    result = cli(f"bench tiny/coca --vary '{vary}' --device cpu")
    assert result.code == 2
    assert "a step with `stages.pretrain.batch=64` holds some" in result.err
    assert " in fp32, and " in " ".join(result.err.split())


def test_processes_make_steps_together(capfd: pytest.CaptureFixture[str]) -> None:
    request = Request(("tiny/coca",), (), batch=2, rounds=1, programs=(COMPILED,))
    lines: list[str] = []
    curve = bench_processes(request, [2], lines.append)
    (point,) = curve.as_json()
    assert (point["value"], point["rows"], point["threads"]) == ("2", 4, 1)
    assert [len(program["seconds"]) for program in point["programs"]] == [1]
    assert lines == ["processes=2"]
    assert capfd.readouterr().out == "", "standard output is for results"
