"""Batches for training: the same with any number of workers, resumed exactly, past records that are broken."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compose_vlp.blueprint.inputs import parse_input
from compose_vlp.components.tokenizers.ids import Ids
from compose_vlp.components.tokenizers.wordpiece import WordPiece
from compose_vlp.data import BadRecord, Record, Source, open_source, shared_memory
from compose_vlp.data.collate import Batch
from compose_vlp.data.corpus import prepare_tokenizers
from compose_vlp.data.loader import Loader
from compose_vlp.data.readers import Reader
from compose_vlp.data.sampler import Position
from compose_vlp.errors import UserError

IDS = Ids(Ids.Config(vocab_size=1000))
INPUTS = {
    "image": parse_input({"type": "image", "size": 8, "augment": {"crop": [0.2, 0.9], "flip": 0.5}}),
    "caption": parse_input({"type": "text", "tokenizer": "ids", "max_length": 8}),
}


class Numbers(Source):
    """Records that show their number; those in `broken` cannot be read."""

    def __init__(self, count: int, broken: frozenset[int] = frozenset(), error: type[Exception] = BadRecord) -> None:
        super().__init__(None)
        self.count, self.broken, self.error = count, broken, error

    def __len__(self) -> int:
        return self.count

    def record(self, index: int) -> Record:
        if index in self.broken:
            raise self.error(f"number {index} is broken")
        return {"image": self.picture, "caption": [f"{index} {n}" for n in range(3)]}

    def picture(self) -> np.ndarray[Any, Any]:
        return np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)


def loader(source: Source, batch: int = 4, **settings: Any) -> Loader:
    return Loader(source, INPUTS, {"ids": IDS}, batch=batch, **settings)


def taken(batches: Iterator[Batch], count: int) -> list[Batch]:
    return list(islice(batches, count))


def equal(batch: Batch, other: Batch) -> bool:
    a, b = batch.values, other.values
    return (batch.rows, batch.position, batch.skipped) == (other.rows, other.position, other.skipped) and all(
        (torch.equal(a["image"].pixels, b["image"].pixels), torch.equal(a["caption"].ids, b["caption"].ids))
    )


BROKEN = Numbers(150, frozenset({3, 17, 18, 40, 77}))


def test_batches_are_whole_and_an_epoch_reads_every_record() -> None:
    batches = taken(iter(loader(Numbers(22))), 5)
    assert (
        sorted(row for batch in batches for row in batch.rows)[:3] == sorted({r for b in batches for r in b.rows})[:3]
    )
    assert all(len(batch.rows) == 4 for batch in batches)
    assert [batch.position for batch in batches[-2:]] == [Position(0, 16), Position(1, 0)]
    for batch in batches:
        assert batch.values["caption"].ids[:, 0].tolist() == list(batch.rows)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int) -> None:
    alone = taken(iter(loader(BROKEN, seed=4)), 45)
    helped = taken(iter(loader(BROKEN, seed=4, workers=workers)), 45)
    assert all(equal(a, b) for a, b in zip(alone, helped, strict=True))
    assert any(batch.skipped for batch in alone)


def test_what_workers_hold_can_be_sent_to_a_process_of_its_own() -> None:
    data_loader = loader(BROKEN)
    plan = next(iter(data_loader.order.plans(Position())))
    here, there = data_loader.reader[plan], pickle.loads(pickle.dumps(data_loader.reader))[plan]
    assert isinstance(here, Batch)
    assert equal(here, there)


def test_reading_ahead_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    taken(iter(loader(Numbers(22), workers=1)), 2)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 1, 20, 36, 37, 38, 60])
def test_resumed_is_the_same_trajectory(stop: int, workers: int) -> None:
    """Over an epoch's end and past broken records, and whatever workers had read ahead."""
    whole = taken(iter(loader(BROKEN, seed=1)), 64)
    first = loader(BROKEN, seed=1, workers=workers)
    stream = iter(first)
    taken(stream, stop)
    state = pickle.loads(pickle.dumps(first.state_dict()))
    second = loader(BROKEN, seed=1, workers=workers)
    second.load_state_dict(state)
    assert second.state_dict() == state
    rest = taken(iter(second), 64 - stop)
    assert all(equal(a, b) for a, b in zip(whole[stop:], rest, strict=True))
    reference = loader(BROKEN, seed=1)
    taken(iter(reference), 64)
    assert second.state_dict() == reference.state_dict()


