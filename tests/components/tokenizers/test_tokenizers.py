"""What all tokenizers promise, proved on each of them; and what is peculiar to those that learn."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from compose_vlp.components.tokenizers.bpe import BytePairs
from compose_vlp.components.tokenizers.cleaning import CLEANERS
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.components.tokenizers.wordpiece import WordPiece
from compose_vlp.errors import UserError

CORPUS = [f"a {size} {colour} circle is above the star" for size in ("tiny", "big") for colour in ("red", "cyan")] * 3
WORDS = "a big cyan star is above the tiny red circle"


def make(kind: type[Tokenizer], *, trained: bool = True, **config: Any) -> Tokenizer:
    made = kind(kind.Config(**{"vocab_size": 400, **config}))
    if trained:
        made.train(CORPUS)
    return made


LEARNERS = pytest.mark.parametrize("kind", [WordPiece, BytePairs])


@LEARNERS
def test_known_words_come_back(kind: type[Tokenizer]) -> None:
    tokenizer = make(kind)
    ids = tokenizer.encode(WORDS, 64)
    assert (ids[0], ids[-1]) == (tokenizer.begin_id, tokenizer.end_id)
    assert tokenizer.decode(ids) == WORDS
    assert tokenizer.decode([*ids, tokenizer.pad_id, tokenizer.pad_id, 17]) == WORDS, "nothing after the end"


@LEARNERS
def test_a_text_too_long_is_cut_and_keeps_its_end(kind: type[Tokenizer]) -> None:
    tokenizer = make(kind)
    whole, cut = tokenizer.encode(WORDS, 64), tokenizer.encode(WORDS, 6)
    assert cut == [*whole[:5], tokenizer.end_id]
    assert len(tokenizer.encode("star " * 10_000, 64)) == 64
    assert tokenizer.encode("", 64) == [tokenizer.begin_id, tokenizer.end_id]


@LEARNERS
def test_the_beginning_of_a_long_text_gives_the_ids_of_the_whole(kind: type[Tokenizer]) -> None:
    tokenizer = make(kind)
    for text in (WORDS * 99, f"{WORDS}  \n" * 99, "x" * 5000 + f" {WORDS}" * 40, " " * 5000 + WORDS, "红圆" * 4000):
        whole = tokenizer.pieces(tokenizer.clean(text))
        for length in (4, 16, 64):
            room = length - (tokenizer.begin_id is not None) - (tokenizer.end_id is not None)
            ids = [i for i in tokenizer.encode(text, length) if i not in (tokenizer.begin_id, tokenizer.end_id)]
            assert ids == whole[:room]


@LEARNERS
def test_a_caption_of_ten_thousand_words_takes_no_longer_than_one_of_a_hundred(kind: type[Tokenizer]) -> None:
    tokenizer = make(kind)
    tokenizer.encode("warm up", 64)
    began = time.process_time()
    for _ in range(5):
        tokenizer.encode("a big cyan star " * 2500, 64)
    assert time.process_time() - began < 5 * 0.02


@LEARNERS
@given(text=st.text(max_size=60))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_has_ids_below_the_asserted_size(kind: type[Tokenizer], text: str) -> None:
    tokenizer = TRAINED[kind]
    ids = tokenizer.encode(text, 32)
    assert all(0 <= number < tokenizer.vocab_size for number in ids)
    assert len(ids) <= 32
    assert isinstance(tokenizer.decode(ids), str)


TRAINED = {kind: make(kind, tokens=("[DEC]",)) for kind in (WordPiece, BytePairs)}


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=100, deadline=None)
def test_byte_pairs_lose_nothing_of_any_script(text: str) -> None:
    tokenizer = make(BytePairs, clean="none") if not (kept := KEPT.get("bpe")) else kept
    KEPT["bpe"] = tokenizer
    assert tokenizer.decode(tokenizer.encode(text, 1000)) == text.strip()


KEPT: dict[str, Tokenizer] = {}


@LEARNERS
def test_a_learnt_vocabulary_may_be_smaller_and_extra_tokens_do_not_move(kind: type[Tokenizer]) -> None:
    few, more = make(kind, tokens=("[DEC]", "[ENC]")), make(kind, tokens=("[DEC]", "[ENC]"), trained=False)
    more.train([*CORPUS, *("square ring cross blue green orange " * 3 for _ in range(3))])
    assert len(few.vocabulary()) < len(more.vocabulary()) < 400
    for tokenizer in (few, more):
        assert tokenizer.vocab_size == 402
        assert (tokenizer.id_of("[DEC]"), tokenizer.id_of("[ENC]")) == (400, 401)
    assert few.decode([few.id_of("[DEC]"), *few.encode("big star", 9)]) == "[DEC] big star"


@LEARNERS
def test_ids_that_were_never_given_out_leave_no_trace(kind: type[Tokenizer]) -> None:
    tokenizer = make(kind)
    ids = tokenizer.encode("big star", 9)
    assert tokenizer.decode([ids[0], 399, *ids[1:]]) == "big star"


@LEARNERS
def test_special_tokens_written_in_a_text_are_words(kind: type[Tokenizer]) -> None:
    tokenizer = make(kind)
    special = set(tokenizer.special.values())
    written = " ".join(tokenizer.special)
    assert special.isdisjoint(tokenizer.encode(f"a {written} star", 64)[1:-1])


@LEARNERS
def test_what_is_stored_is_restored(kind: type[Tokenizer], tmp_path: Path) -> None:
    tokenizer = make(kind, tokens=("[DEC]",))
    tokenizer.save(tmp_path / "tokenizers" / "words")
    other = make(kind, tokens=("[DEC]",), trained=False)
    assert not other.ready
    other.restore(tmp_path / "tokenizers" / "words")
    assert other.ready
    assert other.encode(WORDS, 64) == tokenizer.encode(WORDS, 64)
    assert dict(other.special) == dict(tokenizer.special)
    assert pickle.loads(pickle.dumps(tokenizer)).encode(WORDS, 64) == tokenizer.encode(WORDS, 64)


@LEARNERS
def test_the_same_texts_give_the_same_vocabulary_in_every_process(kind: type[Tokenizer]) -> None:
    code = (
        f"from {kind.__module__} import {kind.__name__} as T\n"
        "from compose_vlp.data import open_source\n"
        "from compose_vlp.data.corpus import texts_of\n"
        "import sys\n"
        "t = T(T.Config(vocab_size=420))\n"
        "t.train(texts_of(open_source({'use': 'scenes', 'count': 400, 'noise': 0.5}), ['caption']))\n"
        "assert 'torch' not in sys.modules\n"
        "print(sorted(t.vocabulary().items(), key=lambda one: one[1]))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert "purple" in runs[0]


@LEARNERS
def test_before_it_is_trained_it_knows_its_size_and_says_that_it_has_no_words(kind: type[Tokenizer]) -> None:
    tokenizer = make(kind, tokens=("[DEC]",), trained=False)
    assert tokenizer.vocab_size == 401
    assert kind.describe(tokenizer.config)["vocab_size"] == 401  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="no vocabulary yet"):
        tokenizer.encode("a", 4)


@LEARNERS
def test_begin_and_end_can_be_none_or_extra_tokens(kind: type[Tokenizer]) -> None:
    bare = make(kind, begin=None, end=None)
    assert bare.begin_id is None
    assert bare.end_id is None
    assert bare.decode(bare.encode("big star", 9)) == "big star"
    assert len(bare.encode("big star", 9)) == len(make(kind).encode("big star", 9)) - 2
    own = make(kind, begin="[GO]", tokens=("[GO]",))
    assert own.encode("star", 9)[0] == 400
    assert "[GO]" not in own.vocabulary()


@LEARNERS
def test_a_token_that_is_not_there_is_told_with_near_names(kind: type[Tokenizer]) -> None:
    with pytest.raises(UserError, match=r"no token '\[DECC\]'") as caught:
        make(kind, tokens=("[DEC]",)).id_of("[DECC]")
    assert caught.value.problems[0].hints == ("did you mean '[DEC]'?", "`tokens: ['[DECC]']` adds it")


@LEARNERS
def test_an_extra_token_that_is_there_already_is_told(kind: type[Tokenizer]) -> None:
    tokenizer = make(kind, tokens=("a",) if kind is WordPiece else ("Ġa",))
    with pytest.raises(UserError, match=r"has .*a' already"):
        tokenizer.encode("star", 9)


@LEARNERS
def test_neither_file_nor_size_is_a_mistake(kind: type[Tokenizer]) -> None:
    with pytest.raises(ValidationError, match="one of file and vocab_size is needed"):
        kind.Config()


# --- files ------------------------------------------------------------------------------------------------------


@LEARNERS
def test_a_file_asserts_its_size_and_may_do_without(kind: type[Tokenizer], tmp_path: Path) -> None:
    made = make(kind)
    made.save(tmp_path)
    file, size = str(tmp_path / "tokenizer.json"), len(made.vocabulary())
    free = kind(kind.Config(file=file, tokens=("[DEC]",)))
    assert free.vocab_size == size + 1
    assert free.id_of("[DEC]") == size
    assert kind(kind.Config(file=file)).encode(WORDS, 64) == made.encode(WORDS, 64)
    with pytest.raises(UserError, match=f"has {size} ids, and `vocab_size` says 399"):
        kind(kind.Config(file=file, vocab_size=399)).encode("a", 4)


def broken_files(folder: Path) -> dict[str, str]:
    (folder / "broken.json").write_text("{")
    (folder / "other.json").write_text(json.dumps({"name": "x"}))
    (folder / "binary.json").write_bytes(b"\xff\xfe\xff")
    return {"none.json": "no vocabulary file", "broken.json": "no tokenizer.json", "other.json": "no tokenizer.json",
            "binary.json": "no text in UTF-8"}  # fmt: skip


@LEARNERS
def test_a_broken_or_missing_file_is_told(kind: type[Tokenizer], tmp_path: Path) -> None:
    for name, says in broken_files(tmp_path).items():
        with pytest.raises(UserError, match=says):
            kind(kind.Config(file=str(tmp_path / name))).encode("a", 4)


def test_a_restored_vocabulary_larger_than_asserted_is_refused(tmp_path: Path) -> None:
    make(WordPiece).save(tmp_path)
    with pytest.raises(UserError, match="`vocab_size` says 16"):
        make(WordPiece, vocab_size=16, trained=False).restore(tmp_path)


def test_berts_vocabulary_gives_berts_ids(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    learnt = make(WordPiece, vocab_size=200)
    tokens = sorted(learnt.vocabulary(), key=lambda token: learnt.vocabulary()[token])
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    reference = transformers.BertTokenizer(vocab=str(file), do_lower_case=True)
    ours = WordPiece(WordPiece.Config(file=str(file)))
    assert ours.vocab_size == len(tokens)
    for text in ["A Big RED star!", "Tiny  cyan\tcircles, é l'été 漢字", "star-star 12 unknownword", "", "ﬁ İ ß"]:
        assert ours.encode(text, 64) == reference(text)["input_ids"]


def test_a_file_without_berts_tokens_is_told(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"has no line '\[UNK\]'"):
        WordPiece(WordPiece.Config(file=str(tmp_path / "vocab.txt"))).encode("a", 4)
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\n[PADD]\n[MASK]\n")
    with pytest.raises(UserError, match=r"no token '\[PAD\]', which is the `pad` token") as caught:
        WordPiece(WordPiece.Config(file=str(tmp_path / "vocab.txt"))).encode("a", 4)
    assert "'[PADD]'" in caught.value.problems[0].hints[0]


# --- cleaning ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("none", "  Two\n Words ", "  Two\n Words "),
        ("lower", "  Two\n WÖRDS ", "two wörds"),
        ("clip", " A &amp;amp; B\u00a0schÃ¶n", "a & b schön"),
    ],
)
def test_cleaning_by_name(name: Any, text: str, expected: str) -> None:
    clean: Callable[[str], str] = CLEANERS[name]
    assert clean(text) == expected


def test_an_unknown_cleaning_is_refused() -> None:
    with pytest.raises(ValidationError, match="'none', 'lower' or 'clip'"):
        WordPiece.Config(vocab_size=100, clean="upper")  # type: ignore[arg-type]
