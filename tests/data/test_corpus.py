"""Tokenizers trained on a source's texts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from compose_vlp.blueprint.inputs import parse_input
from compose_vlp.components.tokenizers.bpe import BytePairs
from compose_vlp.components.tokenizers.clip_bpe import ClipBytePairs
from compose_vlp.components.tokenizers.sentencepiece import SentencePiece
from compose_vlp.components.tokenizers.wordpiece import WordPiece
from compose_vlp.data import BadRecord, Source, open_source
from compose_vlp.data.corpus import prepare_tokenizers, texts_of
from compose_vlp.errors import UserError


class Words(Source):
    """Records with texts of every form; number 2 is broken."""

    def __init__(self) -> None:
        super().__init__(None)

    def __len__(self) -> int:
        return 5

    def record(self, index: int) -> dict[str, Any]:
        def never() -> None:
            raise AssertionError("no picture is read for its words")

        if index == 2:
            raise BadRecord("broken")
        return {"image": never, "one": f"one {index}", "many": [f"m{index}", 7], "weighted": lambda: {f"w{index}": 0.5}}


def text(tokenizer: str, **settings: Any) -> Any:
    return parse_input({"type": "text", "tokenizer": tokenizer, "max_length": 16, **settings})


def test_texts_of_every_form_in_order_without_broken_records() -> None:
    assert list(texts_of(Words(), ["one", "many", "weighted", "absent"]))[:6] == [
        "one 0",
        "m0",
        "w0",
        "one 1",
        "m1",
        "w1",
    ]
    assert list(texts_of(Words(), ["one"])) == ["one 0", "one 1", "one 3", "one 4"]


def test_at_most_so_many_records_spread_over_the_source() -> None:
    source = open_source({"use": "scenes", "count": 1000})
    spread = list(texts_of(source, ["caption"], most=10))
    assert spread == [source.record(i)["caption"] for i in range(0, 1000, 100)]


def test_each_learns_from_the_inputs_that_use_it(tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text("zebra\nzebra crossing\n")
    tokenizers = {"a": WordPiece(WordPiece.Config(vocab_size=100)), "b": WordPiece(WordPiece.Config(vocab_size=100))}
    tokenizers["done"] = WordPiece(WordPiece.Config(vocab_size=100))
    tokenizers["done"].train(["x"])
    inputs = {
        "one": text("a", source="texts"),
        "w": text("b", **{"from": "weighted"}),
        "classes": text("b", table=str(tmp_path / "table.txt")),
        "image": parse_input({"type": "image", "size": 8}),
    }
    trained = prepare_tokenizers(tokenizers, inputs, {"main": Words(), "texts": Words()})
    assert trained == ("a", "b")
    assert "one" in tokenizers["a"].vocabulary()
    assert "zebra" not in tokenizers["a"].vocabulary()
    assert "zebra" in tokenizers["b"].vocabulary()


def test_scenes_are_learnt_in_seconds() -> None:
    tokenizers = {"w": WordPiece(WordPiece.Config(vocab_size=512)), "b": BytePairs(BytePairs.Config(vocab_size=512))}
    began = time.process_time()
    source = open_source({"use": "scenes", "count": 10_000})
    prepare_tokenizers(tokenizers, {"x": text("w", **{"from": "caption"}), "caption": text("b")}, {"main": source})
    assert time.process_time() - began < 15
    words = source.record(3)["caption"]
    for tokenizer in tokenizers.values():
        ids = tokenizer.encode(words, 64)
        assert tokenizer.decode(ids) == words
        assert len(ids) <= len(words.split()) + 3, "frequent words are one token each"


def test_a_tokenizer_without_texts_is_told() -> None:
    untrained = {"w": WordPiece(WordPiece.Config(vocab_size=100))}
    with pytest.raises(UserError, match="'w' has no file, and no input with text"):
        prepare_tokenizers(untrained, {}, {"main": Words()})
    with pytest.raises(UserError, match="source 'texts' is not among those given: main"):
        prepare_tokenizers(untrained, {"one": text("w", source="texts")}, {"main": Words()})
    with pytest.raises(UserError, match="names the tokenizer 'v', which is not there"):
        prepare_tokenizers(
            {"w": ClipBytePairs(ClipBytePairs.Config(vocab_size=300))}, {"one": text("v")}, {"main": Words()}
        )


def test_a_token_that_was_not_learnt_is_missed_at_once_and_not_where_words_are_first_hidden() -> None:
    pytest.importorskip("sentencepiece")
    words = SentencePiece(SentencePiece.Config(vocab_size=64, mask="[MASK]"))
    inputs, sources = {"caption": text("words")}, {"main": open_source({"use": "scenes", "count": 200})}
    with pytest.raises(UserError, match=r"no token '\[MASK\]', which is the `mask` token"):
        prepare_tokenizers({"words": words}, inputs, sources)


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        (lambda: 7, "record 0: caption is 7, not text"),
        (lambda: b"\xe9", "record 0: caption is b'"),
        (None, "record 0 has no `caption`: it has image"),
    ],
)
def test_where_no_record_has_a_text_the_first_one_says_why(caption: Any, reason: str) -> None:
    class Textless(Words):
        def record(self, index: int) -> dict[str, Any]:
            return {"image": None, **({"caption": caption} if caption else {})}

    with pytest.raises(UserError, match="none has a text: ") as caught:
        prepare_tokenizers(
            {"bpe": BytePairs(BytePairs.Config(vocab_size=300))}, {"caption": text("bpe")}, {"main": Textless()}
        )
    assert reason in str(caught.value)


def test_broken_records_say_why_nothing_can_be_learnt() -> None:
    class Broken(Words):
        def record(self, index: int) -> dict[str, Any]:
            raise BadRecord("no text in UTF-8")

    with pytest.raises(UserError, match="record 0: no text in UTF-8"):
        prepare_tokenizers(
            {"bpe": BytePairs(BytePairs.Config(vocab_size=300))}, {"caption": text("bpe")}, {"main": Broken()}
        )
