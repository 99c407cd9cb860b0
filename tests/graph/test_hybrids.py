"""Mixtures of papers that nobody planned mean what they look like."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.errors import BlueprintError
from compose_vlp.graph.types import SequenceType
from tests.graph.support import PAPERS, checked, counted, paper, problems, shapes_of, written

HYBRIDS = sorted(path.stem for path in (PAPERS / "hybrids").glob("*.yaml"))


def lines(name: str) -> list[str]:
    return written(checked(f"hybrids/{name}").training)


@pytest.mark.parametrize("name", HYBRIDS)
def test_is_sound(name: str) -> None:
    assert not problems(f"hybrids/{name}")


def test_coca_with_a_momentum_teacher_distils_its_similarities() -> None:
    blueprint = checked("hybrids/coca_momentum")
    plan = written(blueprint.training)
    assert "i2t_m = similarity(x=momentum.image_embedding, y=i2t_m.gathered)" in plan
    assert "i2t_m.gathered = momentum.gathered(x=momentum.text_embedding)" in plan
    assert "losses.contrastive = contrastive(scores=[i2t, t2i], soft=[i2t_m, t2i_m], alpha=0.4)" in plan
    added = [call for call in blueprint.training if call.world == "momentum"]
    assert len(added) == 12
    assert counted(blueprint.training) == counted(paper("coca").training) + 14
    assert not {"multimodal", "lm_head"} & {call.target for call in added}


def test_albef_with_a_swin_tower_pools_it_in_both_worlds() -> None:
    plan = lines("albef_swin")
    assert "image_embedding.mean = mean(x=v)" in plan
    assert "momentum.image_embedding.mean = momentum.mean(x=momentum.v)" in plan
    blueprint = checked("hybrids/albef_swin")
    assert blueprint.components["fusion"].config.context_width == 1024
    assert blueprint.components["image_proj"].config.width == 1024


def test_blips_decoder_looks_at_pooled_queries_and_nothing_else_does() -> None:
    plan = lines("blip_pooler")
    assert "logits.decoder = decoder(x=logits.begin, context=logits.pool)" in plan
    assert "wrong_image.joint = text(x=joint.begin, context=wrong_image.v)" in plan
    assert sum("pool(" in line for line in plan) == 1


def test_vlmo_with_a_captioning_decoder_generates_although_the_rest_may_not() -> None:
    blueprint = checked("hybrids/vlmo_captioner")
    assert blueprint.outputs["caption_of"].over == "caption"
    decoder = blueprint.components["captioner"].config
    assert (decoder.width, decoder.context_width, decoder.vocab_size) == (768, 768, 30522)


def test_beit3_with_a_queue_embeds_what_previous_was() -> None:
    plan = lines("beit3_contrastive")
    assert "image_embedding = normalize(x=image_embedding.image_proj)" in plan
    assert "image_embedding.image_proj = image_proj(x=image_embedding.previous)" in plan
    assert "momentum.image_embedding.previous = momentum..cls(x=momentum.image_embedding.previous.backbone)" in plan
    assert "wrong_image.joint = backbone(x=wrong_image.joint.join)" in plan
    assert {call.target for call in checked("hybrids/beit3_contrastive").training if call.role == "loss"} == {
        "images", "texts", "pair_images", "pair_texts", "itc", "itm",
    }  # fmt: skip


def test_two_image_towers_are_both_wrong_where_one_is() -> None:
    plan = lines("albef_two_towers")
    assert "wrong_image.joint = fusion(x=t, context=[wrong_image.v, wrong_image.v2])" in plan
    assert (
        "momentum.predicted.joint = momentum.fusion(x=momentum.predicted.t, context=[momentum.v, momentum.v2])" in plan
    )
    assert checked("hybrids/albef_two_towers").components["fusion"].config.contexts == 2


def test_what_one_teacher_reads_of_another_stays_the_others() -> None:
    """Inside `slow.y`, `fast.x` stays `fast.x`, also where what `y` reads is replaced."""
    plan = lines("albef_two_teachers")
    assert "taught = slow.mlm_head(x=taught.both_worlds)" in plan
    assert "taught.both_worlds = slow.add(values=[taught.slow.joint, taught.momentum.joint])" in plan
    assert "taught.slow.joint = slow.fusion(x=taught.slow.t, context=slow.v)" in plan
    assert "taught.momentum.joint = momentum.fusion(x=taught.momentum.t, context=momentum.v)" in plan
    worlds = {(call.target, call.world) for call in checked("hybrids/albef_two_teachers").training}
    assert {("fusion", "slow"), ("fusion", "momentum"), ("text", "slow"), ("text", "momentum")} <= worlds


def test_vlmo_distils_words_and_similarities_without_a_list_of_what_its_teacher_copies() -> None:
    blueprint = checked("hybrids/vlmo_momentum")
    copied = {call.target for call in blueprint.training if call.world == "momentum" and call.role == "component"}
    assert copied == {"patches_of", "words_of", "lower", "upper", "image_proj", "text_proj", "mlm_head"}


def test_coca_with_matching_mines_among_all_processes() -> None:
    plan = lines("coca_matching")
    assert "wrong_image.picked = index(x=wrong_image.gathered, index=neg.image)" in plan
    assert "wrong_image.joint = multimodal(x=joint.tokens, context=wrong_image.visual)" in plan


def test_a_hybrid_that_changes_nothing_is_its_paper() -> None:
    assert shapes_of(checked("albef", "t=previous").training) == shapes_of(paper("albef").training)


def test_parts_joined_by_name_stay_reachable_in_a_hybrid() -> None:
    blueprint = checked("beit3")
    joint = blueprint.type_of(blueprint.values["joint"])
    assert isinstance(joint, SequenceType)
    assert [part.name for part in joint.parts] == ["vision", "language"]


def test_a_component_that_is_gone_and_called_as_its_kind_is_said_to_be_gone(tmp_path: Path) -> None:
    """BLIP drops ALBEF's masked words, and with them `mlm_head`, which is the name of a kind, too."""
    child = "extends: blip\ngraph:\n  guess: mlm_head(joint)\noutputs:\n  guess: guess\n"
    (tmp_path / "child.yaml").write_text(child, encoding="utf-8")
    with pytest.raises(BlueprintError) as caught:
        Blueprint.load(tmp_path / "child.yaml").check()
    (problem,) = caught.value.problems
    assert problem.message == "nothing is called `mlm_head`"
    assert problem.hints[0].endswith("blip.yaml left `components.mlm_head` unread, so it is gone")
