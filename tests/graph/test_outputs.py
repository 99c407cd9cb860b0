"""Outputs: values, generated and ranked texts, relevance, and what each may be fed is derived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from compose_vlp.errors import BlueprintError, Problem
from compose_vlp.graph.checking.growing import split
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.types import one_part
from tests.graph.stub_kinds import KINDS
from tests.graph.support import SMALL, checked, edited, paper, problems

Child = Callable[..., CheckedBlueprint]
Only = Callable[..., Problem]
Messages = Callable[..., list[tuple[str, str]]]


def stored(blueprint: CheckedBlueprint, output: str) -> dict[str, list[str]]:
    return {name: sorted(map(str, refs)) for name, refs in blueprint.outputs[output].stored.items()}


def test_reranking_is_fed_the_towers() -> None:
    """The frontier of values that read one input only; BLIP's text is read with the image, so it is not stored."""
    assert stored(paper("albef"), "match") == {"image": ["v"], "caption": ["t"]}
    assert stored(paper("blip"), "match") == {"image": ["v"]}
    assert stored(paper("vlmo"), "match") == {"image": ["patches"], "caption": ["words"]}
    assert stored(checked("hybrids/albef_two_towers"), "match") == {"image": ["v", "v2"], "caption": ["t"]}


def test_an_embedding_is_stored_as_it_is() -> None:
    assert stored(paper("albef"), "image_embedding") == {"image": ["image_embedding"]}


def test_a_caption_is_made_of_one_pass_over_the_image() -> None:
    """What is not downstream of `over` runs once, all else at every word."""
    for name, once, each in [
        ("coca", {"visual.vision", "visual"}, {"words", "joint.tokens", "joint", "logits"}),
        ("blip", {"v"}, {"logits.begin", "logits.decoder", "logits"}),
    ]:
        blueprint = paper(name)
        output = blueprint.outputs["caption"]
        growing = split(blueprint.fragment([output.ref]), output.over or "")
        assert {call.id for call in growing.fixed if call.role != "input"} == once
        assert {call.id for call in growing.grows if call.role != "input"} == each
        assert not growing.begun


def test_settings_of_generation_are_typed() -> None:
    output = paper("blip").outputs["caption"]
    assert (output.form, output.over, output.settings.beams) == ("generate", "caption", 3)


@pytest.mark.parametrize(
    ("output", "place", "message"),
    [
        ("{generte: logits, over: caption}", "{generte: logits, over: caption}", "`z` is no form of output"),
        ("{generate: logits, over: captoin}", "captoin", "`over` names an input, and `captoin` is none"),
        ("{generate: logits, over: joint}", "joint", "`over` names an input, and `joint` is none"),
        ("{generate: joint, over: caption}", "joint",
         "`generate` takes Logits over the positions of a text, and this is Sequence"),
        ("{generate: lm_head(joint), over: caption}", "lm_head(joint)", "a name or a field stands here"),
        ("{generate: logits, over: caption, max_length: 99}", "99", "max_length 99 against max_length 64 of `caption`"),
        ("{generate: logits, over: caption, beams: 0}", "0", None),
        ("{generate: logits}", "z", "`over` is missing"),
        ("{rank: logits, over: caption, among: caption}", "caption", "`caption` has no table to choose from"),
        ("{relevance: logits, to: visual, through: image}", "image", "no component is called `image`"),
        ("{relevance: logits, to: image_embedding, through: multimodal}", "image_embedding",
         "`to` takes a Sequence: its positions are weighed"),
        ("{relevance: logits, to: visual, through: multimodal}", "logits",
         "`relevance` takes a score of each row, and this is Logits of every position"),
        ("{relevance: image_embedding, to: visual, through: multimodal}", "image_embedding",
         "`relevance` takes a score of each row, and this is Embedding"),
    ],
)  # fmt: skip
def test_an_output_that_means_nothing(messages: Messages, output: str, place: str, message: str | None) -> None:
    actual = messages(f"extends: coca\noutputs:\n  z: {output}\n")
    assert len(actual) == 1, actual
    assert actual[0][0].split(" ", 1)[1] == place
    assert message is None or actual[0][1] == message


def test_generation_over_another_text_than_the_logits_stand_on() -> None:
    (problem,) = problems(
        "coca",
        "+inputs.question={type: text, like: caption}",
        "+outputs.z={generate: logits, over: question}",
    )
    assert problem.message == "these logits stand on `caption`, not on `question`"


def test_an_output_is_one_value(only: Only) -> None:
    problem = only(edited(SMALL, ("shown: ie", "shown: '[ie, te]'")))
    assert problem.message == "output `shown` is one value"


def test_an_output_may_go_on_from_what_it_was(child: Child) -> None:
    blueprint = child("extends: albef\noutputs:\n  match: softmax(previous)\n")
    assert [call.target for call in blueprint.fragment([blueprint.outputs["match"].ref])][-2:] == ["softmax", "softmax"]


def test_candidates_are_of_the_same_tokenizer() -> None:
    actual = problems("albef", "tasks/vqa_generate", "inputs.closed.tokenizer=second", "+components.second={use: bpe}")
    assert [problem.message for problem in actual] == ["`closed` is of tokenizer `second`, and `answers` of `bert`"]


BLIND = replace(KINDS["causal_decoder"], name="blind", cached=False)
UNCOUNTED = replace(
    KINDS["adapter"],
    name="uncounted",
    output=lambda _, ports: replace(ports["x"], parts=one_part("somewhere", None, reads=[ports["x"].reads])),
)
BESIDE = """\
extends: coca
components:
  other: {use: causal_decoder, cls: none}
graph:
  logits: lm_head(EXPRESSION)
"""


def test_what_keeps_nothing_of_earlier_words_cannot_write(child: Child) -> None:
    with pytest.raises(BlueprintError) as refused:
        child("extends: coca\ncomponents:\n  multimodal: {use: blind, cross_attention: true}\n", kinds=(BLIND,))
    (problem,) = refused.value.problems
    assert problem.message == (
        "`multimodal` (blind) looks beyond one position and keeps no cache, so nothing can be written through it word "
        "by word"
    )


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("add([other(words.tokens), multimodal(other(words.tokens), context=visual), foreign(visual)])",
         "`add` sets positions of `logits.foreign`, which does not grow, against those of words"),
        ("join(text=other(words.tokens), image=visual).text",
         "`join` puts `image` behind `text`, which grows with every word"),
    ],
)  # fmt: skip
def test_what_a_new_word_would_change_is_named(messages: Messages, expression: str, message: str) -> None:
    text = BESIDE.replace("EXPRESSION", expression)
    if "foreign" in text:
        text = text.replace("components:", "components:\n  foreign: {use: uncounted}")
    actual = [problem for _, problem in messages(text, kinds=(UNCOUNTED,)) if "word by word" in problem]
    assert actual == [f"{message}, so nothing can be written through it word by word"]
