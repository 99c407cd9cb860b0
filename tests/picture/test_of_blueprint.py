"""What a blueprint's picture shows."""

from __future__ import annotations

from compose_vlp.picture import Numbers, diagram_of
from compose_vlp.picture.diagram import Box, Diagram
from tests.graph.support import checked, paper


def box(diagram: Diagram, title: str, name: str = "") -> Box:
    """The one box of that title that gives the value of that name."""
    (actual,) = [box for box in diagram.boxes if box.title == title and name in ("", box.name)]
    return actual


def test_every_call_and_output_is_a_box() -> None:
    albef = paper("albef")
    diagram = diagram_of(albef)
    assert len(diagram.boxes) == len(albef.plan.calls) + len(albef.outputs)
    assert {box.family for box in diagram.boxes} == {"input", "tower", "head", "choice", "function", "loss", "output"}


def test_box_names_its_kind_its_value_and_its_shape() -> None:
    diagram = diagram_of(paper("coca"), Numbers({"vision": 86_300_000, "unimodal": 13_700_000}))
    vision = box(diagram, "vision")
    assert vision.notes == ("vit · 86.3M",)
    assert vision.share == 0.863
    assert vision.carries == "Sequence B × 256 × 768"
    assert box(diagram, "unimodal").name == "words"


def test_calls_of_a_teacher_are_in_its_world() -> None:
    diagram = diagram_of(paper("albef"))
    worlds = {box.world for box in diagram.boxes if box.title == "vision"}
    assert worlds == {"", "momentum"}


def test_what_nothing_asks_for_is_pruned() -> None:
    diagram = diagram_of(paper("coca"))
    assert [box.title for box in diagram.boxes if box.pruned] == ["pool_joint", "first"]


def test_loss_without_weight_prunes_what_it_alone_reads() -> None:
    diagram = diagram_of(checked("coca", "losses.captioning.weight=0", "~outputs.caption"))
    assert box(diagram, "lm_head").pruned
    assert not box(diagram, "unimodal").pruned


def test_component_that_no_stage_trains_is_frozen() -> None:
    stages = "+stages.only={data: pairs, losses: [captioning, contrastive], length: 1 epoch, freeze: [vision]}"
    data = "+data.pairs={use: jsonl, path: x}"
    diagram = diagram_of(checked("coca", stages, data))
    assert [box.title for box in diagram.boxes if box.frozen] == ["vision"]


def test_arrows_carry_ports_fields_and_where_gradients_stop() -> None:
    diagram = diagram_of(paper("albef"))
    into = {(a.port, a.field, a.detached) for a in diagram.arrows if a.target == "losses.mlm"}
    assert into == {("logits", "", False), ("labels", "labels", False), ("soft", "", True)}
    (only,) = [a for a in diagram.arrows if a.target == "v"]
    assert only.port == ""


def test_literals_and_weights_are_notes() -> None:
    assert "expert = vision_language" in box(diagram_of(paper("vlmo")), "upper", "joint").notes
    assert box(diagram_of(paper("albef")), "itc").notes == ("contrastive × 1", "alpha = $alpha")


def test_index_names_what_it_picks_where_that_has_a_name() -> None:
    titles = {box.title for box in diagram_of(paper("albef")).boxes}
    assert {"v[neg.image]", "t[neg.text]"} <= titles
    assert "[neg.image]" in {box.title for box in diagram_of(paper("vlmo")).boxes}


def test_output_that_writes_says_what_it_writes() -> None:
    (output,) = [box for box in diagram_of(paper("coca")).boxes if box.id == "output:caption"]
    assert output.notes == ("generate caption",)


def test_details_tell_settings_positions_and_the_place_in_the_blueprint() -> None:
    unimodal = box(diagram_of(paper("coca")), "unimodal")
    details = {heading: dict(rows) for heading, rows in unimodal.details}
    assert details["Positions"] == {".text": "65 positions, CLS last", "words of caption": "its own and earlier"}
    assert details["Settings"]["depth"] == "12"
    assert details["Settings"]["vocab_size"] == "64000 (inferred)"
    assert details["In the blueprint"]["at"].endswith("papers/coca.yaml:20:20")


def test_row_spaces_other_than_the_batch_keep_their_names() -> None:
    carried = {box.carries for box in diagram_of(paper("beit3")).boxes}
    assert "Image images × 3 × 224 × 224" in carried
    assert "Similarity B × all B" in {box.carries for box in diagram_of(paper("coca")).boxes}
    assert "Similarity B × (B + memory)" in {box.carries for box in diagram_of(paper("albef")).boxes}
