"""Tokenizers of the transformers library, from folders that the tests make."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from compose_vlp.components.tokenizers.transformers_tokenizer import TransformersTokenizer
from compose_vlp.components.tokenizers.wordpiece import WordPiece
from compose_vlp.errors import UserError

transformers = pytest.importorskip("transformers")
CORPUS = ["a big red star above the tiny circle"] * 3


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    learnt = WordPiece(WordPiece.Config(vocab_size=200))
    learnt.train(CORPUS)
    folder = tmp_path_factory.mktemp("bert")
    transformers.BertTokenizer(vocab=dict(learnt.vocabulary())).save_pretrained(folder)
    return folder


def opened(folder: Path, **config: Any) -> TransformersTokenizer:
    return TransformersTokenizer(TransformersTokenizer.Config(name=str(folder), **config))


def test_the_ids_are_the_librarys_with_its_own_special_tokens(bert: Path) -> None:
    reference, ours = transformers.AutoTokenizer.from_pretrained(bert), opened(bert)
    for text in ["A big RED star", "the tiny circles, unknown!", ""]:
        assert ours.encode(text, 64) == reference(text)["input_ids"]
    assert ours.decode(ours.encode("A big RED star", 64)) == "a big red star"
    assert ours.vocab_size == len(reference)
    assert (ours.begin_id, ours.end_id, ours.pad_id, ours.mask_id) == (
        reference.cls_token_id,
        reference.sep_token_id,
        reference.pad_token_id,
        reference.mask_token_id,
    )


def test_extra_tokens_follow_and_roles_can_be_named(bert: Path) -> None:
    tokenizer = opened(bert, tokens=("[DEC]",), begin="[DEC]", end="[MASK]")
    size = opened(bert).vocab_size
    assert tokenizer.vocab_size == size + 1
    assert tokenizer.encode("star", 9)[0] == tokenizer.id_of("[DEC]") == size
    assert tokenizer.encode("star", 9)[-1] == opened(bert).mask_id
    assert TransformersTokenizer.describe(tokenizer.config) == {"vocab_size": size + 1}


def test_long_texts_are_cut(bert: Path) -> None:
    ids = opened(bert).encode("star " * 9000, 12)
    assert len(ids) == 12
    assert ids[-1] == opened(bert).end_id


def test_what_is_stored_is_restored(bert: Path, tmp_path: Path) -> None:
    opened(bert).save(tmp_path / "words")
    moved = opened(tmp_path / "gone")
    moved.restore(tmp_path / "words")
    assert moved.encode("a big star", 9) == opened(bert).encode("a big star", 9)
    assert moved.pad_id == opened(bert).pad_id


def test_a_name_that_is_nothing_and_a_wrong_size_are_told(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer"):
        opened(tmp_path / "nothing").encode("a", 4)
    with pytest.raises(UserError, match="`vocab_size` says 7"):
        opened(bert, vocab_size=7).encode("a", 4)
    with pytest.raises(UserError, match="learn one from the corpus"):
        opened(bert).train(CORPUS)


def test_without_a_pad_token_one_has_to_be_named(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    backend = Backend(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(tmp_path)
    tokenizer = opened(tmp_path)
    assert tokenizer.encode("a b", 9) == [0, 1]
    with pytest.raises(UserError, match="no pad token"):
        _ = tokenizer.pad_id
    assert opened(tmp_path, pad="?").pad_id == 2


def test_a_folder_s_own_code_is_not_run_whatever_is_answered(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in bert.iterdir():
        shutil.copy(file, tmp_path)
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    mine = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**written, **mine}))
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda question="": asked.append(question) or "y")
    with suppress(UserError):  # refused, or read as one of the library's own
        assert opened(tmp_path).vocab_size
    assert not asked
    assert not (tmp_path / "ran").exists()
