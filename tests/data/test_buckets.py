"""Batches of texts of like length: the same records, in batches that hold little padding, and the same again."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compose_vlp.blueprint.inputs import TextInput
from compose_vlp.components.tokenizers.ids import Ids
from compose_vlp.data import BadRecord, Record, Source
from compose_vlp.data.collate import Batch
from compose_vlp.data.draws import Draws
from compose_vlp.data.loader import Loader
from compose_vlp.data.mixture import Mixture
from compose_vlp.data.renamed import Renamed
from compose_vlp.data.source import Runs
from compose_vlp.errors import UserError
from compose_vlp.values import Text
from tests.data.test_stores import opened, shards, store

__all__ = ["shards", "store"]
IDS = {"ids": Ids(Ids.Config(vocab_size=1000))}
CAPTION = TextInput(tokenizer="ids", max_length=40)


class Sentences(Source):
    """Sentences of 1 to 30 words, or three a record; every `broken`-th is none, and no picture may be looked at."""

    decodes = False

    def __init__(self, count: int, *, several: int = 0, broken: int = 0, field: str = "caption") -> None:
        super().__init__(None)
        self.count, self.several, self.broken, self.field = count, several, broken, field
        self.read = Counter[int]()

    def __len__(self) -> int:
        return self.count

    def words(self, index: int, number: int = 0) -> str:
        return "7 " * (1 + Draws("words", index, number).below(30))

    def record(self, index: int) -> Record:
        self.read[index] += 1
        if self.broken and index % self.broken == 0:
            raise BadRecord(f"{index} is broken")
        texts = [self.words(index, number) for number in range(self.several)]
        return {self.field: texts or self.words(index), "image": self.picture}

    def picture(self) -> Any:
        raise AssertionError("a picture is read to know how long a text is")


class Stored(Sentences):
    """The same in runs that are fetched, whose indices know the lengths."""

    def __init__(self, count: int, runs: int, at_once: int) -> None:
        super().__init__(count)
        self.runs = (Runs(np.arange(1, runs + 1) * (count // runs), at_once),)

    def text_bytes(self, index: int, field: str) -> int | None:
        return len(self.words(index)) if field == "caption" else None


def loader(source: Source, batch: int = 8, bucket: int | None = 10, **settings: Any) -> Loader:
    inputs = settings.pop("inputs", {"caption": CAPTION})
    return Loader(source, inputs, IDS, batch=batch, bucket=bucket, **{"skip_limit": 1.0, **settings})


def taken(made: Loader, count: int) -> list[Batch]:
    return list(islice(iter(made), count))


def text_of(batch: Batch) -> Text:
    text = batch.values["caption"]
    assert isinstance(text, Text)
    return text


def filled(batches: list[Batch]) -> float:
    """The share of a batch's columns that are words."""
    texts = [text_of(batch) for batch in batches]
    return sum(int(text.lengths.sum()) for text in texts) / sum(text.ids.numel() for text in texts)


def rows_of(batches: list[Batch]) -> list[tuple[int, ...]]:
    return [batch.rows for batch in batches]


def test_an_epoch_has_the_same_records_as_before_in_batches_of_little_padding() -> None:
    plain, sorted_ = (taken(loader(Sentences(500), bucket=bucket, seed=3), 62) for bucket in (None, 20))
    windows = ((rows_of(batches)[first : first + 20] for first in range(0, 62, 20)) for batches in (plain, sorted_))
    for before, after in zip(*windows, strict=True):
        assert sorted(row for rows in before for row in rows) == sorted(row for rows in after for row in rows)
    assert filled(plain) < 0.6 and filled(sorted_) > 0.85
    longest = [int(text_of(batch).lengths.max()) for batch in sorted_[:20]]
    assert longest != sorted(longest), "the batches of a window are shuffled"


def test_epochs_and_seeds_make_other_batches_and_a_seed_the_same() -> None:
    first, same, other = (rows_of(taken(loader(Sentences(160), seed=seed), 40)) for seed in (0, 0, 1))
    assert first == same != other
    assert set(map(frozenset, first[:20])).isdisjoint(map(frozenset, first[20:]))


def test_processes_share_out_the_batch_that_one_would_have_without_the_short_ones_to_the_first() -> None:
    whole = taken(loader(Sentences(400), batch=16), 25)
    parts = [taken(loader(Sentences(400), batch=8, rank=rank, world=2), 25) for rank in (0, 1)]
    assert [a.rows + b.rows for a, b in zip(*parts, strict=True)] == rows_of(whole)
    words = [sum(int(text_of(batch).lengths.sum()) for batch in part) for part in parts]
    assert abs(words[0] - words[1]) < 0.05 * sum(words)


@pytest.mark.parametrize(("stop", "workers"), [(3, 0), (10, 0), (17, 1), (21, 0)])
def test_resumed_within_a_window_it_is_the_same_trajectory(stop: int, workers: int) -> None:
    def made(**settings: Any) -> Loader:
        return loader(Sentences(150, several=3, broken=19), seed=1, **settings)

    whole = taken(made(), 40)
    first, second = made(workers=workers), made(workers=workers)
    taken(first, stop)
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    assert rows_of(taken(second, 40 - stop)) == rows_of(whole)[stop:]


