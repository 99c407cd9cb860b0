"""A queue gives what earlier steps left, and takes what this one leaves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from compose_vlp import registry
from compose_vlp.components.functions.gathered import gathered
from compose_vlp.components.queues.feature_queue import NOBODY, FeatureQueue
from compose_vlp.errors import UserError
from compose_vlp.graph.types import EmbeddingType, NumberType, RowSpace
from compose_vlp.values import Embedding, Number
from tests.support import spawn


def queue(size: int = 6) -> FeatureQueue:
    return FeatureQueue(FeatureQueue.Config(size=size, width=4))


def batch(rows: int = 2) -> dict[str, Any]:
    return {"image": Embedding(torch.randn(rows, 4)), "text": Embedding(torch.randn(rows, 4))}


def test_begins_with_random_vectors_of_length_one_that_are_nobodys() -> None:
    memory = queue(50)
    assert torch.allclose(memory.image.norm(dim=1), torch.ones(50))
    assert len(memory.text.unique(dim=0)) == 50
    assert (memory.id == NOBODY).all()


def test_gives_the_batch_and_then_the_queue_from_before_the_step() -> None:
    memory = queue()
    before = memory.image.clone()
    given = batch()
    keys = memory(**given)
    assert torch.equal(keys.image.features, torch.cat((given["image"].features, before)))
    assert keys.image.queued == keys.text.queued == 6
    assert not hasattr(keys, "id")
    memory.commit()
    assert torch.equal(keys.image.features[2:], before), "what was given out does not change under its reader"


def test_newest_replace_the_oldest_and_the_pointer_goes_round() -> None:
    memory = queue()
    seen = [batch() for _ in range(4)]
    for number, given in enumerate(seen):
        memory(Number(torch.tensor([number, number])), **given)
        memory.commit()
    assert memory.pointer.item() == 2
    expected = torch.cat([seen[n]["image"].features for n in (3, 1, 2)])
    assert torch.equal(memory.image, expected)
    assert memory.id.tolist() == [3, 3, 1, 1, 2, 2]


def test_ids_stand_beside_the_features() -> None:
    memory = queue()
    keys = memory(Number(torch.tensor([7, 8])), **batch())
    assert keys.id.values.tolist() == [7, 8, *[NOBODY] * 6]


def test_nothing_enters_without_commit_nor_in_eval_mode_nor_twice() -> None:
    memory = queue()
    before = memory.image.clone()
    memory(**batch())
    assert torch.equal(memory.image, before)
    memory.commit()
    after = memory.image.clone()
    assert not torch.equal(after, before)
    memory.commit()
    assert torch.equal(memory.image, after)
    memory.eval()
    memory(**batch())
    memory.commit()
    assert torch.equal(memory.image, after)


def test_no_gradient_enters() -> None:
    memory = queue()
    image = Embedding(torch.randn(2, 4, requires_grad=True))
    keys = memory(**{**batch(), "image": image})
    assert not keys.image.features.requires_grad
    memory.commit()
    assert not memory.image.requires_grad


def test_batch_that_does_not_divide_it_is_refused_with_sizes_that_would_do() -> None:
    with pytest.raises(UserError, match="a batch of 4 does not divide the queue's size 6") as caught:
        queue()(**batch(4))
    assert caught.value.problems[0].hints == ("batch: 3", "size: 4")
    queue().eval()(**batch(4))  # nothing enters there


def test_state_is_saved_with_the_weights() -> None:
    memory, other = queue(), queue()
    memory(**batch())
    memory.commit()
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.image, memory.image)
    assert other.pointer.item() == 2
    assert F.mse_loss(other.text, memory.text) == 0


def test_any_number_of_queues_move_together() -> None:
    memory = FeatureQueue(FeatureQueue.Config(size=4, width=4, queues=("a", "b", "c")))
    given = {name: Embedding(torch.randn(2, 4)) for name in "abc"}
    keys = memory(**given)
    memory.commit()
    for name, value in given.items():
        assert torch.equal(getattr(keys, name).features[:2], value.features)
        assert torch.equal(getattr(memory, name)[:2], value.features)
    assert memory.pointer.item() == 2


def entered(rank: int) -> dict[str, Any]:
    torch.manual_seed(0)
    memory = queue(8)
    start = {"image": memory.image.clone(), "refused": ""}
    rows = torch.full((2, 4), float(rank))
    keys = memory(Number(torch.tensor([rank, rank])), image=Embedding(rows), text=Embedding(-rows))
    memory.commit()
    try:
        memory(**batch(3))
    except UserError as error:
        start["refused"] = error.problems[0].message
    local = torch.equal(keys.image.features, torch.cat((rows, start["image"])))
    return {"local": local, "image": memory.image[:, 0].tolist(), "text": memory.text[:4, 0].tolist(),
            "id": memory.id.tolist(), "pointer": memory.pointer.item(),
            "rest": torch.equal(memory.image[4:], start["image"][4:]), "refused": start["refused"]}  # fmt: skip


def test_rows_of_all_processes_enter_in_the_order_of_their_ranks() -> None:
    both = spawn(entered)
    assert both[0] == both[1], "every process has the same queue"
    (actual, _) = both
    assert actual["local"], "the batch is this process's, the queue follows it"
    assert actual["image"][:4] == [0, 0, 1, 1]
    assert actual["text"] == [0, 0, -1, -1]
    assert actual["id"] == [0, 0, 1, 1, *[NOBODY] * 4]
    assert (actual["pointer"], actual["rest"]) == (4, True)
    assert actual["refused"] == "a batch of 6 does not divide the queue's size 8"


def test_what_it_gives_has_the_batchs_rows_and_the_queues() -> None:
    config = FeatureQueue.Config(size=8, width=4)
    ports = {"image": EmbeddingType(width=4), "text": EmbeddingType(width=4), "id": NumberType()}
    output_type = registry.get(FeatureQueue.kind_name).output(config, ports)
    assert {name: type(field) for name, field in output_type.fields.items()} == {n: type(p) for n, p in ports.items()}
    assert {field.rows for field in output_type.fields.values()} == {RowSpace("main", queue="kept")}


def test_names_that_are_not_its_queues_are_told() -> None:
    config = FeatureQueue.Config(size=8, width=4)
    with pytest.raises(UserError, match="keeps image, text; given are image, video") as caught:
        registry.get(FeatureQueue.kind_name).output(config, {"image": EmbeddingType(), "video": EmbeddingType()})
    assert caught.value.problems[0].hints == ("queues: [image, video]",)
    clashes = FeatureQueue.check(FeatureQueue.Config(size=8, width=4, queues=("image", "pointer", "train")))
    assert [clash.message.split("'")[1] for clash in clashes] == ["pointer", "train"]


def test_what_it_gives_is_seen_through_by_whoever_walks_over_tensors() -> None:
    keys = queue()(Number(torch.tensor([7, 8])), **batch())
    doubled = pytree.tree_map_only(torch.Tensor, lambda t: 2 * t, keys)
    assert torch.equal(doubled.text.features, 2 * keys.text.features)
    assert doubled.id.values.tolist()[:2] == [14, 16]


def gather_first(rank: int) -> list[list[float]]:
    """A step whose rows were gathered before they came to the queue."""
    memory = queue(8)
    mine = Embedding(torch.full((2, 4), float(rank)))
    keys = memory(image=gathered(mine), text=gathered(mine))
    memory.commit()
    return [[keys.image.own, memory.pointer.item(), keys.image.queued], memory.image[:4, 0].tolist()]


def test_gathered_rows_enter_once_and_know_where_their_own_stand() -> None:
    first, second = spawn(gather_first)
    assert first == [[0, 4, 8], [0.0, 0.0, 1.0, 1.0]]
    assert second == [[2, 4, 8], [0.0, 0.0, 1.0, 1.0]]
