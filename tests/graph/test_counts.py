"""Positions and classes are part of a value's type: what does not go together is told with both counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from compose_vlp import registry
from compose_vlp.api import Blueprint
from compose_vlp.errors import BlueprintError, Problem
from compose_vlp.graph.checking.check import check
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.types import UNKNOWN, Count

LONGEST = "positions: the longest `caption` of a batch"

TOWERS = """\
name: towers
inputs:
  image:    {type: image, size: 16}
  caption:  {type: text, tokenizer: words, max_length: 12}
  question: {type: text, tokenizer: words, max_length: 12}
  whole:    {type: text, tokenizer: words, max_length: 12, pad: frame}
  answer:   {type: label}
components:
  words:  {use: wordpiece, vocab_size: 300}
  vision: {use: vit, width: 16, depth: 1, heads: 2, patch: 4}
  coarse: {use: vit, width: 16, depth: 1, heads: 2, patch: 8}
  plain:  {use: vit, width: 16, depth: 1, heads: 2, patch: 4, cls: none}
  wide:   {use: vit, width: 32, depth: 1, heads: 2, patch: 4}
  text:   {use: bert_encoder, width: 16, depth: 1, heads: 2}
  writer: {use: causal_decoder, width: 16, depth: 1, heads: 2, cls: last}
  pool:   {use: attention_pooler, queries: 12, heads: 2}
  masker: {use: mlm_masker}
  fusion: {use: cross_attention_fuser, depth: 1, heads: 2}
  words_of: {use: lm_head}
  head:   {use: linear_head, classes: 3}
  more:   {use: linear_head, classes: 5}
  similar: {use: similarity}
graph:
  x: vision(image)
  y: head(mean(x))
losses:
  loss: {use: cross_entropy, logits: y, labels: answer}