def test_a_second_iterator_goes_on_where_the_first_was_left() -> None:
    whole = taken(iter(loader(BROKEN)), 10)
    data_loader = loader(BROKEN)
    again = [*taken(iter(data_loader), 4), *taken(iter(data_loader), 6)]
    assert all(equal(a, b) for a, b in zip(whole, again, strict=True))


def test_processes_together_see_what_one_would() -> None:
    whole = taken(iter(loader(Numbers(50), batch=6, seed=2)), 9)
    parts = [taken(iter(loader(Numbers(50), batch=2, seed=2, rank=r, world=3)), 9) for r in range(3)]
    for step, batch in enumerate(whole):
        assert sum((part[step].rows for part in parts), ()) == batch.rows
        assert torch.equal(
            torch.cat([part[step].values["image"].pixels for part in parts]), batch.values["image"].pixels
        )


# --- broken records ---------------------------------------------------------------------------------------------


def test_broken_records_are_replaced_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    data_loader = loader(BROKEN)
    batches = taken(iter(data_loader), 37)
    assert all(len(b.rows) == len(set(b.rows)) == 4 for b in batches)
    assert not BROKEN.broken & {row for b in batches for row in b.rows}
    skipped = data_loader.state_dict()["skipped"]
    assert set(skipped) <= BROKEN.broken
    assert len(skipped) >= 4
    assert skipped[17] == "number 17 is broken"
    assert data_loader.state_dict()["seen"] == 37 * 4 + sum(len(b.skipped) for b in batches)
    assert [r.getMessage() for r in caplog.records if "record 17" in r.getMessage()] == [
        "skipped record 17: number 17 is broken"
    ]


def test_a_broken_record_counts_once_however_many_epochs_meet_it() -> None:
    data_loader = loader(Numbers(40, frozenset({3})), skip_limit=0.03)
    taken(iter(data_loader), 60)
    assert set(data_loader.state_dict()["skipped"]) == {3}


def test_more_than_the_set_share_stops_the_run() -> None:
    broken = Numbers(300, frozenset(range(0, 300, 9)))
    with pytest.raises(UserError, match=r"\d+ of \d+ records are broken, more than the limit of 10%") as caught:
        taken(iter(loader(broken, skip_limit=0.1)), 75)
    assert "is broken" in caught.value.problems[0].hints[0]
    taken(iter(loader(broken, skip_limit=0.2)), 75)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_source_that_is_all_broken_stops_with_reasons(workers: int) -> None:
    with pytest.raises(UserError, match="broken") as caught:
        taken(iter(loader(Numbers(30, frozenset(range(30))), workers=workers)), 1)
    assert "is broken" in caught.value.problems[0].hints[0]
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_programming_error_is_never_skipped(workers: int) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        taken(iter(loader(Numbers(30, frozenset({7}), ZeroDivisionError), workers=workers)), 40)
    notes = [*getattr(caught.value, "__notes__", ()), str(caught.value)]
    assert any("while reading record 7 of Numbers" in text for text in notes)


# --- evaluation -------------------------------------------------------------------------------------------------


def test_without_training_once_through_unaugmented_and_skips_leave_gaps() -> None:
    data_loader = loader(BROKEN, batch=32, train=False)
    for _ in range(2):
        batches = list(data_loader)
        rows = [row for b in batches for row in b.rows]
        assert rows == [i for i in range(150) if i not in BROKEN.broken]
        assert batches[0].values["image"].pixels.unique(dim=0).shape[0] == 1
        assert batches[0].values["caption"].ids[:, 1].tolist() == [0] * len(batches[0].rows)


def test_a_batch_with_nothing_but_broken_records_is_left_out() -> None:
    data_loader = loader(Numbers(12, frozenset(range(4, 8))), train=False, skip_limit=0.5)
    assert [b.rows for b in data_loader] == [(0, 1, 2, 3), (8, 9, 10, 11)]


