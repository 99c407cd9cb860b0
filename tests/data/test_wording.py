"""Papers' rules for captions and questions, and what the model then reads."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from compose_vlp.blueprint.inputs import TextInput, parse_input
from compose_vlp.components.tokenizers.ids import Ids
from compose_vlp.data import BadRecord
from compose_vlp.data.fields import make_field
from compose_vlp.data.wording import CLEANERS, prepared

SAID = '  A man\'s <person>, at 3:30 --  is he "well-known"?  (yes/no)\n'


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("albef_caption", "a mans person at 330 is he well known yes no"),
        ("albef_question", "  a mans person at 330     is he well known  yes no"),
        ("blip_caption", "a man's <person>, at 3 30 -- is he well-known ? yes/no"),
        ("blip_question", "  a man's <person>, at 330 --  is he well-known?  yes/no"),
    ],
)
def test_each_rule_keeps_and_drops_what_its_paper_does(rule: str, expected: str) -> None:
    assert CLEANERS[rule](SAID) == expected


def test_every_rule_has_its_name_in_the_inputs() -> None:
    for rule in CLEANERS:
        assert parse_input({"type": "text", "tokenizer": "t", "max_length": 9, "clean": rule}).clean == rule
    with pytest.raises(ValidationError, match="albef_caption"):
        parse_input({"type": "text", "tokenizer": "t", "max_length": 9, "clean": "albef"})


def test_words_are_counted_after_cleaning() -> None:
    text_input = TextInput(tokenizer="t", max_length=9, clean="albef_caption", words=3)
    assert prepared("A - well-known -- cat is here", text_input) == "a well known"
    assert prepared("A - well", TextInput(tokenizer="t", max_length=9, words=2)) == "A -"
    assert prepared(" As it is! ", TextInput(tokenizer="t", max_length=9)) == " As it is! "


def test_the_model_reads_the_cleaned_text_and_one_of_which_nothing_is_left_is_skipped() -> None:
    ids = Ids(Ids.Config(vocab_size=100))
    field = make_field(
        "caption", TextInput(tokenizer="ids", max_length=9, clean="albef_caption", words=2), {"ids": ids}
    )
    assert field.read("1. 2! 3", None) == ids.encode("1 2", 9)
    with pytest.raises(BadRecord, match="caption is empty"):
        field.read("?!", None)


def test_answers_of_several_annotators_weigh_their_share() -> None:
    ids = Ids(Ids.Config(vocab_size=100))
    field = make_field("answers", TextInput(tokenizer="ids", max_length=4, many=True), {"ids": ids})
    read = field.read(["1"] * 6 + ["2"] * 3 + ["3"], None)
    assert [(words, round(weight, 6)) for words, weight in read] == [
        (ids.encode("1", 4), 0.6),
        (ids.encode("2", 4), 0.3),
        (ids.encode("3", 4), 0.1),
    ]
