"""The document with defaults and inferred sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.nodes import Scalar
from compose_vlp.blueprint.write import write
from compose_vlp.graph.checking.filled import filled
from tests.graph.support import paper


def origin(name: str, *path: str) -> tuple[str, str]:
    """Value and place of a field of a paper, filled in."""
    entry = filled(paper(name)).at(*path)
    assert entry is not None
    assert isinstance(entry.value, Scalar)
    return entry.value.text, entry.value.span.file.rpartition("/")[2]


def test_what_is_written_keeps_its_place() -> None:
    assert origin("coca", "components", "vision", "depth") == ("12", "coca.yaml")


def test_what_is_not_written_is_a_default() -> None:
    assert origin("albef", "inputs", "image", "source") == ("main", "default")
    assert origin("albef", "teachers", "momentum", "decay") == ("0.995", "albef.yaml")


def test_what_follows_from_the_graph_is_inferred() -> None:
    assert origin("coca", "components", "multimodal", "context_width") == ("768", "inferred")


def test_filled_document_says_so_when_it_is_written() -> None:
    lines = {line.split("#")[0].strip(): line.rpartition("# ")[2] for line in write(filled(paper("coca"))).split("\n")}
    assert lines["context_width: 768"] == "inferred"
    assert lines["source: main"] == "default"


def test_nothing_without_a_value_is_added() -> None:
    assert filled(paper("coca")).at("inputs", "image", "augment") is None


SLOTS = ("components.vision.ffn={use: moe, experts: 4, top: 2}", "components.unimodal.norm=rms_norm")
LARGER = "stages.pretrain.set={inputs.image.size: 96, inputs.caption.max_length: 20}"


@pytest.mark.parametrize(
    ("name", "overrides"),
    [("tiny/vlmo", ()), ("vlmo_base", ()), ("tiny/coca", (*SLOTS, LARGER)), ("tiny/albef", (LARGER,))],
    ids=["parts of slots", "a size that a stage sets", "both", "of a teacher's components"],
)
def test_what_is_filled_in_reads_back_to_the_same_settings(
    name: str, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    checked = Blueprint.load(name, overrides=overrides).check()
    text = write(filled(checked))
    (tmp_path / "again.yaml").write_text(text, encoding="utf-8")
    again = Blueprint.load(tmp_path / "again.yaml").check()
    for part in checked.components:
        assert again.components[part].config == checked.components[part].config, part
        for stage in checked.stages:
            of_stage = checked.of_stage(stage).components[part].config
            assert again.of_stage(stage).components[part].config == of_stage, (stage, part)
    assert [line.partition("  #")[0].rstrip() for line in write(filled(again)).splitlines()][1:] == [
        line.partition("  #")[0].rstrip() for line in text.splitlines()
    ][1:], "but for its first line, which names the files"
