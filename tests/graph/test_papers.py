"""The five papers mean what their authors computed: their plans, written out by hand in `plans/`, come out."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compose_vlp.blueprint.nodes import Mapping
from compose_vlp.graph.checking.check import check
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import ParamRef, Ref
from compose_vlp.graph.types import RowSpace, SimilarityType
from tests.graph.stub_kinds import Library
from tests.graph.support import FIVE, PAPERS, checked, counted, paper, resolved, shapes_of, written

PLANS = Path(__file__).parent / "plans"
Child = Callable[..., CheckedBlueprint]


@pytest.mark.parametrize("name", FIVE)
def test_losses_need_the_calls_of_the_plan_written_by_hand(name: str) -> None:
    assert written(paper(name).training) == (PLANS / f"{name}.txt").read_text().splitlines()


def test_albef_makes_43_calls() -> None:
    assert counted(paper("albef").training) == 43


def test_the_longhand_of_albef_gives_the_same_plan() -> None:
    assert shapes_of(checked("albef_longhand").training) == shapes_of(paper("albef").training)


def test_every_call_stands_after_those_that_it_reads() -> None:
    for name in FIVE:
        seen: set[str] = set()
        for call in paper(name).plan.calls:
            assert {ref.call for ref in call.refs()} <= seen
            seen.add(call.id)


def test_one_override_reaches_the_online_pass_the_masked_pass_and_the_teacher() -> None:
    blueprint = checked("albef", "t=insert(previous)", "+components.insert={use: adapter, hidden: 64}")
    adapted = [call for call in blueprint.training if call.target == "insert"]
    assert [(call.id, call.world) for call in adapted] == [
        ("t", None),
        ("momentum.t", "momentum"),
        ("predicted.t", None),
        ("momentum.predicted.t", "momentum"),
    ]
    assert counted(blueprint.training) == 47


def test_on_the_longhand_the_same_override_reaches_one_call_of_four() -> None:
    blueprint = checked("albef_longhand", "t=insert(previous)", "+components.insert={use: adapter, hidden: 64}")
    assert [call.id for call in blueprint.training if call.target == "insert"] == ["t", "momentum.t"]


def test_shared_vocabulary_that_nothing_reads_is_checked_but_costs_nothing() -> None:
    coca = paper("coca")
    assert "fused" in coca.values
    assert "pool_joint" not in {call.target for call in coca.training}
    expected = [Ref(loss.call) for loss in coca.losses.values()] + [output.ref for output in coca.outputs.values()]
    assert "pool_joint" not in coca.reached_components(expected)
    assert "pool_joint" in coca.reached_components([coca.values["fused"]])


def test_sizes_follow_from_the_graph() -> None:
    coca = paper("coca")
    assert coca.components["multimodal"].config.width == 768
    assert coca.components["multimodal"].config.context_width == 768
    assert coca.components["unimodal"].config.vocab_size == 64000
    assert coca.components["unimodal"].config.length == 64
    assert coca.components["lm_head"].config.vocab_size == 64000
    assert coca.components["vision"].inferred == {"size": 288}
    assert coca.type_of(coca.values["visual"]).shape() == ("main", 256, 768)
    assert coca.type_of(coca.values["words"]).shape() == ("main", 65, 768)
    assert coca.type_of(coca.values["logits"]).shape() == ("main", 64, 64000)


def test_blip_reads_two_more_tokens_and_shares_its_decoder_with_its_encoder() -> None:
    blip = paper("blip")
    decoder = blip.components["decoder"]
    assert dict(decoder.share) == {"*": "text", "self_attention": "own"}
    assert (decoder.config.depth, decoder.config.width, decoder.config.token_types) == (12, 768, False)
    assert decoder.config.vocab_size == blip.components["text"].config.vocab_size == 30524
    assert blip.reached_components([Ref("logits")]) >= {"decoder", "text", "lm_head"}


def test_a_queue_stands_behind_the_rows_of_the_batch_and_a_miner_stays_within_it() -> None:
    albef = paper("albef")
    scores = albef.type_of(albef.values["i2t"])
    assert isinstance(scores, SimilarityType)
    assert scores.rows == RowSpace("main")
    assert scores.columns == RowSpace("main", queue="memory")
    assert scores.sides == (frozenset({"image"}), frozenset({"caption"}))
    assert albef.type_of(Ref("wrong_image.v")).rows == RowSpace("main")


def test_three_sources_of_one_step_have_three_row_spaces() -> None:
    beit3 = paper("beit3")
    assert {str(beit3.type_of(beit3.values[name]).rows) for name in ("image_alone", "text_alone", "seen")} == {
        "images",
        "texts",
        "main",
    }


def test_weights_are_numbers_or_schedules() -> None:
    albef = paper("albef")
    assert {name: loss.weight for name, loss in albef.losses.items()} == {"itc": 1.0, "itm": 1.0, "mlm": 1.0}
    assert dict(albef.calls["losses.itc"].args)["alpha"] == ParamRef("alpha")
    assert albef.constants_and_starts() == {"alpha": 0.0}
    assert paper("vlmo").losses["mlm"].weight == 0.25


def test_only_the_constant_0_makes_a_loss_inactive(child: Child) -> None:
    with_schedule = child(
        "extends: albef\nparams:\n  rise: {linear: [0, 1], over: 1 epoch}\nlosses:\n  mlm: {weight: $rise}\n"
    )
    assert with_schedule.losses["mlm"].active
    without = child("extends: albef\nparams:\n  none: 0\nlosses:\n  mlm: {weight: $none}\n")
    assert not without.losses["mlm"].active
    assert counted(without.training) == 43 - 8


def test_a_constant_param_is_a_literal_of_the_plan(child: Child) -> None:
    blueprint = child("extends: albef\nparams:\n  alpha: 0.4\n")
    assert str(dict(blueprint.calls["losses.itc"].args)["alpha"]) == "Constant(value=0.4)"


def test_checking_a_paper_takes_no_time_worth_speaking_of() -> None:
    import time

    library = Library()
    document = resolved("coca", library=library).document
    check(document, library)
    started = time.process_time()  # 10 ms on an idle machine of today
    check(document, library)
    assert time.process_time() - started < 0.3


# --- what does not matter -----------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(FIVE), st.randoms(use_true_random=False))
def test_the_order_of_graph_entries_does_not_matter(name: str, shuffle: random.Random) -> None:
    library = Library()
    document = resolved(name, library=library).document
    entries = list(document.graph)
    shuffle.shuffle(entries)
    sections = [
        type(entry)(entry.key, Mapping(tuple(entries), document.graph.span)) if entry.name == "graph" else entry
        for entry in document.root
    ]
    shuffled = check(type(document)(Mapping(tuple(sections), document.root.span), document.files), library)
    assert shapes_of(shuffled.training) == shapes_of(paper(name).training)


INLINED = [
    ("albef", "joint.cls", "matched", "itm_head(joint.cls)"),
    ("vlmo", "pooler(joint.cls)", "matched", "itm_head(pooler(joint.cls))"),
    ("vlmo", "lower(words)", "text_embedding", "normalize(text_proj(upper(lower(words)).cls))"),
    ("coca", "multimodal(words.tokens, context=visual)", "logits",
     "lm_head(multimodal(words.tokens, context=visual))"),
    ("beit3", "words_of(caption)", "text_embedding", "backbone(words_of(caption)).cls"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expression", "reader", "inlined"), INLINED)
def test_whether_a_piece_has_a_name_does_not_matter(name: str, expression: str, reader: str, inlined: str) -> None:
    """A piece that stands in place has the same structure as its twin with a name."""
    text = (PAPERS / f"{name}.yaml").read_text()
    assert expression in text
    assert expression in inlined
    blueprint = checked(name, f"{reader}={inlined}")
    assert set(shapes_of(blueprint.training)) == set(shapes_of(paper(name).training))
