"""The order of records: every one once an epoch, split over processes, and the same again from any position."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compose_vlp.data.sampler import Order, Plan, Position
from compose_vlp.errors import UserError


def plans(order: Order, count: int, start: Position | None = None) -> list[Plan]:
    return list(islice(order.plans(start or Position()), count))


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 3), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_an_epoch_has_every_record_at_most_once_and_drops_less_than_a_batch(
    records: int, batch: int, world: int, seed: int
) -> None:
    if records < batch * world:
        return
    ranks = [Order(records, batch, seed, rank, world) for rank in range(world)]
    seen = [row for order in ranks for plan in plans(order, order.batches) for row in plan.rows]
    assert len(seen) == len(set(seen)) == records - records % (batch * world)
    assert set(seen) <= set(range(records))


def test_processes_share_out_the_batch_that_one_would_have() -> None:
    whole = plans(Order(50, 6, seed=3), 12)
    parts = [plans(Order(50, 2, 3, rank, 3), 12) for rank in range(3)]
    assert [plan.rows for plan in whole] == [sum((p[i].rows for p in parts), ()) for i in range(12)]
    assert all(plan.everyone == plan.rows for plan in whole)
    assert all(part[i].everyone == whole[i].rows for part in parts for i in range(12))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [tuple(Order(40, 1, seed).permutation(epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9
    assert len({order[0] for order in orders}) > 4


def test_the_order_of_a_seed_never_changes() -> None:
    assert Order(10, 1, seed=7).permutation(2).tolist() == [3, 2, 4, 5, 9, 7, 1, 0, 6, 8]


def test_from_any_position_it_goes_on_as_it_would_have() -> None:
    order = Order(23, 2, 1, rank=1, world=2)
    whole = plans(order, 20)
    assert all(before.after == after.start for before, after in pairwise(whole))
    for place, plan in enumerate(whole):
        assert plans(order, 20 - place, plan.start) == whole[place:]
    assert whole[-1].start.epoch == 3


def test_without_shuffling_once_through_in_order_with_a_short_end() -> None:
    assert [plan.rows for plan in Order(7, 3, shuffle=False).plans(Position())] == [(0, 1, 2), (3, 4, 5), (6,)]
    ranks = [[p.rows for p in Order(7, 2, 0, rank, 2, shuffle=False).plans(Position())] for rank in range(2)]
    assert ranks == [[(0, 1), (4, 5)], [(2, 3), (6,)]]


def test_substitutes_are_outside_of_everyones_batch_and_of_one_process_alone() -> None:
    ranks = [Order(30, 4, 5, rank, 3) for rank in range(3)]
    chosen = [list(islice(order.substitutes(plans(order, 1)[0]), 4)) for order in ranks]
    everyone = set(plans(ranks[0], 1)[0].everyone)
    flat = [row for rows in chosen for row in rows]
    assert len(set(flat)) == len(flat) == 12
    assert not set(flat) & everyone
    assert chosen == [list(islice(order.substitutes(plans(order, 1)[0]), 4)) for order in ranks]


def test_substitutes_end_where_there_are_none() -> None:
    order = Order(4, 4)
    assert list(order.substitutes(plans(order, 1)[0])) == []


def test_too_few_records_for_a_batch_are_told() -> None:
    with pytest.raises(UserError, match=r"5 records, fewer than one batch \(4 x 2 processes\)"):
        Order(5, 4, world=2)
    with pytest.raises(UserError, match="a batch of 0 records"):
        Order(5, 0)
    assert Order(1, 4, shuffle=False).batches == 1
