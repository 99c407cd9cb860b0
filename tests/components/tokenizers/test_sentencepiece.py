"""SentencePiece with XLM-R's ids: those of the transformers library for any text, and files that are something else."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compose_vlp.api import Blueprint
from compose_vlp.components.maskers.mlm_masker import MlmMasker
from compose_vlp.components.tokenizers.sentencepiece import SentencePiece
from compose_vlp.data import open_source
from compose_vlp.errors import BlueprintError, UserError
from compose_vlp.values import Text

library = pytest.importorskip("sentencepiece")
CORPUS = [
    f"{size} {colour} {shape}{end}"
    for size in ("A small", "a LARGE", "The") for colour in ("red", "blue", "naïve green")
    for shape in ("circle", "square", "triangles") for end in (".", "!", ", and 3 more")
]  # fmt: skip


def learnt(pieces: int = 120, **settings: Any) -> bytes:
    out = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=out, vocab_size=pieces, hard_vocab_limit=False, minloglevel=2,
        num_threads=1, **settings,
    )  # fmt: skip
    return out.getvalue()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model") / "sentencepiece.bpe.model"
    made.write_bytes(learnt())
    return made


def of(file: Path, **settings: Any) -> SentencePiece:
    return SentencePiece(SentencePiece.Config(file=str(file), **settings))


@pytest.fixture(scope="module")
def xlm_r(file: Path) -> Any:
    from transformers import XLMRobertaTokenizer

    return XLMRobertaTokenizer.from_pretrained(str(file.parent))


TEXTS = [
    "A small red circle.",
    "  spaces   between \t and\naround ",
    "naïve ﬁ ½ ² ＡＢＣ e\u0301",
    "漢字 ☃ 😀 unknown letters",
    "UPPER lower Mixed",
    "&amp; <br> stays as it is",
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_ids_are_xlm_rs(file: Path, xlm_r: Any, text: str) -> None:
    assert of(file).encode(text, 100) == xlm_r(text).input_ids


@given(st.text(alphabet=st.sampled_from("A smallredbuecircq.,!3é ☃\t"), max_size=40))
@settings(max_examples=200, deadline=None)
def test_the_ids_are_xlm_rs_for_any_text(file: Path, xlm_r: Any, text: str) -> None:
    assert of(file).encode(text, 200) == xlm_r(text).input_ids


def test_the_layout_is_xlm_rs(file: Path, xlm_r: Any) -> None:
    ours = of(file)
    assert (ours.begin_id, ours.pad_id, ours.end_id, ours.id_of("<unk>")) == (0, 1, 2, 3)
    assert ours.vocab_size == len(xlm_r) and ours.mask_id == xlm_r.mask_token_id == ours.vocab_size - 1
    assert dict(ours.vocabulary()) == xlm_r.get_vocab()
    assert ours.encode("a red square and 3 more", 5) == [*xlm_r("a red square and 3 more").input_ids[:4], 2]
    assert ours.encode("a red", 9, end=False)[-1] != 2


def test_special_tokens_that_people_write_are_words(file: Path) -> None:
    ours = of(file)
    special = set(ours.special.values())
    assert not special & set(ours.encode("<s> <mask> </s> <pad>", 40)[1:-1])


def test_ids_become_text_again(file: Path) -> None:
    ours = of(file, vocab_size=500)
    assert ours.decode(ours.encode("A small  red circle.", 40)) == "A small red circle."
    assert ours.decode([0, 499, ours.vocab_size - 1, 1, *ours.encode("blue", 9)[1:], 7]) == "blue"


def test_more_rows_than_tokens_are_rows_and_extra_tokens_follow(file: Path) -> None:
    tokens = of(file).vocab_size
    roomy = of(file, vocab_size=tokens + 8)
    assert roomy.vocab_size == tokens + 8 and roomy.mask_id == roomy.highest_id == tokens - 1
    more = of(file, vocab_size=tokens + 8, tokens=("[DEC]",))
    assert more.vocab_size == tokens + 9 and more.id_of("[DEC]") == more.highest_id == tokens + 8
    with pytest.raises(UserError, match=f"has {tokens} tokens, and `vocab_size` says {tokens - 1}"):
        of(file, vocab_size=tokens - 1).encode("a", 9)


def test_random_words_are_tokens(file: Path) -> None:
    import torch

    roomy = of(file, vocab_size=5000)
    ids = torch.tensor(roomy.encode("a small red circle", 12)).repeat(800, 1)
    masker = MlmMasker(MlmMasker.Config(probability=1.0, mask=0.0, random=1.0, random_from=3))
    hidden = masker(Text(ids, torch.full((800,), ids.shape[1]), 12), tokenizer=roomy)
    drawn = hidden.text.ids[hidden.labels.ids >= 0]
    assert int(drawn.min()) == 3 and int(drawn.max()) == roomy.mask_id


@pytest.mark.parametrize("objects", [1, 2])
def test_words_of_a_small_corpus_are_tokens_whatever_follows_them(objects: int) -> None:
    """By itself the library cuts `yellow`, after which a space always comes, into letters: 30 tokens in place of 15."""
    source = open_source({"use": "scenes", "min_objects": objects, "max_objects": objects, "count": 1000})
    captions = [source.record(row)["caption"] for row in range(len(source))]
    tokens = SentencePiece(SentencePiece.Config(vocab_size=512))
    tokens.train(captions)
    assert all(len(tokens.pieces(caption)) == len(caption.split()) for caption in captions)


def test_pieces_are_learnt_kept_and_carried(tmp_path: Path) -> None:
    first, again = (SentencePiece(SentencePiece.Config(vocab_size=100)) for _ in range(2))
    assert not first.ready and first.vocab_size == 100
    first.train([*CORPUS, "", "  "])
    again.train(CORPUS)
    ids = first.encode(CORPUS[5], 40)
    assert first.ready and ids == again.encode(CORPUS[5], 40) and first.highest_id < 100
    first.save(tmp_path / "words")
    restored = SentencePiece(first.config)
    restored.restore(tmp_path / "words")
    assert restored.encode(CORPUS[5], 40) == ids == pickle.loads(pickle.dumps(first)).encode(CORPUS[5], 40)
    with pytest.raises(UserError, match="no pieces can be learnt of 0 texts"):
        SentencePiece(SentencePiece.Config(vocab_size=100)).train(["", " "])
    with pytest.raises(UserError, match="no vocabulary yet"):
        SentencePiece(SentencePiece.Config(vocab_size=100)).encode("a", 4)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no vocabulary file"),
        (b"", "it has no pieces"),
        (b"junk", "is no model of SentencePiece"),
        (pickle.dumps(print), "is no model of SentencePiece"),
        (learnt()[:-3], "is no model of SentencePiece"),
        (learnt(pad_id=0, eos_id=1, unk_id=2, bos_id=-1), "does not begin with the pieces <unk>, <s> and </s>"),
    ],
    ids=["missing", "empty", "junk", "pickle", "cut", "T5's layout"],
)
def test_what_is_no_such_file_is_told(tmp_path: Path, content: bytes | None, says: str) -> None:
    made = tmp_path / "words.spm"
    if content is not None:
        made.write_bytes(content)
    with pytest.raises(UserError, match=says):
        of(made).encode("a", 9)


def test_a_file_that_is_missing_has_its_place_before_a_run_begins(tmp_path: Path) -> None:
    data = tmp_path / "captions.jsonl"
    data.write_text('{"image": "a.png", "caption": "a"}\n', encoding="utf-8")
    changes = [f"data.captions.path={data}", "components.spm.file=nope.spm", "stages.finetune.batch=1"]
    with pytest.raises(BlueprintError) as error:
        Blueprint.load("beit3_base", "tasks/beit3/captioning", overrides=changes).train(out=tmp_path / "r", track=False)
    (problem,) = (reported for reported in error.value.problems if "nope.spm" in reported.message)
    assert problem.message == "no vocabulary file 'nope.spm'" and problem.span is not None
    assert not (tmp_path / "r").exists()


LACKING = """
import sys
sys.modules["sentencepiece"] = None
from compose_vlp.api import Blueprint
from compose_vlp.components.tokenizers.sentencepiece import SentencePiece
from compose_vlp.data import open_source
from compose_vlp.errors import UserError
Blueprint.load("beit3_base").check()
for act in (lambda: SentencePiece(SentencePiece.Config(vocab_size=99)).ready,
            lambda: SentencePiece(SentencePiece.Config(vocab_size=99, file=sys.argv[1])).encode("a", 4)):
    try:
        act()
    except UserError as error:
        print(error, *error.problems[0].hints)
"""


def test_without_the_library_models_are_checked_and_the_rest_says_what_to_install(file: Path) -> None:
    completed = subprocess.run([sys.executable, "-c", LACKING, str(file)], capture_output=True, text=True, check=True)
    assert completed.stdout.count("needs the library of this name") == 2
    assert completed.stdout.count("uv pip install 'compose-vlp[sentencepiece]'") == 2


def test_a_file_runs_no_code(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Sequence[Any]) -> Any:
        raise AssertionError("nothing is unpickled")

    monkeypatch.setattr("pickle.loads", refuse)
    monkeypatch.setattr("pickle.load", refuse)
    assert of(file).encode("a red circle", 9)[0] == 0
