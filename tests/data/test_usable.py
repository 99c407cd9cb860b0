"""What is wrong with all of a source is told before anything is learnt from it, once, at its entry of the blueprint."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from PIL import Image

from compose_vlp.api import Blueprint
from compose_vlp.data import open_source
from compose_vlp.data.mixture import Mixture
from compose_vlp.data.renamed import Renamed
from compose_vlp.data.source import Record, Source
from compose_vlp.data.usable import check_renamed, refuse_unusable
from compose_vlp.errors import BlueprintError, UserError
from compose_vlp.evaluation.results import ready
from compose_vlp.readiness import look_over
from compose_vlp.runtime.training.run_context import TrainOptions


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of 80 pictures that are all there, called by paths from its own folder."""
    lines = ["image,caption"]
    (tmp_path / "pictures").mkdir()
    for number in range(80):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"pictures/{number}.png")
        lines.append(f"pictures/{number}.png,a red square")
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "pairs.csv"


def looked_over(entry: str) -> list[tuple[str, str, str]]:
    """Message, place and hints of what is wrong with tiny/coca on this data."""
    short = ("stages.pretrain.length=1 steps", "stages.pretrain.batch=64")
    checked = Blueprint.load("tiny/coca", overrides=(f"data.pairs={entry}", *short)).check()
    try:
        look_over(checked, ready)
    except BlueprintError as error:
        return [
            (p.message, error.excerpts[p.span.file][p.span.line - 1][p.span.column - 1 : p.span.end_column - 1]
             if p.span else "", "; ".join(p.hints))
            for p in error.problems
        ]  # fmt: skip
    return []


def test_pictures_that_lie_elsewhere_are_told_with_the_folder_that_has_them(table: Path) -> None:
    lost = table.parent / "tables" / "pairs.csv"
    lost.parent.mkdir()
    table.rename(lost)
    ((message, place, hints),) = looked_over(f"{{use: csv, path: {lost}}}")
    assert "all 40 that were tried are broken" in message and place == str(lost)
    assert f"`images: {table.parent}`" in hints
    assert looked_over(f"{{use: csv, path: {lost}, images: {table.parent}}}") == []


def test_a_file_of_another_kind_is_not_called_too_small_for_a_batch(table: Path, tmp_path: Path) -> None:
    for use, said in (("jsonl", "no JSON"), ("webdataset", "no tar file")):
        ((message, place, hints),) = looked_over(f"{{use: {use}, path: {table}, {_cache(use, tmp_path)}}}")
        assert "no record can be used" in message and place == str(table) and said in hints


def _cache(use: str, folder: Path) -> str:
    return f"cache: {folder / 'cache'}" if use == "webdataset" else "pictures: [image]"


def test_fields_that_no_record_has_are_a_mistake_though_another_field_has_the_name(table: Path) -> None:
    ((message, place, hints),) = looked_over(f"{{use: csv, path: {table}, fields: {{caption: captoin}}}}")
    assert message == "`fields` takes `caption` from the field 'captoin', which the records do not have"
    assert "captoin" in place and "'caption'" in hints and "image, caption" in hints


def test_fields_that_some_records_have_are_none(tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_text('{"a": "x"}\n{"a": "y", "b": "z"}\n')
    source = open_source({"use": "jsonl", "path": str(tmp_path / "lines.jsonl")})
    check_renamed(Renamed(source, {"caption": "b"}))
    with pytest.raises(UserError, match="from the field 'c'"):
        check_renamed(Renamed(source, {"caption": "b", "other": "c"}))
    with pytest.raises(UserError, match="from the field 'c'"):
        check_renamed(Mixture({"one": source, "two": Renamed(source, {"other": "c"})}, {"one": 1, "two": 1}))


def test_some_broken_records_are_the_run_s_affair(table: Path) -> None:
    for number in range(60):
        (table.parent / f"pictures/{number}.png").write_text("a download that failed")
    source = open_source({"use": "csv", "path": str(table)})
    refuse_unusable(source, ["image"])
    for number in range(60, 80):
        (table.parent / f"pictures/{number}.png").unlink()
    with pytest.raises(UserError, match="no record can be used"):
        refuse_unusable(source, ["image"])
    refuse_unusable(source, [])
    source.skip_limit = 0.9
    refuse_unusable(source, ["image"])


class Nothing(Source):
    """A source of a user's own that has no record."""

    def __len__(self) -> int:
        return 0

    def record(self, index: int) -> Record:
        raise IndexError(index)


def test_a_source_without_records_is_too_small_for_a_batch_and_nothing_else() -> None:
    refuse_unusable(Nothing(None), ["image"])
    check_renamed(Renamed(Nothing(None), {"caption": "text"}))


def test_a_folder_where_a_file_is_expected_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").mkdir()
    with pytest.raises(UserError, match="is a folder, where a file is expected"):
        open_source({"use": "csv", "path": str(tmp_path / "pairs.csv")})


def test_texts_of_shards_in_another_encoding_are_guessed_about_without_a_path(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "0.txt").write_bytes(b"caf\xe9")
        with tarfile.open(tmp_path / f"{name}.tar", "w") as shard:
            shard.add(tmp_path / "0.txt", "0.txt")
    paths = [str(tmp_path / f"{name}.tar") for name in ("a", "b")]
    source = open_source({"use": "webdataset", "path": paths, "cache": str(tmp_path / "cache")})
    with pytest.raises(UserError, match="no record can be used"):
        refuse_unusable(source, [])


def test_a_pass_that_is_none_is_told_once_whatever_the_number_of_stages() -> None:
    checked = Blueprint.load("tiny/vlmo").check()
    with pytest.raises(UserError, match="no pass is called 'rowz'") as unknown:
        look_over(checked, ready, without=["rowz"])
    assert len(unknown.value.problems) == 1 and unknown.value.problems[0].span is None


@pytest.mark.parametrize("option", [{"seed": -1}, {"seed": 2**60}, {"workers": 100_000}, {"log_every": 0}, {"keep": 0}])
def test_options_that_no_run_could_begin_with_are_refused(option: dict[str, int]) -> None:
    with pytest.raises(UserError, match=rf"`{next(iter(option))}` cannot be"):
        TrainOptions(**option)  # type: ignore[arg-type]
