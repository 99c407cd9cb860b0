"""Mixtures: shares by weight, every record of a part before any comes twice, and the same batches after a resume."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from itertools import islice

import pytest

from compose_vlp.blueprint.inputs import parse_input
from compose_vlp.components.tokenizers.ids import Ids
from compose_vlp.data import BadRecord, Record, Source
from compose_vlp.data.loader import Loader
from compose_vlp.data.mixture import Mixture, shares
from compose_vlp.data.renamed import Renamed
from compose_vlp.data.sampler import Order, Position
from compose_vlp.errors import UserError


class Words(Source):
    """So many records that say who they are; every `broken`-th cannot be read."""

    decodes = False

    def __init__(self, name: str, count: int, field: str = "caption", broken: int = 0) -> None:
        super().__init__(None)
        self.name, self.count, self.field, self.broken = name, count, field, broken

    def __len__(self) -> int:
        return self.count

    def record(self, index: int) -> Record:
        if self.broken and index % self.broken == 0:
            raise BadRecord(f"{index} is broken")
        return {self.field: f"{index}", "of": self.name}


def mixed(**parts: tuple[Source, float]) -> Mixture:
    return Mixture(
        {name: source for name, (source, _) in parts.items()}, {name: weight for name, (_, weight) in parts.items()}
    )


PAIR = mixed(coco=(Words("coco", 30), 1), web=(Words("web", 90), 2))


def order_of(source: Source, batch: int = 1, seed: int = 0, rank: int = 0, world: int = 1) -> Order:
    return Order(len(source), batch, seed, rank, world, parts=source.parts)


def loader(source: Source, batch: int = 8, **settings: int) -> Loader:
    inputs = {"caption": parse_input({"type": "text", "tokenizer": "ids", "max_length": 4})}
    return Loader(source, inputs, {"ids": Ids(Ids.Config(vocab_size=1000))}, batch=batch, **settings)


def test_an_epoch_has_as_many_records_as_the_parts_together_in_the_shares_of_the_weights() -> None:
    for epoch in range(5):
        rows = order_of(PAIR).permutation(epoch)
        owners = Counter(PAIR.record(row)["of"] for row in rows.tolist())
        assert owners == {"coco": 40, "web": 80}


def test_no_record_comes_again_before_all_of_its_part_have_come() -> None:
    rows = [row for epoch in range(9) for row in order_of(PAIR, seed=3).permutation(epoch).tolist()]
    for first, count in ((0, 30), (30, 90)):
        stream = [row for row in rows if first <= row < first + count]
        for begin in range(0, len(stream) - count, count):
            assert sorted(stream[begin : begin + count]) == list(range(first, first + count))
        assert stream[:count] != stream[count : 2 * count]


def test_shares_are_spread_over_the_epoch() -> None:
    rows = order_of(PAIR).permutation(0)
    assert 8 < sum(row < 30 for row in rows[:60].tolist()) < 32


def test_weights_in_the_proportion_of_the_lengths_show_every_record_once_an_epoch() -> None:
    mixture = mixed(a=(Words("a", 10), 1), b=(Words("b", 30), 3))
    assert sorted(order_of(mixture).permutation(4).tolist()) == list(range(40))


def test_evaluated_the_parts_stand_one_after_the_other() -> None:
    assert [PAIR.record(row)["of"] for row in (0, 29, 30, 119)] == ["coco", "coco", "web", "web"]
    assert [PAIR.record(row)["caption"] for row in (0, 29, 30, 119)] == ["0", "29", "0", "89"]
    assert Order(len(PAIR), 50, shuffle=False, parts=PAIR.parts).permutation(0).tolist() == list(range(120))
    with pytest.raises(IndexError):
        PAIR.record(120)


def test_a_mixture_in_a_mixture_shares_its_weight() -> None:
    outer = mixed(pair=(PAIR, 3), more=(Words("more", 40), 1))
    assert [part.name for part in outer.parts] == ["pair.coco", "pair.web", "more"]
    assert [part.each_epoch for part in outer.parts] == [40, 80, 40]


def test_two_processes_together_see_what_one_would_and_nothing_twice() -> None:
    def plans(batch: int, rank: int, world: int) -> Sequence[tuple[int, ...]]:
        return [plan.rows for plan in islice(order_of(PAIR, batch, 1, rank, world).plans(Position()), 30)]

    whole, first, second = plans(8, 0, 1), plans(4, 0, 2), plans(4, 1, 2)
    assert [a + b for a, b in zip(first, second, strict=True)] == whole
    web = [{row for row in rows if row >= 30} for rows in (sum(first[:7], ()), sum(second[:7], ()))]
    assert not web[0] & web[1]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [4, 15, 22])
def test_resumed_in_mid_epoch_it_is_the_same_trajectory(stop: int, workers: int) -> None:
    source = mixed(coco=(Words("coco", 30, broken=29), 1), web=(Words("web", 90, broken=31), 2))
    source.skip_limit = 0.2
    whole = [batch.rows for batch in islice(loader(source, seed=5), 33)]
    data_loader = loader(source, seed=5, workers=workers)
    begun = [batch.rows for batch in islice(data_loader, stop)]
    state = pickle.loads(pickle.dumps(data_loader.state_dict()))
    other = loader(source, seed=5, workers=workers)
    other.load_state_dict(state)
    assert begun + [batch.rows for batch in islice(other, 33 - stop)] == whole
    assert other.skipped
    assert all(reason.startswith(("coco: ", "web: ")) for reason in other.skipped.values())


def test_a_state_of_other_weights_is_refused() -> None:
    state = loader(PAIR).state_dict()
    other = mixed(coco=(Words("coco", 30), 1), web=(Words("web", 90), 3))
    with pytest.raises(UserError, match="the mixture had other parts or weights") as caught:
        loader(other).load_state_dict(state)
    assert caught.value.problems[0].hints == (
        "then: 40 of coco (30), 80 of web (90)",
        "now: 30 of coco (30), 90 of web (90)",
    )
    with pytest.raises(UserError, match="other parts"):
        loader(Words("all", 120)).load_state_dict(state)


def test_substitutes_come_from_the_parts_by_their_weights() -> None:
    mixture = mixed(small=(Words("small", 1000), 1), large=(Words("large", 9000), 1))
    order = order_of(mixture, 4)
    plan = next(iter(order.plans(Position())))
    taken = list(islice(order.substitutes(plan), 400))
    assert 140 < sum(row < 1000 for row in taken) < 260


def test_fields_under_further_names_make_sources_of_different_makers_fit() -> None:
    renamed = Renamed(Words("nlvr", 20, field="sentence"), {"caption": "sentence", "absent": "nothing"})
    assert renamed.record(3) == {"sentence": "3", "caption": "3", "of": "nlvr"}
    assert renamed.decodes is False
    renamed = Renamed(renamed.source, {"caption": "sentence"})
    batch = next(iter(loader(mixed(a=(renamed, 1), b=(Words("b", 20), 1)))))
    assert len(batch.rows) == 8


def test_a_part_without_the_field_is_named() -> None:
    mixture = mixed(coco=(Words("coco", 20), 1), nlvr=(Words("nlvr", 20, field="sentence"), 1))
    with pytest.raises(UserError, match="reads the field 'caption', which the records of 'nlvr' do not have"):
        loader(mixture)


def test_a_weight_too_small_for_one_record_is_told() -> None:
    with pytest.raises(UserError, match="the weight of 'b' is so small"):
        mixed(a=(Words("a", 20), 1), b=(Words("b", 20), 1e-6))


def test_shares_add_up_whatever_the_weights() -> None:
    assert shares(10, [1, 1, 1]) == [4, 3, 3]
    assert shares(7, [0.2, 0.5]) == [2, 5]
    assert sum(shares(1_000_003, [3.3, 1.7, 2.9, 0.1])) == 1_000_003
