"""A queue gives what earlier steps left, and takes what this one leaves."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from compose_vlp.components.queues.feature_queue import NOBODY, FeatureQueue
from compose_vlp.errors import UserError
from compose_vlp.values import Embedding, Number


def queue(size: int = 6) -> FeatureQueue:
    return FeatureQueue(FeatureQueue.Config(size=size, image_width=4, text_width=3))


def batch(rows: int = 2) -> tuple[Embedding, Embedding]:
    return Embedding(torch.randn(rows, 4)), Embedding(torch.randn(rows, 3))


def test_begins_with_random_vectors_of_length_one_that_are_nobodys() -> None:
    one = queue(50)
    assert torch.allclose(one.image.norm(dim=1), torch.ones(50))
    assert len(one.text.unique(dim=0)) == 50
    assert (one.id == NOBODY).all()


def test_gives_the_batch_and_then_the_queue_from_before_the_step() -> None:
    one = queue()
    before = one.image.clone()
    image, text = batch()
    keys = one(image, text)
    assert torch.equal(keys.image.features, torch.cat((image.features, before)))
    assert keys.image.queued == keys.text.queued == 6
    assert keys.id is None
    one.commit()
    assert torch.equal(keys.image.features[2:], before), "what was given out does not change under its reader"


def test_newest_replace_the_oldest_and_the_pointer_goes_round() -> None:
    one = queue()
    seen = [batch() for _ in range(4)]
    for number, (image, text) in enumerate(seen):
        one(image, text, Number(torch.tensor([number, number])))
        one.commit()
    assert one.pointer.item() == 2
    wanted = torch.cat([seen[n][0].features for n in (3, 1, 2)])
    assert torch.equal(one.image, wanted)
    assert one.id.tolist() == [3, 3, 1, 1, 2, 2]


def test_ids_stand_beside_the_features() -> None:
    one = queue()
    keys = one(*batch(), Number(torch.tensor([7, 8])))
    assert keys.id.values.tolist() == [7, 8, *[NOBODY] * 6]


def test_nothing_enters_without_commit_nor_in_eval_mode_nor_twice() -> None:
    one = queue()
    before = one.image.clone()
    one(*batch())
    assert torch.equal(one.image, before)
    one.commit()
    after = one.image.clone()
    assert not torch.equal(after, before)
    one.commit()
    assert torch.equal(one.image, after)
    one.eval()
    one(*batch())
    one.commit()
    assert torch.equal(one.image, after)


def test_no_gradient_enters() -> None:
    one = queue()
    image = Embedding(torch.randn(2, 4, requires_grad=True))
    keys = one(image, batch()[1])
    assert not keys.image.features.requires_grad
    one.commit()
    assert not one.image.requires_grad


def test_batch_that_does_not_divide_it_is_refused_with_sizes_that_would_do() -> None:
    with pytest.raises(UserError, match="a batch of 4 does not divide the queue's size 6") as caught:
        queue()(*batch(4))
    assert caught.value.problems[0].hints == ("batch: 3", "size: 4")
    queue().eval()(*batch(4))  # nothing enters there


def test_state_is_saved_with_the_weights() -> None:
    one, other = queue(), queue()
    one(*batch())
    one.commit()
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.image, one.image)
    assert other.pointer.item() == 2
    assert F.mse_loss(other.text, one.text) == 0
