"""Texts that are ids already."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from compose_vlp.components.tokenizers.ids import Ids
from compose_vlp.errors import UserError


def test_numbers_are_ids_and_back() -> None:
    ids = Ids(Ids.Config(vocab_size=120, begin="118", end="119"))
    assert ids.encode("5 17 3", 10) == [118, 5, 17, 3, 119]
    assert ids.encode("5 17 3", 4) == [118, 5, 17, 119]
    assert ids.decode([118, 5, 17, 119, 0]) == "5 17"
    assert (ids.begin_id, ids.end_id, ids.pad_id, ids.mask_id) == (118, 119, 0, None)


def test_extra_tokens_come_after_the_numbers() -> None:
    config = Ids.Config(vocab_size=10, tokens=("[DEC]",))
    assert Ids(config).id_of("[DEC]") == 10
    assert Ids.describe(config)["vocab_size"] == Ids(config).vocab_size == 11


@pytest.mark.parametrize("text", ["120", "-1", "five", "1.5"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no id from 0 to 119"):
        Ids(Ids.Config(vocab_size=120)).encode(text, 5)


def test_a_begin_token_beyond_the_vocabulary_is_refused() -> None:
    with pytest.raises(ValidationError, match="begin: '120' is no number from 0 to 119"):
        Ids.Config(vocab_size=120, begin="120")


def test_there_is_nothing_to_learn_or_to_store(tmp_path: Path) -> None:
    ids = Ids(Ids.Config(vocab_size=3))
    assert ids.ready
    ids.save(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="learn one from the corpus"):
        ids.train(["1 2"])
