"""CLIP's tokenizer: the ids of open_clip's, from the file that open_clip carries."""

from __future__ import annotations

import gzip
import html
import importlib.util
import unicodedata
from pathlib import Path

import ftfy
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from compose_vlp.components.tokenizers.clip_bpe import VOCABULARY, ClipBytePairs
from compose_vlp.errors import UserError

open_clip = pytest.importorskip("open_clip")
FILE = Path(open_clip.__file__).parent / VOCABULARY
THEIRS = open_clip.SimpleTokenizer()
OURS = ClipBytePairs(ClipBytePairs.Config(file=str(FILE)))

TEXTS = [
    "a photo of a cat!",
    "Héllo WORLD's 123 don't &amp;amp; ✓ 漢字 \u00a0 x",
    "naïve 😀 it's ' we've I'LL",
    "İstanbul ǅ ﬁ ½ ²³ ß ẞ",
    "12345 a_b__c -- \t\n x",
    "mañana&lt;br&gt; Ã©",
    "مرحبا بالعالم שלום สวัสดี नमस्ते 👨‍👩‍👧",
    "",
    "a\u0345b it'\u017f \u212a",
    "supercalifragilisticexpialidocious" * 4,
]


def open_clip_ids(text: str, length: int = 77) -> list[int]:
    ids: list[int] = THEIRS([text], length)[0].tolist()
    end = ids.index(THEIRS.eot_token_id)
    return ids[: end + 1]


@pytest.mark.parametrize("text", TEXTS)
def test_the_ids_are_open_clips(text: str) -> None:
    assert OURS.encode(text, 77) == open_clip_ids(text)


@given(st.text(alphabet=st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs", "Cn", "Co"]), max_size=50))
@settings(max_examples=300, deadline=None)
def test_the_ids_are_open_clips_for_any_text(text: str) -> None:
    # What ftfy takes for a text decoded wrongly may become characters that no version of Unicode has.
    cleaned = ftfy.fix_text(text)
    assume(all(unicodedata.category(character) != "Cn" for character in cleaned))
    # open_clip takes its special tokens for themselves where a text has them; here they are words.
    assume(
        not any(
            token in html.unescape(html.unescape(cleaned)).lower() for token in ("<start_of_text>", "<end_of_text>")
        )
    )
    assert OURS.encode(text, 77) == open_clip_ids(text)


def test_texts_are_cut_as_open_clip_cuts_them() -> None:
    text = "word " * 200
    assert OURS.encode(text, 76) == open_clip_ids(text, 76)
    assert len(OURS.encode(text, 76)) == 76


def test_sizes_and_special_tokens() -> None:
    assert OURS.vocab_size == THEIRS.vocab_size == 49408
    assert (OURS.begin_id, OURS.end_id, OURS.pad_id, OURS.mask_id) == (49406, 49407, 0, None)
    more = ClipBytePairs(ClipBytePairs.Config(file=str(FILE), tokens=("[DEC]",)))
    assert more.vocab_size == 49409
    assert more.id_of("[DEC]") == 49408


def test_ids_become_text_again() -> None:
    assert OURS.decode(OURS.encode("A photo of two naïve 😀 cats.", 77)) == "a photo of two naïve 😀 cats ."
    assert OURS.decode([]) == ""


def test_words_that_look_like_special_tokens_are_words() -> None:
    assert {49406, 49407}.isdisjoint(OURS.encode("a <end_of_text> b <start_of_text>", 77)[1:-1])


def test_the_size_is_known_without_the_file() -> None:
    assert ClipBytePairs.describe(ClipBytePairs.Config(file="none.gz", vocab_size=90, tokens=("x",))) == {
        "vocab_size": 91,
        "mask": False,
        "end": True,
        "pieces": False,
    }


def test_open_clips_copy_is_taken_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ClipBytePairs(ClipBytePairs.Config()).encode("a cat", 9) == OURS.encode("a cat", 9)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs CLIP's vocabulary") as caught:
        ClipBytePairs(ClipBytePairs.Config()).encode("a cat", 9)
    assert "open_clip_torch" in caught.value.problems[0].hints[0]


def test_an_unpacked_file_serves_too_and_what_was_stored_comes_back(tmp_path: Path) -> None:
    plain = tmp_path / "bpe_simple_vocab_16e6.txt"
    plain.write_bytes(gzip.decompress(FILE.read_bytes()))
    assert ClipBytePairs(ClipBytePairs.Config(file=str(plain))).encode("a cat", 9) == OURS.encode("a cat", 9)
    OURS.save(tmp_path)
    stored = ClipBytePairs(ClipBytePairs.Config(file="gone"))
    stored.restore(tmp_path)
    assert [stored.encode(text, 77) for text in TEXTS] == [OURS.encode(text, 77) for text in TEXTS]


def test_another_file_is_told(tmp_path: Path) -> None:
    for name, content in {"a.txt": b"x y\n", "b.txt.gz": b"no gzip", "c.txt": b"\xff\xfe"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="is not CLIP's vocabulary"):
            ClipBytePairs(ClipBytePairs.Config(file=str(tmp_path / name))).encode("a", 4)
    with pytest.raises(UserError, match="no vocabulary file"):
        ClipBytePairs(ClipBytePairs.Config(file=str(tmp_path / "none.gz"))).encode("a", 4)
    with pytest.raises(UserError, match="has 49408 ids, and `vocab_size` says 90"):
        ClipBytePairs(ClipBytePairs.Config(file=str(FILE), vocab_size=90)).encode("a", 4)


def test_it_does_not_learn() -> None:
    with pytest.raises(UserError, match="`bpe` learns one"):
        OURS.train(["a"])
