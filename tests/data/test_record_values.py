"""One boundary around a record's values: each is taken, or the record is skipped with a reason that can be printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compose_vlp.blueprint.inputs import Input, parse_input
from compose_vlp.components.tokenizers.ids import Ids
from compose_vlp.components.tokenizers.wordpiece import WordPiece
from compose_vlp.data import BadRecord, open_source
from compose_vlp.data.collate import Collator
from compose_vlp.data.corpus import prepare_tokenizers, texts_of
from compose_vlp.data.loader import Loader
from compose_vlp.data.source import clipped, shown
from compose_vlp.data.survey import survey
from compose_vlp.data.wording import MOST_LETTERS
from tests.records import Given

TEXT = {"type": "text", "tokenizer": "words", "max_length": 8}
HUGE = 10**5000


def words() -> WordPiece:
    tokenizer = WordPiece(WordPiece.Config(vocab_size=200))
    tokenizer.train(["a picture of a cat and a dog"] * 3)
    return tokenizer


def read(value: Any, **settings: Any) -> Any:
    collator = Collator({"field": parse_input(settings)}, {"words": words()})
    return collator.stack([collator.read({"field": value})])["field"]


HALVES: list[Any] = [
    "half an emoji \ud83d",
    "\ude00 the other half",
    "in \ud83d between",
    "turned round \ude00\ud83d",
    ["\ud83d", "whole"],
]


@pytest.mark.parametrize("value", HALVES, ids=range(len(HALVES)))
def test_half_a_surrogate_pair_breaks_the_record(value: Any) -> None:
    with pytest.raises(BadRecord, match="field has half of a surrogate pair at letter") as caught:
        read(value, **TEXT)
    assert str(caught.value).isprintable()
    with pytest.raises(BadRecord, match="half of a surrogate pair"):
        read({"a cat": 1, "\ud83d": 1}, **TEXT, many=True)


STRANGE = ["\U0001f600 a cat", json.loads('"\\ud83d\\ude00"'), "nul\x00 and \x07 bell", "\u202ecat"]


@pytest.mark.parametrize("value", STRANGE)
def test_strange_letters_that_are_whole_are_taken(value: str) -> None:
    assert read(value, **TEXT).ids.shape[0] == 1


def test_a_text_that_is_too_long_to_be_one_breaks_the_record() -> None:
    assert read("a" * MOST_LETTERS, **TEXT).ids.shape == (1, 3)
    with pytest.raises(BadRecord, match="field has 1,000,001 letters"):
        read("a" * (MOST_LETTERS + 1), **TEXT)


NO_NUMBERS = [
    float("nan"),
    float("inf"),
    -float("inf"),
    1e39,
    10**400,
    HUGE,
    np.float64("nan"),
    True,
    "three",
    None,
    [1.0],
]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=range(len(NO_NUMBERS)))
def test_numbers_that_no_tensor_holds_break_the_record(value: Any) -> None:
    with pytest.raises(BadRecord, match=r"not a (finite )?number") as caught:
        read(value, type="number")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [3, -2.5, np.float32(1.5), np.int64(7), 3e38, "3", " -2.5"])
def test_numbers_are_numbers(value: Any) -> None:
    assert read(value, type="number").values.tolist() == [pytest.approx(float(value))]


NO_IDS = [2**63, -(2**63) - 1, HUGE, np.uint64(2**63), 1.0, True, None, b"a", [1], {"a": 1}, "\ud83d"]


@pytest.mark.parametrize("value", NO_IDS, ids=range(len(NO_IDS)))
def test_ids_that_no_tensor_holds_break_the_record(value: Any) -> None:
    with pytest.raises(BadRecord, match=r"not an id|64 bits|surrogate pair"):
        read(value, type="id")


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), np.uint64(7), "any text", ""])
def test_ids_are_whole_numbers_or_texts(value: Any) -> None:
    assert read(value, type="id").values.shape == (1,)


NO_LABELS = [2**63, HUGE, -1, 1.0, None, [0], float("nan"), "\ud83d"]


@pytest.mark.parametrize("value", NO_LABELS, ids=range(len(NO_LABELS)))
@pytest.mark.parametrize("classes", [None, ("no", "yes")])
def test_labels_that_are_none_break_the_record(value: Any, classes: Any) -> None:
    with pytest.raises(BadRecord, match=r"field is .*, not (a number|one of no, yes)"):
        read(value, type="label", classes=classes)


LARGE = [b"\xff" * 10**6, "x" * 10**6, HUGE, [[[[[1] * 99] * 99]]], {"a": [HUGE] * 3}, object()]


@pytest.mark.parametrize("value", LARGE, ids=range(len(LARGE)))
def test_values_are_shown_short(value: Any) -> None:
    assert len(shown(value)) < 200
    assert shown(value).isprintable()


def test_reasons_are_one_short_line_that_any_terminal_takes() -> None:
    reason = str(BadRecord("no field 'a'; there are " + ", ".join(["\ud83d", "\x1b[2J", "a\nb", "\x00"] * 500)))
    assert len(reason) < 2500  # escapes are longer than what they stand for
    assert reason.isprintable()
    assert reason.encode("utf-8")
    assert clipped("\ud83d\x1b\n") == "\\ud83d\\x1b "


# --- the same record is broken to everything that reads it --------------------------------------------------------

INPUTS: dict[str, Input] = {"caption": parse_input(TEXT), "key": parse_input({"type": "id"})}
RECORDS: list[dict[str, Any]] = [
    {"caption": "a cat", "key": 1},
    {"caption": "half \ud83d", "key": 2},
    {"caption": "a dog", "key": 2**63},
    {"caption": "a dog", "key": 3, "unread": "half \ud83d"},
    {"caption": 5, "key": 4},
    {"caption": "", "key": 5},
    {"caption": "a cat"},
    {"caption": "a dog", "key": "six"},
]
BROKEN = {1, 2, 4, 5, 6}


def test_a_survey_for_a_blueprint_and_the_loader_agree_on_what_is_broken() -> None:
    tokenizers, source = {"words": words()}, Given(RECORDS)
    looked = survey(source, range(len(RECORDS)), collator=Collator(INPUTS, tokenizers))
    loader = Loader(source, INPUTS, tokenizers, batch=2, train=False, skip_limit=1.0)
    read = [row for batch in loader for row in batch.rows]
    assert set(looked.broken) == set(loader.skipped) == BROKEN
    assert looked.broken == loader.skipped
    assert read == [0, 3, 7]


def test_a_survey_without_a_blueprint_holds_every_text_and_picture_to_be_read() -> None:
    looked = survey(Given([*RECORDS, {"image": b"\xff\xd8\xff broken"}]), range(len(RECORDS) + 1))
    assert set(looked.broken) == {1, 3, 8}
    assert "half of a surrogate pair" in looked.broken[1]


def test_a_broken_picture_that_nothing_reads_breaks_nothing() -> None:
    records = [{**record, "image": b"\xff\xd8\xff broken"} for record in RECORDS]
    looked = survey(Given(records), range(len(records)), collator=Collator(INPUTS, {"words": words()}))
    assert set(looked.broken) == BROKEN


def test_a_vocabulary_is_learnt_from_the_texts_that_can_be_read() -> None:
    tokenizer = WordPiece(WordPiece.Config(vocab_size=200))
    prepare_tokenizers({"words": tokenizer}, INPUTS, {"main": Given(RECORDS)})
    assert list(texts_of(Given(RECORDS), ["caption"])) == ["a cat", "a dog", "a dog", "", "a cat", "a dog"]
    assert tokenizer.pieces("cat")


def test_a_file_of_json_lines_with_every_kind_of_value_is_read_to_its_end(tmp_path: Path) -> None:
    values = [
        '"half \\ud83d"',
        "NaN",
        "1e999",
        "123456789012345678901",
        "true",
        "null",
        "[[[]]]",
        '{"a": 1}',
        '"a cat"',
    ]
    lines = [f'{{"caption": {value}, "key": {value}}}' for value in values]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, '{"caption": "a dog", "key": 7}']))
    source = open_source({"use": "jsonl", "path": str(tmp_path / "a.jsonl"), "pictures": []})
    loader = Loader(source, INPUTS, {"words": words()}, batch=4, train=False, skip_limit=1.0)
    assert [batch.rows for batch in loader] == [(8, 9)]
    assert len(loader.skipped) == 8


# --- mistakes in code stay loud -----------------------------------------------------------------------------------


class Faulty(Ids):
    """A tokenizer with a mistake in it."""

    def pieces(self, text: str) -> list[int]:
        raise TypeError("a mistake in a tokenizer")


class FaultyRecords(Given):
    """A source with a mistake in it."""

    def record(self, index: int) -> Mapping[str, Any]:
        raise RuntimeError(f"a mistake in a source, at {index}")


def _fail() -> Any:
    raise AttributeError("a mistake in a picture's function")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["tokenizer", "source", "value"])
def test_a_mistake_in_code_is_no_broken_record(kind: str, workers: int) -> None:
    good: list[Mapping[str, Any]] = [{"caption": "5", "key": 1}] * 4
    tokenizer = (Faulty if kind == "tokenizer" else Ids)(Ids.Config(vocab_size=99))
    source = {"source": FaultyRecords(good), "value": Given([{"caption": _fail, "key": 1}] * 4)}.get(kind, Given(good))
    error = {"tokenizer": TypeError, "source": RuntimeError, "value": AttributeError}[kind]
    with pytest.raises(error, match="a mistake in a") as caught:  # noqa: PT012 - a source is asked for fields at once
        loader = Loader(source, INPUTS, {"words": tokenizer}, batch=2, train=False, workers=workers, skip_limit=1.0)
        list(loader)
    if workers == 0 or kind == "source":
        assert str(caught.traceback[-1].path) == __file__, "the traceback ends in the code that is at fault"
    else:
        assert Path(__file__).name in str(caught.value)
