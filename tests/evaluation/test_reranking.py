"""Re-ranking against brute force: every pair through the whole program, then the candidates of every query."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from compose_vlp.blueprint.scalars import Quantity
from compose_vlp.blueprint.sections import Evaluate, Rerank
from compose_vlp.data import open_source
from compose_vlp.data.source import Source
from compose_vlp.errors import UserError
from compose_vlp.evaluation.reranking import Matcher, evaluate_reranking
from compose_vlp.evaluation.results import evaluate, possible_tasks, ready
from compose_vlp.evaluation.retrieval import evaluate_retrieval
from compose_vlp.runtime.inference.outputs import Asker
from tests.models import tiny
from tests.support import assert_near

COUNT = 14


SMALL_VLMO = (
    "inputs.image.size=16", "components.patches_of={width: 16, patch: 8}", "components.words_of.width=16",
    "components.lower={depth: 1, heads: 2}", "components.upper.heads=2", "components.bert.vocab_size=320",
    *(f"components.{name}.out=16" for name in ("image_proj", "text_proj", "image_vl", "text_vl")),
)  # fmt: skip


@pytest.fixture(scope="module", params=["tiny/albef", "tiny/blip", "vlmo_base"])
def asker(request: pytest.FixtureRequest) -> Asker:
    if request.param == "vlmo_base":  # without cross-attention: the pair is read as one
        return tiny("vlmo_base", overrides=["+outputs.raw=matched"], small=SMALL_VLMO)
    return tiny(request.param, overrides=["+outputs.raw=matched"])


def test_one_vlmo_serves_both_embeddings_and_the_match(source: Source) -> None:
    asker = tiny("vlmo_base", overrides=["+outputs.raw=matched"], small=SMALL_VLMO)
    records = [source.record(n) for n in range(3)]
    pictures, texts = [record["image"]() for record in records], [record["caption"] for record in records]
    image = asker.value("image_embedding", {"image": pictures})
    text = asker.value("text_embedding", {"caption": texts})
    assert image.shape == text.shape == (3, 16)
    for embedding in (image, text):
        assert_near(embedding.norm(dim=1), torch.ones(3))
    match = asker.value("match", {"image": pictures, "caption": texts})
    assert_near(match.sum(1), torch.ones(3))
    assert_near(match, asker.value("raw", {"image": pictures, "caption": texts}).softmax(1))
    swapped = asker.value("match", {"image": pictures[::-1], "caption": texts})
    assert_near(swapped[1], match[1])
    assert (swapped[0] - match[0]).abs().max() > 1e-6, "each word sees the picture"


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source({"use": "scenes", "size": 16, "count": COUNT, "max_objects": 1, "min_objects": 1})


def brute_force(asker: Asker, source: Source, top: int, add: bool) -> tuple[list[int], list[int]]:
    """Of each picture the place of its text among all, and of each text of its picture; unscored ones come last."""
    records = [source.record(n) for n in range(COUNT)]
    pictures, texts = [record["image"]() for record in records], [record["caption"] for record in records]
    raw = torch.stack(
        [asker.value("raw", {"image": [picture] * COUNT, "caption": texts})[:, 1] for picture in pictures]
    )
    cosines = asker.value("image_embedding", {"image": pictures}) @ asker.value("text_embedding", {"caption": texts}).T

    def places(raw: Tensor, cosines: Tensor) -> list[int]:
        actual = []
        for query in range(COUNT):
            candidates = cosines[query].argsort(descending=True)[:top].tolist()
            score = {c: float(raw[query, c] + (cosines[query, c] if add else 0)) for c in candidates}
            right = [c for c in candidates if texts[c] == texts[query]]
            wrong = [c for c in range(COUNT) if texts[c] != texts[query]]
            if not right:
                actual.append(len(wrong))
                continue
            best = max(score[c] for c in right)
            actual.append(sum(score.get(c, -torch.inf) >= best for c in wrong))
        return actual

    return places(raw, cosines), places(raw.T, cosines.T)


@pytest.mark.parametrize(("top", "add"), [(4, False), (4, True), (100, False)])
def test_candidates_are_put_in_order_by_match(asker: Asker, source: Source, top: int, add: bool) -> None:
    actual = evaluate_reranking(asker, source, COUNT, Rerank(top=top, add_similarity=add)).recall
    of_pictures, of_texts = brute_force(asker, source, top, add)
    for rank in (1, 5, 10):
        assert actual.image_to_text[rank] == pytest.approx(sum(n < rank for n in of_pictures) / COUNT)
        assert actual.text_to_image[rank] == pytest.approx(sum(n < rank for n in of_texts) / COUNT)


def test_one_candidate_leaves_the_first_of_the_embeddings_first(asker: Asker, source: Source) -> None:
    reranked, plain = evaluate_reranking(asker, source, COUNT, Rerank(top=1)), evaluate_retrieval(asker, source, COUNT)
    assert reranked.first == plain.first
    assert reranked.recall.image_to_text[1] == plain.recall.image_to_text[1]


def test_each_pair_is_judged_once_picture_after_picture(asker: Asker, source: Source, monkeypatch: Any) -> None:
    judged: list[tuple[int, int]] = []
    scores = Matcher.scores

    def watched(matcher: Matcher, pairs: Any) -> Tensor:
        judged.extend((id(image), id(text)) for image, text in pairs)
        return scores(matcher, pairs)

    monkeypatch.setattr(Matcher, "scores", watched)
    monkeypatch.setattr("compose_vlp.evaluation.reranking.PAIRS", 5)
    evaluate_reranking(asker, source, COUNT, Rerank(top=3))
    assert len(judged) == len(set(judged)) < 2 * COUNT * 3, "a pair may be a candidate both ways"
    pictures = [image for image, _ in judged]
    turns = [image for image, before in zip(pictures, [None, *pictures], strict=False) if image != before]
    assert len(turns) == len(set(turns)), "what a picture's texts need is not made again later"


def test_numbers_have_names_of_their_own_beside_retrieval_s(asker: Asker, source: Source) -> None:
    ticks: list[Any] = []
    actual = evaluate(asker, source, ("retrieval", "reranking"), COUNT, lambda task, n: ticks.append((task, n)))
    assert {"retrieval.mean_recall", "reranking.mean_recall"} <= set(actual.scores)
    assert ticks[-1] == ("reranking", COUNT)


def test_it_is_dear_and_measured_on_request_alone(asker: Asker, source: Source) -> None:
    assert "retrieval" in possible_tasks(asker, source) and "reranking" not in possible_tasks(asker, source)


def test_a_stage_may_ask_for_it(asker: Asker, source: Source) -> None:
    every = Quantity(1, "epochs")
    expected = Evaluate(every=every, tasks=("reranking",), count=COUNT, rerank=Rerank(top=1))
    plain = evaluate_retrieval(asker, source, COUNT).recall
    assert ready(asker, source, expected)().scores["reranking.image_to_text_recall_at_1"] == plain.image_to_text[1]


def test_a_model_without_a_matching_head_cannot() -> None:
    asker = tiny("tiny/albef", overrides=["~outputs.match"])
    with pytest.raises(UserError, match="reranking asks for the outputs match"):
        Matcher(asker)
