"""Vocabularies whose ids leave some out, or whose file has a token twice: an embedding has a row for every id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compose_vlp.components.tokenizers.bpe import BytePairs
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.components.tokenizers.transformers_tokenizer import TransformersTokenizer
from compose_vlp.components.tokenizers.wordpiece import WordPiece
from compose_vlp.errors import UserError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (*SPECIAL, "a", "cat", "##s", "dog")


def words_file(folder: Path, *tokens: str, mark: bytes = b"", end: str = "\n") -> str:
    """A vocab.txt of these tokens."""
    (folder / "vocab.txt").write_bytes(mark + "".join(f"{token}{end}" for token in tokens).encode())
    return str(folder / "vocab.txt")


def json_file(folder: Path, vocabulary: dict[str, int]) -> str:
    """A tokenizer.json of whole words."""
    content = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return str(folder / "tokenizer.json")


def every_id_has_a_row(tokenizer: Tokenizer) -> None:
    every = range(tokenizer.vocab_size)
    assert set(tokenizer.encode("a cat cats dog xyz", 64)) <= set(every)
    assert set(tokenizer.special.values()) <= set(every)
    tokenizer.decode(every)  # ids without a token leave no trace


@pytest.mark.parametrize("twice", ["a", "cat", "[MASK]"])
def test_a_line_of_a_vocabulary_is_an_id_though_its_token_stands_there_twice(tmp_path: Path, twice: str) -> None:
    tokenizer = WordPiece(WordPiece.Config(file=words_file(tmp_path, *WORDS, twice)))
    assert tokenizer.vocab_size == 10
    assert tokenizer.id_of(twice) == 9, "the last of its lines, as in BERT's code"
    every_id_has_a_row(tokenizer)
    asserted = WordPiece.Config(file=words_file(tmp_path, *WORDS, *WORDS, twice), vocab_size=19)
    assert WordPiece(asserted).encode("a cat", 9)[0] == 11
    with pytest.raises(UserError, match="has 19 ids, and `vocab_size` says 18"):
        WordPiece(WordPiece.Config(file=asserted.file, vocab_size=18)).encode("a", 9)


def test_what_was_stored_keeps_the_ids(tmp_path: Path) -> None:
    first = WordPiece(WordPiece.Config(file=words_file(tmp_path, *WORDS, "cat"), tokens=("[DEC]",)))
    first.save(tmp_path / "run")
    again = WordPiece(WordPiece.Config(file="gone", tokens=("[DEC]",)))
    again.restore(tmp_path / "run")
    assert again.vocab_size == first.vocab_size == 11
    assert again.encode("a cats", 9) == first.encode("a cats", 9)


def test_a_vocabulary_may_begin_with_a_byte_order_mark_and_have_any_line_ends(tmp_path: Path) -> None:
    plain = WordPiece(WordPiece.Config(file=words_file(tmp_path, *WORDS)))
    expected = plain.encode("a cats", 9)
    marked = WordPiece(WordPiece.Config(file=words_file(tmp_path, *WORDS, mark=b"\xef\xbb\xbf", end="\r\n")))
    assert (marked.encode("a cats", 9), marked.vocab_size) == (expected, 9)
    (tmp_path / "wide.txt").write_text("\n".join(WORDS), encoding="utf-16")
    wide = WordPiece(WordPiece.Config(file=str(tmp_path / "wide.txt")))
    assert (wide.encode("a cats", 9), wide.vocab_size) == (expected, 9)


def test_a_token_may_be_a_character_that_python_takes_for_a_line_end(tmp_path: Path) -> None:
    tokenizer = WordPiece(WordPiece.Config(file=words_file(tmp_path, *SPECIAL, "\u2028", "\x85", "cat")))
    assert (tokenizer.vocab_size, tokenizer.id_of("cat")) == (8, 7)


def test_ids_may_be_left_out(tmp_path: Path) -> None:
    vocabulary = {token: 10 * number for number, token in enumerate(WORDS)}
    file = json_file(tmp_path, vocabulary)
    names = {"begin": "[CLS]", "end": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
    for tokenizer in (WordPiece(WordPiece.Config(file=file)), BytePairs(BytePairs.Config(file=file, **names))):
        assert tokenizer.vocab_size == 81
        every_id_has_a_row(tokenizer)
    library = TransformersTokenizer(TransformersTokenizer.Config(name=_folder(tmp_path), vocab_size=81, tokens=("x",)))
    assert library.vocab_size == 82
    every_id_has_a_row(library)
    library.save(tmp_path / "run")
    again = TransformersTokenizer(TransformersTokenizer.Config(name="gone"))
    again.restore(tmp_path / "run")
    assert again.vocab_size == 81
    with pytest.raises(UserError, match="has 81 ids, and `vocab_size` says 9"):
        TransformersTokenizer(TransformersTokenizer.Config(name=_folder(tmp_path), vocab_size=9)).encode("a", 9)


def test_an_id_beyond_the_table_is_an_error_and_no_crash_of_the_model(tmp_path: Path) -> None:
    class Wrong(WordPiece):
        def pieces(self, text: str) -> list[int]:
            return [self.base_size]

    with pytest.raises(UserError, match="gives the id 9, and its vocabulary ends at 8"):
        Wrong(WordPiece.Config(file=words_file(tmp_path, *WORDS))).encode("a", 9)


def _folder(folder: Path) -> str:
    """The files that the transformers library wants beside a tokenizer.json."""
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "[MASK]", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return str(folder)
