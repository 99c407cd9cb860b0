"""What a source of the user's own needs, and how mistakes in settings are told."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from compose_vlp.data import open_source
from compose_vlp.errors import UserError
from compose_vlp.plugins import load_plugin

PLUGIN = """
from pathlib import Path
from compose_vlp.data import Settings, Source, source

@source("folder_of_pictures")
class FolderOfPictures(Source):
    class Config(Settings):
        path: str

    def __len__(self):
        return len(list(Path(self.config.path).glob("*.png")))

    def record(self, index):
        file = sorted(Path(self.config.path).glob("*.png"))[index]
        return {"image": file, "caption": file.stem.replace("_", " ")}
"""


def test_a_source_of_ones_own_takes_fifteen_lines(tmp_path: Path) -> None:
    assert len(PLUGIN.strip().splitlines()) <= 15
    plugin = tmp_path / "mine.py"
    plugin.write_text(textwrap.dedent(PLUGIN))
    (tmp_path / "a_red_star.png").touch()
    load_plugin(plugin)
    source = open_source({"use": "folder_of_pictures", "path": str(tmp_path)})
    assert len(source) == 1
    assert source.record(0) == {"image": tmp_path / "a_red_star.png", "caption": "a red star"}


def test_an_unknown_source_offers_the_nearest() -> None:
    with pytest.raises(UserError, match="no kind is called 'scene'") as caught:
        open_source({"use": "scene"})
    assert "scenes" in caught.value.problems[0].hints[0]


def test_another_kind_is_no_source() -> None:
    with pytest.raises(UserError, match="'wordpiece' is a tokenizer, not a source"):
        open_source({"use": "wordpiece", "vocab_size": 100})


def test_wrong_settings_are_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"`count` should be a valid integer, .*; it has no setting `siez`") as caught:
        open_source({"use": "scenes", "siez": 64, "count": "many"})
    nearest, known = caught.value.problems[0].hints
    assert "size" in nearest and "min_objects" in known


def test_settings_that_are_missing_are_named() -> None:
    with pytest.raises(UserError, match="source 'csv': it needs `path`"):
        open_source({"use": "csv"})
    with pytest.raises(UserError, match="a source needs `use`, its kind"):
        open_source({"path": "pairs.csv"})