def test_real_pictures_and_sentences(real_data: Callable[[str], Path]) -> None:
    source = open_source({"use": "jsonl", "path": str(real_data("nlvr") / "val.jsonl"), "only": {"label": "true"}})
    inputs = {
        "image": parse_input({"type": "image", "size": 64, "resize": "pad"}),
        "caption": parse_input({"type": "text", "tokenizer": "words", "max_length": 40, "from": "sentence"}),
        "label": parse_input({"type": "label", "classes": ("false", "true")}),
        "id": parse_input({"type": "id", "from": "identifier"}),
    }
    words = WordPiece(WordPiece.Config(vocab_size=1000))
    prepare_tokenizers({"words": words}, inputs, {"main": source})
    data_loader = Loader(source, inputs, {"words": words}, batch=8)
    for batch in taken(iter(data_loader), 3):
        assert batch.values["image"].pixels.shape == (8, 3, 64, 64)
        assert batch.values["label"].values.tolist() == [1] * 8
        sentence = source.record(batch.rows[0])["sentence"].lower()
        decoded = words.decode(batch.values["caption"].ids[0].tolist())
        assert decoded.replace(" ", "")[:20] == sentence.replace(" ", "")[:20]
    assert not data_loader.skipped


# --- mistakes ---------------------------------------------------------------------------------------------------


def test_a_field_that_no_record_has_is_a_mistake_of_the_blueprint() -> None:
    inputs = {"words": parse_input({"type": "text", "tokenizer": "ids", "max_length": 8, "from": "captoin"})}
    with pytest.raises(UserError, match="input 'words' reads the field 'captoin', which the records do not have") as e:
        Loader(Numbers(9), inputs, {"ids": IDS}, batch=2)
    assert "did you mean 'caption'?" in e.value.problems[0].hints


def test_a_state_of_other_data_or_another_batch_is_refused() -> None:
    data_loader = loader(Numbers(50))
    taken(iter(data_loader), 3)
    with pytest.raises(UserError, match="had 50 records when this run stopped, and has 51 now"):
        loader(Numbers(51)).load_state_dict(data_loader.state_dict())
    with pytest.raises(UserError, match="stopped after 12 records of an epoch, no multiple of 5"):
        loader(Numbers(50), batch=5).load_state_dict(data_loader.state_dict())


# --- speed and memory -------------------------------------------------------------------------------------------


def test_scenes_are_batched_fast_enough() -> None:
    image = {"image": parse_input({"type": "image", "size": 64})}
    stream = iter(Loader(open_source({"use": "scenes"}), image, {}, batch=64))
    taken(stream, 2)
    began = time.process_time()
    taken(stream, 10)
    assert 640 / (time.process_time() - began) > 600, "pictures in batches a second of processor time"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
def test_batches_are_pinned_for_cuda() -> None:
    batch = next(iter(loader(Numbers(20), workers=1, pin=True)))
    assert batch.values["image"].pixels.is_pinned()
    assert batch.values["caption"].ids.is_pinned()


def test_readers_hear_no_signal_of_their_group() -> None:
    """A scheduler's SIGTERM reaches every process of the group: the one that trains still needs its readers."""
    others = set(active_children())
    batches = iter(loader(Numbers(40), workers=2))
    first = next(batches)
    readers = set(active_children()) - others
    assert len(readers) == 2
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for reader in readers:
            os.kill(reader.pid or 0, number)
    following = [first, *taken(batches, 6)]
    assert all(map(equal, following, taken(iter(loader(Numbers(40))), 7)))
    del batches
    assert not any(reader.is_alive() for reader in readers)


def test_readers_end_with_a_process_that_left_them_in_the_middle(root: Path) -> None:
    script = "from tests.data.test_loader import *\nbatches = iter(loader(Numbers(40), workers=2))\nnext(batches)\n"
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_batches_that_do_not_fit_shared_memory_go_through_pipes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Docker gives a container 64 MB; torch prints an error in a thread of the reader then, and waits for ever."""

    def full(_: torch.Tensor) -> None:
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1>: Resource temporarily unavailable (11)"
        )

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    monkeypatch.setattr(shared_memory, "_told", [])
    sent = taken(iter(loader(Numbers(40), workers=2)), 7)
    assert all(map(equal, sent, taken(iter(loader(Numbers(40))), 7)))
    (record,) = caplog.records
    for word in ("/dev/shm", "B)", "--shm-size", "--workers 0"):
        assert word in record.getMessage()


def test_another_error_while_a_batch_is_shared_is_no_matter_of_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: torch.Tensor) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(torch.Tensor, "share_memory_", broken)
    with pytest.raises(RuntimeError, match="a fault"):
        next(iter(loader(Numbers(40), workers=1)))


def test_where_no_process_can_be_started_data_is_read_in_between(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Reader, "start", full)
    read = taken(iter(loader(Numbers(40), workers=2)), 7)
    assert all(map(equal, read, taken(iter(loader(Numbers(40))), 7)))
    assert "No space left on device" in caplog.text and "--workers 0" in caplog.text
