"""Wrong partners are wrong, and the likelier the more similar."""

from __future__ import annotations

import pytest
import torch

from compose_vlp.components.miners.hard_negative_miner import HardNegativeMiner
from compose_vlp.errors import UserError
from compose_vlp.values import Number, Similarity


def miner(floor: float = 0.0) -> HardNegativeMiner:
    return HardNegativeMiner(HardNegativeMiner.Config(floor=floor))


def test_own_partner_is_never_drawn() -> None:
    scores = torch.full((5, 5), -9.0).fill_diagonal_(9.0)
    for _ in range(20):
        mined = miner()(Similarity(scores), Similarity(scores))
        assert (mined.image.rows != torch.arange(5)).all()
        assert (mined.text.rows != torch.arange(5)).all()


def test_rows_are_drawn_in_proportion_to_their_softmax() -> None:
    torch.manual_seed(0)
    scores = torch.tensor([[0.0, 2.0, 1.0, 0.0], *[[0.0] * 4] * 3])
    drawn = torch.stack([miner()(Similarity(scores), Similarity(scores)).text.rows[0] for _ in range(1000)])
    actual = torch.bincount(drawn, minlength=4) / 1000
    weights = scores[0].softmax(0)
    weights[0] = 0
    assert torch.allclose(actual, weights / weights.sum(), atol=0.05)


def test_floor_is_added_after_the_softmax() -> None:
    torch.manual_seed(0)
    scores = torch.tensor([[60.0, 0.0, -60.0]] * 3)
    drawn = torch.stack([miner(0.5)(Similarity(scores), Similarity(scores)).text.rows[0] for _ in range(400)])
    actual = torch.bincount(drawn, minlength=3) / 400
    assert actual[0] == 0
    assert abs(float(actual[1]) - 0.5) < 0.08, "beside the floor the similarities weigh nothing here"


def test_each_side_is_drawn_from_its_own_similarity() -> None:
    i2t = torch.full((3, 3), -50.0)
    t2i = i2t.clone()
    i2t[torch.arange(3), torch.tensor([1, 2, 0])] = 50.0  # a text for each picture
    t2i[torch.arange(3), torch.tensor([2, 0, 1])] = 50.0  # a picture for each text
    mined = miner()(Similarity(i2t), Similarity(t2i))
    assert mined.text.rows.tolist() == [1, 2, 0]
    assert mined.image.rows.tolist() == [2, 0, 1]


def test_queue_is_no_candidate() -> None:
    scores = torch.full((4, 10), 0.0)
    scores[:, 4:] = 99.0
    similarity = Similarity(scores, queued=6)
    assert int(miner()(similarity, similarity).text.rows.max()) < 4


def test_rows_of_other_processes_are_candidates_and_ones_own_place_is_known() -> None:
    scores = torch.full((2, 6), -50.0)
    scores[:, 4:] = 50.0  # the own columns, were it the first process
    scores[0, 4], scores[1, 5] = 60.0, 60.0
    similarity = Similarity(scores, own=4)
    assert miner()(similarity, similarity).text.rows.tolist() == [5, 4]


def test_another_text_of_the_same_picture_is_no_negative() -> None:
    scores = torch.tensor([[5.0, 5.0, 0.0]] * 3)
    same = Number(torch.tensor([7, 7, 8]))
    for _ in range(20):
        mined = miner()(Similarity(scores), Similarity(scores), same)
        assert mined.text.rows[:2].tolist() == [2, 2]
        assert mined.text.rows[2] in (0, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_degenerate_similarity_draws_any_wrong_one(value: float) -> None:
    scores = torch.full((4, 4), value)
    rows = miner()(Similarity(scores), Similarity(scores)).text.rows
    assert (rows != torch.arange(4)).all()


def test_similarity_that_leaves_no_weight_in_bf16_draws_any_wrong_one() -> None:
    scores = torch.full((4, 4), -300.0, dtype=torch.bfloat16).fill_diagonal_(300.0)
    rows = miner()(Similarity(scores), Similarity(scores)).image.rows
    assert (rows != torch.arange(4)).all()


def test_batch_of_one_is_refused() -> None:
    similarity = Similarity(torch.ones(1, 1))
    with pytest.raises(UserError, match="a batch of one has no wrong pair"):
        miner()(similarity, similarity)


def test_batch_of_one_id_is_refused() -> None:
    similarity = Similarity(torch.ones(3, 3))
    with pytest.raises(UserError, match="every record of a batch has the same id"):
        miner()(similarity, similarity, Number(torch.tensor([4, 4, 4])))


def test_draws_follow_the_seed() -> None:
    similarity = Similarity(torch.randn(8, 8))
    torch.manual_seed(3)
    first = miner()(similarity, similarity)
    torch.manual_seed(3)
    assert torch.equal(first.image.rows, miner()(similarity, similarity).image.rows)
