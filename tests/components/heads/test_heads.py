"""From features to embeddings, similarities and logits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from compose_vlp import registry
from compose_vlp.components.heads.linear_head import LinearHead
from compose_vlp.components.heads.lm_head import LMHead
from compose_vlp.components.heads.projection import Projection
from compose_vlp.components.heads.similarity import Similarity
from compose_vlp.errors import UserError
from compose_vlp.graph.types import EmbeddingType, Flow, RowSpace, SequenceType, TextType
from compose_vlp.graph.types import Part as PartType
from compose_vlp.values import Embedding, Part, Sequence, Text

TEXT = Text(torch.randint(1, 9, (2, 4)), torch.tensor([4, 2]), 4)
CAPTION = TextType(length=4, vocab_size=9, root="caption")


def words(extra: int = 0) -> Sequence:
    """Features at the words of a text, and at a CLS behind them."""
    part = Part("language", 0, 4 + extra, "last" if extra else "none", TEXT)
    return Sequence(torch.randn(2, 4 + extra, 6), (part,))


def words_type() -> SequenceType:
    return SequenceType(width=6, parts=(PartType("language", 4, text=CAPTION, reads={"caption": Flow.PAST}),))


# --- projection -------------------------------------------------------------------------------------------------


def test_a_projection_keeps_the_kind_of_what_it_is_given() -> None:
    projection = Projection(Projection.Config(out=3, width=6))
    gathered = projection(Embedding(torch.randn(2, 6), own=4))
    assert isinstance(gathered, Embedding)
    assert (gathered.features.shape, gathered.own) == ((2, 3), 4)
    sequence = words()
    projected = projection(sequence)
    assert isinstance(projected, Sequence)
    assert (projected.features.shape, projected.parts) == ((2, 4, 3), sequence.parts)
    output_type = registry.get(Projection.kind_name).output(Projection.Config(out=3, width=6), {"x": words_type()})
    assert isinstance(output_type, SequenceType)
    assert (output_type.width, output_type.parts) == (3, words_type().parts)
    assert registry.get(Projection.kind_name).output(
        Projection.Config(out=3), {"x": EmbeddingType(width=6)}
    ) == EmbeddingType(width=3)


def test_a_projection_has_a_bias_unless_it_is_told_not_to() -> None:
    assert set(Projection(Projection.Config(out=3, width=6)).state_dict()) == {"map.weight", "map.bias"}
    assert set(Projection(Projection.Config(out=3, width=6, bias=False)).state_dict()) == {"map.weight"}


# --- similarity -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learned", ["temperature", "log_scale"])
def test_both_ways_of_learning_the_temperature_divide_by_it(learned: str) -> None:
    similarity = Similarity(Similarity.Config(temperature=0.2, learned=learned))
    x, y = Embedding(torch.randn(2, 6)), Embedding(torch.randn(5, 6), own=3)
    out = similarity(x, y)
    assert torch.allclose(out.scores, x.features @ y.features.T / 0.2)
    assert out.own == 3
    (parameter,) = similarity.parameters()
    assert parameter.shape == (1,)


def test_rows_and_columns_gathered_alike_belong_together_from_the_first_on() -> None:
    similarity = Similarity(Similarity.Config())
    both = Embedding(torch.randn(4, 6), own=2)
    assert similarity(both, both).own == 0


def test_scores_keep_full_precision_under_autocast() -> None:
    similarity = Similarity(Similarity.Config(temperature=0.01)).float()
    x = Embedding(nn.functional.normalize(torch.randn(4, 64)).float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = similarity(x, x)
    assert out.scores.dtype == torch.float32
    assert torch.allclose(out.scores, x.features @ x.features.T / 0.01, atol=1e-4)


@pytest.mark.parametrize(
    ("learned", "moved", "kept"),
    [
        ("temperature", 2.0, 0.5),
        ("temperature", 0.0001, 0.001),
        ("temperature", 0.1, 0.1),
        ("log_scale", 8.0, math.log(1000)),
        ("log_scale", 0.0, math.log(2)),
    ],
)
def test_after_a_step_the_temperature_is_put_back_between_its_bounds(learned: str, moved: float, kept: float) -> None:
    similarity = Similarity(Similarity.Config(learned=learned, clamp=(0.001, 0.5)))
    (parameter,) = similarity.parameters()
    with torch.no_grad():
        parameter.fill_(moved)
    x = Embedding(torch.randn(2, 6))
    similarity(x, x).scores.sum().backward()
    assert float(parameter.detach()) == pytest.approx(moved)  # a forward leaves it, and its gradient is whole
    assert parameter.grad is not None
    assert float(parameter.grad.abs()) > 0
    similarity.after_step()
    assert float(parameter.detach()) == pytest.approx(kept)


def test_without_bounds_the_temperature_is_free() -> None:
    similarity = Similarity(Similarity.Config())
    assert similarity.temperature is not None
    with torch.no_grad():
        similarity.temperature.fill_(50)
    similarity.after_step()
    assert float(similarity.temperature.detach()) == 50


@pytest.mark.parametrize("clamp", [(0.5, 0.001), (0.0, 1.0), (0.1, 0.1)])
def test_bounds_that_bound_nothing_are_refused(clamp: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="two temperatures above 0, the smaller one first"):
        Similarity.Config(clamp=clamp)


def test_a_similarity_remembers_its_two_sides() -> None:
    image = EmbeddingType(origins=frozenset({"image"}), reads={}, width=6)
    caption = EmbeddingType(RowSpace(gathered=True), {"caption": Flow.ALL}, frozenset({"caption"}), width=6)
    output_type = registry.get(Similarity.kind_name).output(Similarity.Config(), {"x": image, "y": caption})
    assert output_type.sides == (image.origins, caption.origins)
    assert (output_type.rows, output_type.columns, output_type.reads) == (
        image.rows,
        caption.rows,
        {"caption": Flow.ALL},
    )


# --- heads over classes and words -------------------------------------------------------------------------------


def test_a_linear_head_scores_rows_or_positions() -> None:
    head = LinearHead(LinearHead.Config(classes=3, width=6))
    assert head(Embedding(torch.randn(2, 6))).scores.shape == (2, 3)
    out = head(words(extra=1))
    assert (out.scores.shape, out.text) == ((2, 4, 3), TEXT)
    patches = head(Sequence(torch.randn(2, 5, 6), (Part("vision", 0, 5),)))
    assert (patches.scores.shape, patches.text) == ((2, 5, 3), None)


def test_a_linear_head_says_what_its_scores_stand_on() -> None:
    config = LinearHead.Config(classes=3, width=6)
    rows = registry.get(LinearHead.kind_name).output(config, {"x": EmbeddingType(width=6)})
    assert (rows.classes, rows.text, rows.part) == (3, None, None)
    on_text = registry.get(LinearHead.kind_name).output(config, {"x": words_type()})
    assert (on_text.text, on_text.reads) == (CAPTION, {"caption": Flow.PAST})
    vision = SequenceType(width=6, parts=(PartType("vision", 5),))
    assert registry.get(LinearHead.kind_name).output(config, {"x": vision}).part == "vision"


def lm_head(**settings: Any) -> LMHead:
    return LMHead(LMHead.Config(**{"width": 6, "vocab_size": 9} | settings))


def test_a_vocabulary_head_scores_the_words_of_the_text_and_no_cls_behind_them() -> None:
    head, x = lm_head(), words(extra=1)
    out = head(x)
    assert out.text == TEXT
    assert torch.allclose(out.scores, x.features[:, :4] @ head.weight.T)


def test_chosen_places_count_in_the_flattened_text() -> None:
    head, x = lm_head(bias=True, transform=True), words(extra=1)
    at = torch.tensor([0, 3, 4, 7])
    out = head(x, at=at)
    assert out.at is at
    assert torch.allclose(out.scores, head(x).scores.flatten(0, 1)[at], atol=1e-6)


def test_the_words_are_found_among_other_parts() -> None:
    head, x = lm_head(), words()
    vision = torch.randn(2, 3, 6)
    parts = (Part("vision", 0, 3), Part("language", 3, 4, text=TEXT))
    both = Sequence(torch.cat((vision, x.features), 1), parts)
    assert torch.equal(head(both).scores, head(x).scores)


def test_the_transform_is_dense_gelu_and_norm() -> None:
    head, x = lm_head(transform=True, bias=True), words()
    state = head.state_dict()
    assert set(state) == {
        "weight",
        "bias",
        "transform.0.weight",
        "transform.0.bias",
        "transform.2.weight",
        "transform.2.bias",
    }
    dense = nn.functional.gelu(x.features @ state["transform.0.weight"].T + state["transform.0.bias"])
    expected = nn.functional.layer_norm(dense, (6,), eps=1e-12) @ state["weight"].T + state["bias"]
    assert torch.allclose(head(x).scores, expected, atol=1e-5)


def test_a_vocabulary_head_wants_one_text() -> None:
    config = LMHead.Config(width=6, vocab_size=9)
    assert registry.get(LMHead.kind_name).output(config, {"x": words_type()}).text == CAPTION
    two = SequenceType(width=6, parts=(PartType("question", 4, text=CAPTION), PartType("answer", 4, text=CAPTION)))
    with pytest.raises(UserError, match="positions of one text; here are 2") as caught:
        registry.get(LMHead.kind_name).output(config, {"x": two})
    assert caught.value.problems[0].hints == ("parts: question, answer; `x.question` takes one",)
    with pytest.raises(UserError, match="here are 0"):
        registry.get(LMHead.kind_name).output(config, {"x": SequenceType(width=6, parts=(PartType("vision", 4),))})
