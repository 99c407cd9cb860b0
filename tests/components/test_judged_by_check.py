"""What the kinds that come with the project would not obey, or would fail at, is refused by `check` at its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from compose_vlp import Blueprint
from compose_vlp.errors import BlueprintError, Problem, UserError

BPE = "components.bert={use: bpe, vocab_size: 512, mask: '<m>', begin: '[CLS]', end: '[SEP]', pad: '[PAD]'}"
IDS = "components.bpe={use: ids, vocab_size: 512, begin: '1', end: '2'}"
BOTH_WAYS = "writing=word_head(backbone(join(vision=patches, language=words)).language)"
OTHER = ("+inputs.heading={type: text, like: caption, tokenizer: other}", "+outputs.shown=heading_seen.cls")
LEARNT = "+components.other={use: bpe, vocab_size: 512}"
SECOND = "+components.second={use: causal_decoder, width: 128, depth: 1, heads: 4, cls: last, share: {%s}}"


def problems(names: Sequence[str], overrides: Sequence[str]) -> list[Problem]:
    try:
        Blueprint.load(*names, overrides=overrides).check()
    except BlueprintError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize(
    ("names", "overrides", "message"),
    [
        ("tiny/coca", ["losses.contrastive.alpha=0.3"], "nothing reads `alpha` of `contrastive` without `soft`"),
        ("tiny/albef", ["~losses.itc.soft"], "nothing reads `alpha` of `itc` without `soft`"),
        ("tiny/albef", ["losses.itc.alpha=-1"], "`alpha` should be greater than or equal to 0; it is `-1`"),
        ("tiny/albef", ["alpha=1.5"], "`alpha` should be less than or equal to 1; it is `1.5`"),
        ("tiny/albef", ["alpha={linear: [0, 1.4]}"], "`alpha` should be less than or equal to 1; this schedule"),
        ("tiny/coca", ["losses.contrastive.scores=[i2t, t2i, i2t]"], "some direction is there more often"),
        ("tiny/albef", ["graph.neg=hard(t2i, i2t)"], "goes from images to texts: are the arguments swapped?"),
        ("tiny/albef", ["graph.neg=hard(t2i=i2t, i2t=t2i)"], "goes from images to texts: are the arguments swapped?"),
        ("tiny/albef", ["stages.pretrain.batch=48"], "`memory`: a batch of 48 does not divide the queue's size 512"),
        ("tiny/coca", ["stages.pretrain.accumulate=3"], "a batch of 64 does not fall into 3 pieces of one size"),
        ("tiny/coca", ["stages.pretrain.bucket=1"], "`bucket` should be greater than or equal to 2; it is `1`"),
        ("tiny/coca", ["stages.pretrain.bucket=8", "inputs.caption.pad=frame"],
         "no loss of stage `pretrain` reads a text that is padded to the longest of the batch"),
        ("tiny/albef tiny/tasks/grounding", ["outputs.where.layer=9"], "no layer 9: `fusion` has 2 layers"),
        ("tiny/albef", ["components.bert.mask=null"], "its tokenizer `bert` has no mask token"),
        ("tiny/albef", [BPE, "components.masker.whole_words=true"], "does not mark the pieces of a word"),
        ("tiny/albef", ["components.masker.end=true"], "these texts have no end token that `end` could hide"),
        ("tiny/albef", ["losses.itc.alpha={linear: [0, 1.4]}"],
         "`alpha` should be less than or equal to 1; this schedule"),
        ("beit3_base tasks/masked_captioning", ["losses.lm.drop_worst={step: [0, 1.2], at: 9 steps}"],
         "`drop_worst` should be less than 1; this schedule"),
        ("beit3_base tasks/masked_captioning", ["losses.lm.drop_worst=1.0"], "`drop_worst` should be less than 1"),
        ("beit3_base tasks/masked_captioning", ["components.spm.mask=null"], "tokenizer `spm` has no mask token"),
        ("beit3_base tasks/masked_captioning", [BOTH_WAYS], "lets positions of `caption` see later words"),
        ("beit3_base tasks/masked_captioning", ["writing=word_head(backbone(patches, attention='prefix'))"],
         "needs one text, as the last part of what comes in"),
        ("beit3", ["inputs.code_image.size=224"], "size 224 of code_image against size 256"),
        ("beit3", ["joint=top(backbone(join(vision=patches, language=words)), expert='vl')"],
         "`top`: no expert is called `vl`"),
        ("beit3_base tasks/masked_captioning", ["components.spm.end=null"], "these texts have no end token that `end`"),
        ("tiny/coca", [*OTHER, LEARNT, "+graph.heading_seen=unimodal(heading)"],
         "`unimodal` is of the words of `other`"),
        ("tiny/coca", [*OTHER, LEARNT, SECOND % "embedding: unimodal", "+graph.heading_seen=second(heading)"],
         "`second`, which shares `unimodal.embedding`, is of the words of `other` here"),
        ("tiny/coca", ["outputs.caption.min_length=60"], "min_length 60 against max_length 28 of `caption`"),
    ],
)  # fmt: skip
def test_it_is_refused(names: str, overrides: list[str], message: str) -> None:
    actual = problems(names.split(), overrides)
    assert len(actual) == 1, actual
    assert message in actual[0].message
    assert actual[0].span is not None


@pytest.mark.parametrize(
    ("names", "overrides"),
    [
        ("tiny/albef", ["losses.itc.alpha=0"]),
        ("tiny/albef", ["alpha={linear: [0, 1]}"]),
        ("tiny/coca", ["losses.contrastive.scores=[i2t, t2i, i2t, t2i]"]),
        ("tiny/coca", [*OTHER, LEARNT, SECOND % "ffn: unimodal", "+graph.heading_seen=second(heading)"]),
        ("tiny/coca", [*OTHER, "+components.other={use: ids, vocab_size: 512}", IDS,
                       "+graph.heading_seen=unimodal(heading)"]),
    ],
)  # fmt: skip
def test_what_is_right_beside_it_passes(names: str, overrides: list[str]) -> None:
    actual = problems(names.split(), overrides)
    assert not [
        problem.message for problem in actual if "table of words" in problem.message or "alpha" in problem.message
    ]
    assert not [problem.message for problem in actual if "direction" in problem.message]


def test_more_answers_than_a_table_has(tmp_path: Path) -> None:
    table = tmp_path / "answers.txt"
    table.write_text("yes\nno\n\n")
    ranked, closed = ["tiny/albef", "tasks/ranked_vqa"], f"inputs.closed.table={table}"
    (actual,) = problems(ranked, [closed, "outputs.ranked.top=3"])
    assert actual.message == "`closed` has 2 texts, of which `top: 3` takes more than there are"
    assert not problems(ranked, [closed, "outputs.ranked.top=2"])
    assert not problems(ranked, ["inputs.closed.table=nowhere.txt", "outputs.ranked.top=3"])


def test_a_least_word_beyond_the_vocabulary_is_told_by_check() -> None:
    with pytest.raises(UserError, match="`bert` has no word from `random_from: 512` on"):
        Blueprint.load("tiny/albef", overrides=["components.masker.random_from=512"]).check()
    Blueprint.load("tiny/albef", overrides=["components.masker.random_from=511"]).check()


def test_a_codebook_that_moves_where_nothing_trains_it_is_remarked() -> None:
    def remarks(*overrides: str) -> list[str]:
        notes = Blueprint.load("tiny/vlmo", overrides=overrides).check().notes
        return [note for note in notes if "what it has learnt moves all the same" in note]

    (remark,) = remarks("freeze=[]")
    assert remark.startswith("`codebook` is not frozen in stage `vision`") and "`freeze: [codebook]` keeps it" in remark
    assert not remarks() and not remarks("freeze=[codebook]")
