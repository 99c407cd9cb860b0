"""The document with defaults and inferred sizes."""

from __future__ import annotations

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