"""
DECLARED = re.compile(r"^  (\w+): +\{(?:type|use):.*\n", re.MULTILINE)

Load = Callable[..., CheckedBlueprint]


@pytest.fixture
def towers(tmp_path: Path) -> Load:
    """`towers("x=add([vision(image), plain(image)])", ...)`: with what these changes leave unread left out."""

    def load(*changes: str) -> CheckedBlueprint:
        text = TOWERS
        while True:
            whole = "\n".join((text, *changes))
            unread = [match for match in DECLARED.finditer(text) if len(re.findall(rf"\b{match[1]}\b", whole)) < 2]
            unread = [match for match in unread if match[1] not in ("loss", "words")]
            if not unread:
                break
            text = text.replace(unread[0][0], "")
        (tmp_path / "towers.yaml").write_text(text, encoding="utf-8")
        loaded = Blueprint.load(str(tmp_path / "towers.yaml"), overrides=list(changes))
        return check(
            loaded.document,
            registry,
            [problem for problem in loaded.problems if "nothing reads" not in problem.message],
        )

    return load


def problems(load: Load, changes: Sequence[str]) -> tuple[Problem, ...]:
    with pytest.raises(BlueprintError) as raised:
        load(*changes)
    return raised.value.problems


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "add([vision(image), text(caption)])",
            (
                "`text(caption)` of `text` has up to 12 positions: the longest `caption` of a batch, and "
                "`vision(image)` of `vision` has 17 positions (4 x 4 and a CLS)"
            ),
        ),
        (
            "average([vision(image), plain(image)])",
            (
                "`plain(image)` of `plain` has 16 positions (4 x 4), and `vision(image)` of `vision` has 17 positions "
                "(4 x 4 and a CLS)"
            ),
        ),
        (
            "concat([vision(image), coarse(image)])",
            (
                "`coarse(image)` of `coarse` has 5 positions (2 x 2 and a CLS), and `vision(image)` of `vision` has "
                "17 positions (4 x 4 and a CLS)"
            ),
        ),
        (
            "add([text(caption), text(question)])",
            (
                "`text(question)` of `text` has up to 12 positions: the longest `question` of a batch, and "
                "`text(caption)` of `text` has up to 12 positions: the longest `caption` of a batch"
            ),
        ),
        (
            "add([text(caption), pool(vision(image))])",
            (f"`pool(vision(image))` of `pool` has 12 positions, and `text(caption)` of `text` has up to 12 {LONGEST}"),
        ),
        (
            "add([text(caption), text(prompt('a red', caption))])",
            (
                "`text(prompt('a red', caption))` of `text` has up to 12 positions: "
                "the longest `caption` after 'a red' of a batch, and "
                f"`text(caption)` of `text` has up to 12 {LONGEST}"
            ),
        ),
        (
            "add([text(caption), writer(caption)])",
            (
                f"`writer(caption)` of `writer` has up to 13 {LONGEST} and 1 more, and "
                f"`text(caption)` of `text` has up to 12 {LONGEST}"
            ),
        ),
    ],
)
def test_sequences_of_other_positions_are_not_added(towers: Load, expression: str, message: str) -> None:
    (problem,) = problems(towers, [f"x={expression}"])
    assert problem.message.replace('"', "'") == message
    assert problem.related and problem.related[0][0] == "the other"


@pytest.mark.parametrize(
    ("expression", "shape"),
    [
        ("add([vision(image).tokens, plain(image)])", ("main", 16, 16)),
        ("add([text(caption), text(masker(caption).text)])", ("main", 12, 16)),
        ("add([text(caption), writer(caption).tokens])", ("main", 12, 16)),
        ("add([text(whole), pool(vision(image))])", ("main", 12, 16)),
        ("average([fusion(text(caption), context=vision(image)), text(caption)])", ("main", 12, 16)),
        ("concat([vision(image), wide(image)])", ("main", 17, 48)),
        ("concat([vision(image), wide(image), concat([wide(image), vision(image)])])", ("main", 17, 96)),
        ("join(a=vision(image), b=coarse(image))", ("main", 22, 16)),
        ("rows([vision(image), coarse(image)])", ("main & main", "tokens", 16)),
        ("fusion(text(caption), context=[vision(image), coarse(image), text(question)])", ("main", 12, 16)),
    ],
)
def test_sequences_of_equal_positions_are(towers: Load, expression: str, shape: tuple[object, ...]) -> None:
    changes = ["losses.loss.labels=answer", f"x={expression}"]
    if expression.startswith("rows"):
        changes += ["y=head(mean(vision(image)))", "+outputs.shown=mean(x)"]
    checked = towers(*changes)
    assert checked.type_of(checked.values["x"]).shape() == shape


def test_labels_of_more_classes_than_the_logits_have_are_told(towers: Load) -> None:
    for classes in ("inputs.answer.classes=[a, b, c, d]", "inputs.answer.count=4"):
        (problem,) = problems(towers, [classes])
        assert problem.message == "classes 4 of answer against classes 3 of y: some labels have no score"
        assert problem.hints == ("`classes: 4` of `head`, or fewer classes of `answer`",)
    towers("inputs.answer.classes=[a, b, c]")
    towers("inputs.answer.classes=[a, b]")


def test_labels_that_say_nothing_have_as_many_classes_as_the_logits_that_they_meet(
    towers: Load,
) -> None:
    assert towers().inputs["answer"].count == 3  # type: ignore[union-attr]
    other = "+losses.other={use: cross_entropy, logits: z, labels: answer}"
    assert towers("+graph.z=more(mean(x))", other).inputs["answer"].count == 3  # type: ignore[union-attr]
    assert towers("inputs.answer.count=2").inputs["answer"].count == 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("average([head(mean(x)), more(mean(x))])", "classes 5 of more(mean(x)) against classes 3 of head(mean(x))"),
        (
            "average([head(x), head(mean(x))])",
            "`average`: takes logits of one form; some of these have positions, others one vector a row",
        ),
        ("head(join(a=x, b=coarse(image)))", "`logits` of `loss` takes Logits[rows classes], and `y` has positions"),
        ("add([x, head(mean(x))])", "`add`: takes values of one kind; these are Logits and Sequence"),
    ],
)
def test_logits_of_another_form_are_told(towers: Load, expression: str, message: str) -> None:
    assert message in [problem.message for problem in problems(towers, [f"y={expression}"])]


def test_logits_of_an_ensemble_are_logits(towers: Load) -> None:
    checked = towers("y=average([head(mean(x)), head(mean(coarse(image))), head(x.cls)])")
    assert checked.type_of(checked.values["y"]).shape() == ("main", 3)
    checked = towers("+graph.p=head(x)", "+outputs.shown=p")
    assert checked.type_of(checked.values["p"]).shape() == ("main", 17, 3)


def test_scores_that_foretell_words_stand_on_all_of_them(towers: Load) -> None:
    towers("+graph.z=words_of(writer(caption))", "+losses.lm={use: next_token, logits: z}")  # a CLS is left out
    masked = ["+graph.masked=masker(caption)", "+losses.mlm={use: masked_lm, logits: z, labels: masked.labels}"]
    towers("+graph.z=words_of(text(masked.text))", *masked)
    (problem,) = problems(towers, ["+graph.z=words_of(text(masked.text).tokens)", *masked])
    longest = "positions: the longest `caption` of a batch"
    assert problem.message == (
        f"`masked.labels` of `masker` has up to 12 {longest}, and `z` of `words_of` has up to 11 {longest} but 1"
    )


def test_scores_are_averaged_in_one_direction(towers: Load) -> None:
    i2t, t2i = "similar(x.cls, text(caption).cls)", "similar(text(caption).cls, x.cls)"
    towers(f"+graph.s=average([{i2t}, similar(mean(x), text(caption).cls)])", "+outputs.shown=s")
    actual = problems(towers, [f"+graph.s=average([{i2t}, {t2i}])", "+outputs.shown=s"])
    assert any("one of these goes from rows to columns, another back" in problem.message for problem in actual)


def test_what_nothing_reads_says_nothing_of_sizes(towers: Load) -> None:
    """`joint` belongs to the vocabulary that papers share, and may stay unread."""
    checked = towers("+graph.joint=fusion(text(caption), context=x)", "x=vision(image)",
                     "y=head(mean(both))", "+graph.both=fusion(text(caption), context=[x, plain(image)])")  # fmt: skip
    assert checked.components["fusion"].config.contexts == 2


def test_counts_that_are_not_known_go_with_all() -> None:
    text, grid = Count(12, 0, ("`caption`",)), Count(16, 16, grid=(4, 4))
    for count in (text, grid, UNKNOWN):
        assert count.may_be(UNKNOWN) and UNKNOWN.may_be(count) and count.may_be(count)
    assert not text.may_be(Count(12, 12))
    assert not grid.may_be(Count(16, 16, grid=(2, 8))) and grid.may_be(Count(16, 16))
