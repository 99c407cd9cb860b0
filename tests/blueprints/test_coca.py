"""CoCa's blueprints: the paper's sizes, and what the paper says of layout."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import compile_plan
from compose_vlp.compiler.figures import figures
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.graph.types import Flow, LogitsType, SequenceType
from compose_vlp.values import Image, Text
from tests.support import assert_near


def model_of(name: str) -> tuple[Blueprint, Model]:
    blueprint = Blueprint.load(name)
    return blueprint, build(blueprint.check(), "meta")


@pytest.mark.parametrize(
    ("name", "image_encoder", "text_decoder"),
    [("coca_base", 86e6, 297e6), ("coca_large", 303e6, 484e6), ("coca", 1.01e9, 1.09e9)],
)
def test_parameters_are_those_of_the_papers_table_1(name: str, image_encoder: float, text_decoder: float) -> None:
    blueprint, model = model_of(name)
    counts = model.component_parameters()
    assert counts["vision"] == pytest.approx(image_encoder, rel=0.005)
    words = counts["unimodal"] + counts["multimodal"] + counts["lm_head"]
    assert words == pytest.approx(text_decoder, rel=0.005)
    lines = figures(blueprint.document, counts)
    assert [line.label for line in lines] == ["image_encoder", "text_decoder", "both"]
    assert all(line.agrees for line in lines)
    assert lines[-1].ratio == pytest.approx(1, abs=0.002)


@pytest.mark.parametrize(("name", "tables"), [("coca", 1), ("coca_base", 2), ("coca_large", 2)])
def test_words_are_read_and_written_by_one_table_or_two(name: str, tables: int) -> None:
    _, model = model_of(name)
    student = model.student
    assert (student.lm_head.weight is student.unimodal.embedding.weight) is (tables == 1)


def test_half_of_the_decoders_layers_look_at_the_image() -> None:
    _, model = model_of("coca_base")
    names = {name.split(".branch")[0] for name in model.components.state_dict()}
    looking = {name.split(".")[0] for name in names if "cross_attention" in name}
    assert looking == {"multimodal"}
    assert len(model.student.unimodal.layers) == len(model.student.multimodal.layers) == 12


def test_the_image_pooler_of_one_query_reads_the_one_of_many() -> None:
    checked = Blueprint.load("coca").check()
    calls = checked.plan.by_id()
    pooling = next(call for call in calls.values() if call.target == "pool_one")
    (ref,) = pooling.refs()
    assert calls[ref.call].target == "pool_many"


def test_logits_have_seen_earlier_words_alone() -> None:
    checked = Blueprint.load("coca").check()
    logits = checked.type_of(checked.values["logits"])
    assert isinstance(logits, LogitsType)
    assert (logits.classes, logits.reads["caption"]) == (64000, Flow.PAST)
    words = checked.type_of(checked.values["words"])
    assert isinstance(words, SequenceType)
    assert (words.parts[0].cls, words.parts[0].length) == ("last", 65)


def test_open_clips_blueprints_have_its_number_of_parameters() -> None:
    open_clip = pytest.importorskip("open_clip")
    config = open_clip.get_model_config("coca_ViT-B-32")
    config.pop("custom_text")
    with torch.device("meta"):
        library_model = open_clip.coca_model.CoCa(**config)
    _, model = model_of("coca_openclip_vit_b_32")
    assert sum(model.component_parameters().values()) == sum(p.numel() for p in library_model.parameters())


def _text(rows: list[list[int]]) -> Text:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return Text(ids, torch.tensor([len(row) for row in rows]), frame=12, pad=0)


def test_no_word_sees_the_cls_position_and_the_cls_sees_every_word(small_coca: Callable[..., Blueprint]) -> None:
    """The CLS stands behind the words: were it seen, words would be foretold from themselves."""
    checked = small_coca().check()
    model = build(checked, torch.device("cpu"), 3).eval().double()
    expected = {name: checked.values[name] for name in ("logits", "text_embedding")}
    program = compile_plan(checked, "ask", expected, trainable=lambda _: False).run

    @torch.no_grad()
    def ask(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        image = Image(torch.ones(len(rows), 3, 16, 16, dtype=torch.float64))
        actual = model(program, {"image": image, "caption": _text(rows)}, Step(checked.constants_and_starts()))
        return actual["logits"].scores, actual["text_embedding"].features

    words = [2, 20, 30, 40, 50, 1]
    logits, embedding = ask([words])
    with torch.no_grad():
        model.student.unimodal.cls.add_(torch.randn(32))
    moved_logits, moved_embedding = ask([words])
    assert_near(logits, moved_logits)
    assert not torch.allclose(embedding, moved_embedding, atol=1e-3)
    for place in range(len(words)):
        changed = [*words[:place], 60, *words[place + 1 :]]
        other_logits, other_embedding = ask([changed])
        assert_near(other_logits[:, :place], moved_logits[:, :place])
        assert not torch.allclose(other_embedding, moved_embedding, atol=1e-4), f"the CLS does not see word {place}"
    in_company, companions = ask([words, list(range(2, 14))])
    assert_near(in_company[:1, : len(words)], moved_logits[:, : len(words)])
    assert_near(companions[:1], moved_embedding, what="padding is seen")
