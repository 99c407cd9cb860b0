"""Maps of relevance against the formula written out, and what cannot be explained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compose_vlp.components.layers.attention import Scope
from compose_vlp.errors import UserError
from compose_vlp.run import Output
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.relevance import Explainer, Maps, _scores
from compose_vlp.values import Embedding, Logits, Similarity
from tests.models import TOWERS, tiny
from tests.support import assert_near

TEXTS = ("a small red circle", "there is a big blue square to the left of a ring")
PICTURES = tuple(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8))


def where(through: str = "fusion", layer: int = 0) -> str:
    return f"+outputs.where={{relevance: matched, to: v, through: {through}, layer: {layer}}}"


def albef(layer: int = 0) -> Asker:
    return tiny("tiny/albef", overrides=[where(layer=layer), "components.fusion.depth=3"])


def explain(asker: Asker, rows: slice = slice(None)) -> Maps:
    return Explainer(asker, "where").maps({"image": PICTURES[rows], "caption": TEXTS[rows]})


def written_out(asker: Asker, layer: int, text: str, picture: Any) -> tuple[Tensor, Tensor]:
    """A picture's map [words, 2, 2] and the score, by ALBEF's layers one after the other."""
    parts, batch = asker.model.student, asker.batch("where", {"image": [picture], "caption": [text]})
    v, x = parts.vision(batch["image"]).features, parts.text(batch["caption"]).features
    kept = torch.empty(0)
    for number, block in enumerate(parts.fusion.layers):
        x = block.self_attention(x, Scope())
        cross = block.cross_attention.branch
        queries, (keys, values) = cross.q(x).unflatten(-1, (4, 8)), cross.kv(v).unflatten(-1, (2, 4, 8)).unbind(2)
        weights = (torch.einsum("bnhd,bmhd->bhnm", queries, keys) / 8**0.5).softmax(-1)
        kept = weights if number == layer else kept
        looked = cross.out(torch.einsum("bhnm,bmhd->bnhd", weights, values).flatten(2))
        x = block.ffn(block.cross_attention.norm(x + looked))
    score = parts.itm_head(Embedding(x[:, 0])).scores[0, 1]
    (slope,) = torch.autograd.grad(score, kept)
    return (kept * slope.relu())[0].mean(0)[:, 1:].unflatten(1, (2, 2)).detach(), score.detach()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_word_s_map_is_attention_times_the_score_s_slope(layer: int) -> None:
    asker = albef(layer)
    actual = explain(asker)
    for row, text in enumerate(TEXTS):
        words, score = written_out(asker, layer, text, PICTURES[row])
        count = int(actual.text.lengths[row])
        assert words.shape == (count, 2, 2) and words.max() > 0
        assert_near(actual.words[row, :count], words, within=1e-4)
        assert_near(actual.whole[row], words.mean(0), within=1e-4)
        assert_near(actual.scores[row], score)
    assert not actual.words[0, int(actual.text.lengths[0]) :].any(), "nothing at padding"


def test_in_the_last_layer_the_score_reads_the_cls_alone() -> None:
    words = explain(albef(2)).words
    assert words[:, 0].any() and not words[:, 1:].any()


def test_a_text_tower_that_looks_is_explained_too() -> None:
    asker = tiny("tiny/blip", overrides=[where("text")])
    actual = explain(asker)
    assert actual.words.shape[2:] == (2, 2)
    assert (actual.whole > 0).any()
    alone = explain(asker, slice(0, 1))
    assert_near(actual.whole[:1], alone.whole, within=1e-4)


def test_the_output_of_a_run_is_the_map_of_one_pair() -> None:
    asker = albef()
    actual = Output(asker, "where")(image=PICTURES[0], caption=TEXTS[0])
    assert actual.shape == (2, 2)
    assert_near(actual, explain(asker, slice(0, 1)).whole[0])


def test_nothing_has_to_be_trainable_and_nothing_is_changed() -> None:
    asker = albef()
    before = explain(asker).whole
    parameters = list(asker.model.parameters())
    trainable = [parameter.requires_grad for parameter in parameters]
    try:
        asker.model.requires_grad_(False)
        assert_near(explain(asker).whole, before)
    finally:
        for parameter, was in zip(parameters, trainable, strict=True):
            parameter.requires_grad_(was)
    assert all(parameter.grad is None for parameter in parameters)


@pytest.mark.parametrize("pairing", ["alternate", "merge"])
def test_of_two_pictures_each_has_its_own_map(pairing: str) -> None:
    asker = tiny(
        "tiny/albef",
        "tasks/nlvr2",
        small=TOWERS,
        overrides=[
            "+graph.here=v(image=left)",
            "+graph.there=v(image=right)",
            "graph.verdict=judge(fused(v=[here, there], caption=statement))",
            f"components.fusion.pairing={pairing}",
            "+outputs.one={relevance: verdict, to: here, through: fusion, layer: 0}",
            "+outputs.two={relevance: verdict, to: there, through: fusion, layer: 0}",
            "data.statements={use: scenes}",
        ],
    )
    given = {"left": PICTURES[:1], "right": PICTURES[1:], "statement": TEXTS[:1]}
    branches = [layer.cross_attention.branch for layer in asker.model.student.fusion.layers]
    first, second = Explainer(asker, "one"), Explainer(asker, "two")
    expected = branches[:2] if pairing == "alternate" else list(branches[0].attentions)
    assert [first._attention, second._attention] == expected
    assert not torch.allclose(first.maps(given).whole, second.maps(given).whole)


def test_what_is_explained_is_a_match_or_the_likeliest_class_or_a_row_s_own_column() -> None:
    scores = torch.tensor([[1.0, 2.0, 7.0], [6.0, 5.0, 4.0]])
    assert _scores(Logits(scores[:, :2])).tolist() == [2, 5]
    assert _scores(Logits(scores)).tolist() == [7, 6]
    assert _scores(Similarity(scores, own=1)).tolist() == [2, 4]


# --- what cannot be explained -------------------------------------------------------------------------------------


def test_an_output_that_explains_nothing() -> None:
    with pytest.raises(UserError, match="output 'match' of albef_tiny explains no score"):
        Explainer(albef(), "match")


def test_a_layer_that_is_not_there() -> None:
    with pytest.raises(UserError, match="no layer 3: `fusion` has 3 layers, counted from 0"):
        albef(3)


def test_a_layer_without_cross_attention() -> None:
    asker = albef()
    layer = asker.model.student.fusion.layers[0]
    kept, layer.cross_attention = layer.cross_attention, None
    try:
        with pytest.raises(UserError, match="layer 0 of `fusion` has no cross-attention"):
            Explainer(asker, "where")
    finally:
        layer.cross_attention = kept


def test_pooled_positions_are_no_places() -> None:
    asker = tiny(
        "tiny/albef",
        overrides=[
            where().replace("to: v", "to: pooled"),
            "+components.pool={use: attention_pooler, queries: 4, heads: 4}",
            "+graph.pooled=pool(v)",
            "graph.joint=fusion(t, context=pooled)",
            "graph.wrong_image=matched(pooled=pooled[neg.image])",
        ],
    )
    with pytest.raises(UserError, match=r"the positions of `pooled` \(pooled\) are no places of a picture"):
        Explainer(asker, "where")