def test_of_several_texts_the_one_that_is_drawn_counts_in_each_epoch() -> None:
    batches = taken(loader(Sentences(500, several=3), bucket=60), 124)
    assert filled(batches[:62]) > 0.85 and filled(batches[62:]) > 0.85


def test_what_is_no_text_is_counted_as_broken_where_its_batch_is_read() -> None:
    source = Sentences(100, broken=9)
    made = loader(source)
    rows = [row for batch in taken(made, made.batches_per_epoch) for row in batch.rows]
    assert not any(row % 9 == 0 for row in rows) and len(made.skipped) == 12


def test_lengths_are_read_once_for_all_epochs() -> None:
    source = Sentences(80)
    taken(loader(source), 30)
    assert set(source.read.values()) <= {4, 5}, "once for its length, once an epoch; and a few to see their fields"


def test_all_texts_that_are_padded_to_the_longest_count_and_others_do_not() -> None:
    framed = {"caption": TextInput(tokenizer="ids", max_length=40, pad="frame")}
    assert loader(Sentences(99), inputs=framed).buckets is None
    assert loader(Sentences(99), train=False).buckets is None
    two = {"caption": CAPTION, "same": TextInput(tokenizer="ids", max_length=40, many=True, **{"from": "caption"})}
    made = loader(Sentences(99), inputs=two)
    assert made.buckets is not None
    assert made.buckets.lengths(np.arange(9), 0).round().tolist() == [
        2 * len(Sentences(9).words(row).split()) for row in range(9)
    ]


def test_records_of_fetched_shards_stay_in_their_lanes() -> None:
    """Each process reads from lanes of its own, a batch has as many of each, and it does not depend on processes."""
    source = Stored(2400, runs=20, at_once=4)
    plain, sorted_ = (loader(source, batch=16, bucket=bucket) for bucket in (None, 12))
    before, after = (list(islice(made._plans(made.position), 48)) for made in (plain, sorted_))
    parts = [loader(source, batch=8, bucket=12, rank=rank, world=2) for rank in (0, 1)]
    halves = [list(islice(made._plans(made.position), 48)) for made in parts]
    assert [a.rows + b.rows for a, b in zip(*halves, strict=True)] == [plan.rows for plan in after]
    for first in range(0, 48, 12):
        for lane in range(4):
            mine = slice(lane * 4, lane * 4 + 4)
            assert {row for plan in before[first : first + 12] for row in plan.rows[mine]} == {
                row for plan in after[first : first + 12] for row in plan.rows[mine]
            }
    lengths = [[len(source.words(row)) for row in plan.rows] for plan in after]
    assert np.mean([np.mean(each) / max(each) for each in lengths]) > 0.75
    assert not source.read.keys() - set(range(5)), "but for the fields, no record is read"


def test_shards_of_a_store_know_their_texts(shards: str, store: Any, tmp_path: Path) -> None:
    source = opened(shards, tmp_path, at_once=4)
    renamed = Mixture({"a": Renamed(source, {"text": "caption"}), "b": Sentences(62, field="text")}, {"a": 1, "b": 1})
    assert renamed.text_bytes(3, "text") == len(source.record(3)["txt"].encode()) + 2 and not renamed.text_bytes(
        62, "text"
    )
    made = loader(renamed, batch=4, bucket=2, inputs={"text": CAPTION})
    made.load_state_dict(made.state_dict())
    assert len({row for batch in taken(made, 20) for row in batch.rows}) > 60
    with pytest.raises(UserError, match="needs the length of `key` before the shards are fetched") as caught:
        loader(
            source, batch=4, bucket=2, inputs={"caption": TextInput(tokenizer="ids", max_length=9, **{"from": "key"})}
        )
    assert "`.txt` is read as `caption`" in caught.value.problems[0].hints[0]


def test_shards_are_fetched_a_lane_ahead_whatever_the_processes_and_the_window() -> None:
    source = Stored(800, runs=20, at_once=4)
    depths = [loader(source, 16 // n, bucket, world=n)._depth() for n, bucket in ((1, None), (2, None), (2, 4))]
    assert depths == [10, 10, 7]


def test_a_window_is_no_larger_than_what_is_fetched() -> None:
    with pytest.raises(
        UserError, match=r"`bucket: 20` sorts 320 records at a time, and 160 of the shards are"
    ) as caught:
        loader(Stored(800, runs=20, at_once=4), batch=16, bucket=20)
    assert caught.value.problems[0].hints[0].startswith("`bucket: 5`, or more shards at once")


def test_another_bucket_than_that_of_the_checkpoint_is_refused() -> None:
    state = loader(Sentences(99)).state_dict()
    with pytest.raises(UserError, match="put together among 10 batches when this run stopped, and among 1 now"):
        loader(Sentences(99), bucket=None).load_state_dict(state)
    del state["bucket"]  # of a run that knew nothing of it
    loader(Sentences(99), bucket=None).load_state_dict(state)
