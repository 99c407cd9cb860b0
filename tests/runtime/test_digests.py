"""Digests of data: equal for equal data, others for whatever decides what is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.errors import UserError
from compose_vlp.runtime.state import digests
from compose_vlp.runtime.state.digests import as_json, changed, data_digests, refuse_changed

Load = Callable[..., Blueprint]


def of(blueprint: Blueprint) -> dict[str, str]:
    return {name: str(digest) for name, digest in data_digests(blueprint.check()).items()}


def test_settings_decide(small_coca: Load) -> None:
    plain = of(small_coca())
    assert set(plain) == {"pairs"}
    assert plain["pairs"].startswith("scenes ")
    assert of(small_coca()) == plain != of(small_coca("data.pairs.seed=1"))


def test_what_a_file_holds_decides(small_coca: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "captions.jsonl"
    blueprint = small_coca(f"data.pairs={{use: jsonl, path: {file}}}")
    absent = of(blueprint)
    file.write_text(json.dumps({"image": "a.png", "caption": "one"}) + "\n")
    earlier = of(blueprint)
    file.write_text(json.dumps({"image": "a.png", "caption": "two"}) + "\n")
    assert len({str(actual) for actual in (absent, earlier, of(blueprint))}) == 3
    monkeypatch.setattr(digests, "WHOLE", 10)
    monkeypatch.setattr(digests, "END", 4)
    monkeypatch.setattr(digests, "SAMPLES", 0)
    by_ends = of(blueprint)
    file.write_text(file.read_text().replace("a.png", "b.png"))
    assert of(blueprint) == by_ends, "the middle of a large file is not read but in samples"
    monkeypatch.setattr(digests, "SAMPLES", 64)
    sampled = of(blueprint)
    file.write_text(file.read_text().replace("b.png", "c.png"))
    assert of(blueprint) != sampled
    monkeypatch.setattr(digests, "SAMPLES", 0)
    file.write_text(file.read_text() + "\n")
    assert of(blueprint) != by_ends


def test_files_of_a_folder_decide_by_name_and_size(small_coca: Load, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"1")
    blueprint = small_coca(f"data.pairs={{use: jsonl, path: {tmp_path}}}")
    before = of(blueprint)
    (tmp_path / "b.tar").write_bytes(b"1")
    assert of(blueprint) != before


def test_the_same_files_elsewhere_are_the_same_data(small_coca: Load, tmp_path: Path) -> None:
    actual = []
    for folder in (tmp_path / "here", tmp_path / "there"):
        folder.mkdir()
        (folder / "captions.jsonl").write_text(json.dumps({"image": "a.png", "caption": "one"}) + "\n")
        actual.append(of(small_coca(f"data.pairs={{use: jsonl, path: {folder}/captions.jsonl}}")))
    assert actual[0] == actual[1]


def test_what_a_run_knows_is_compared_with_what_is_there(small_coca: Load, tmp_path: Path) -> None:
    file = tmp_path / "captions.jsonl"
    file.write_text('{"caption": "one"}\n')
    checked = small_coca(f"data.pairs={{use: jsonl, path: {file}}}").check()
    before = as_json(data_digests(checked))
    assert changed(checked, before) == [] == changed(checked, before, ["pairs"])
    file.write_text('{"caption": "two"}\n')
    assert changed(checked, before) == ["pairs"] == changed(checked, before, ["pairs"])
    with pytest.raises(UserError, match="data `pairs` is not what this run was trained on"):
        refuse_changed(checked, before)
    other = small_coca(f"data.pairs={{use: jsonl, path: {tmp_path}/other.jsonl}}").check()
    assert changed(other, before, ["pairs"]) == [], "another file was asked for"
    assert changed(checked, {}) == [], "an older run knows nothing"


def test_shards_of_a_pattern_decide(small_coca: Load, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"web-{number}.tar").write_bytes(b"1")
    blueprint = small_coca(f"data.pairs={{use: webdataset, path: '{tmp_path}/web-*.tar'}}")
    before = of(blueprint)
    (tmp_path / "web-2.tar").write_bytes(b"2")
    assert of(blueprint) != before


def test_mixtures_and_what_is_evaluated_on_are_told_with_their_parts(small_coca: Load) -> None:
    actual = of(
        small_coca(
            "+data.more={use: scenes, seed: 3}",
            "+data.both={mix: {pairs: 1, more: 2}}",
            "+data.val={use: scenes, split: unseen}",
            "+data.unread={use: scenes, seed: 9}",
            "stages.pretrain.data=both",
            "stages.pretrain.evaluate={every: 1 epoch, data: val}",
        )
    )
    assert list(actual) == ["both", "more", "pairs", "val"]
    assert actual["both"].startswith("mix ")
