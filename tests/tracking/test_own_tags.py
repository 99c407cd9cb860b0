"""What a blueprint says under `x-` is tagged in tracking."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.tracked import open_tracker, own_tags
from compose_vlp.tracking import NullTracker, OutboxTracker
from compose_vlp.tracking.names import cut

LONG = "a" * 9000


def blueprint(folder: Path) -> Blueprint:
    (folder / "mine.yaml").write_text(
        "extends: tiny/coca\nname: mine\nx-note: hello, 010 is written so\n"
        f"x-nested: {{who: [me, 'no'], count: 3, ja: true}}\nx-long: {LONG}\n"
    )
    return Blueprint.load(folder / "mine.yaml")


def test_texts_are_tags_as_written_and_nested_values_are_json(tmp_path: Path) -> None:
    tags = own_tags(blueprint(tmp_path).document)
    assert tags["x-note"] == "hello, 010 is written so"
    assert json.loads(tags["x-nested"]) == {"who": ["me", "no"], "count": 3, "ja": True}
    assert json.loads(tags["x-paper"])["parameters"]["both"]["count"] == "2.1B", "inherited"
    assert len(cut(tags["x-long"], 8000)) == 8000, "MLflow's limit, at which the sender cuts"
    assert set(tags) == {"x-note", "x-nested", "x-long", "x-paper", "paper", "hybrid"}


def test_the_tracker_of_a_run_is_given_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kept(NullTracker):
        def tags(self, values: Mapping[str, str]) -> None:
            actual.update(values)

    actual: dict[str, str] = {}
    monkeypatch.setattr(OutboxTracker, "start", lambda *_: Kept())
    folder = RunFolder.create("mine", 0, [], at=tmp_path / "run")
    open_tracker(blueprint(tmp_path).check(), folder, {}, track=True)
    assert actual["x-note"] == "hello, 010 is written so" and actual["blueprint"] == "mine"
