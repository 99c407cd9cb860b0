"""What a position may see: leaks are refused with the way that leaks, and generation is derived or refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compose_vlp.errors import Problem
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.types import Flow
from tests.graph.support import checked, paper, problems

Child = Callable[..., CheckedBlueprint]
Only = Callable[..., Problem]

HEADS = """\
components:
  words_head: {use: lm_head}
  tower: {use: causal_decoder, width: 768, cls: last}
  dec: {use: text_decoder}
"""


def albef(graph: str, losses: str = "lm: {use: next_token, logits: foretold}") -> str:
    used = [line for line in HEADS.splitlines(keepends=True) if line.strip().split(":")[0] in f"{graph} components"]
    return f"extends: albef\n{''.join(used)}graph:\n{graph}losses:\n  {losses}\n"


def test_a_bidirectional_tower_under_next_token_leaks(only: Only) -> None:
    problem = only(albef("  foretold: words_head(t)\n"))
    assert problem.message.startswith(
        "every position of `caption` reaches the logits that must foretell it, first in `text` at "
    )
    assert problem.message.endswith("albef.yaml:25:20")
    assert problem.span is not None
    assert problem.span.line == 7
    assert problem.hints == ("the way: caption -> text -> words_head",)


def test_a_leak_through_the_context_is_told_with_its_way(only: Only) -> None:
    problem = only(albef('  foretold: words_head(dec(begin(caption, "[CLS]"), context=joint))\n'))
    assert "first in `text` at " in problem.message
    assert problem.hints == ("the way: caption -> text -> fusion -> dec -> words_head",)


def test_a_causal_tower_that_looks_at_its_own_words_as_a_context_leaks(only: Only) -> None:
    problem = only("extends: coca\ngraph:\n  joint: multimodal(words.tokens, context=words)\n")
    assert "first in `multimodal` at " in problem.message


def test_causal_towers_pass(child: Child) -> None:
    blueprint = child(albef("  foretold: words_head(tower(caption).tokens)\n"))
    assert blueprint.type_of(blueprint.values["foretold"]).reads == {"caption": Flow.PAST}


def test_an_index_takes_other_words(child: Child) -> None:
    """A negative's words are not those that must be foretold, so looking at them is no leak."""
    blueprint = child(albef("  foretold: words_head(dec(caption, context=t[neg.text]))\n"))
    reads = blueprint.type_of(blueprint.values["foretold"]).reads
    assert reads == {"caption": Flow.PAST, "caption[neg.text]": Flow.ALL}


def test_but_words_that_one_index_moved_together_leak(only: Only) -> None:
    problem = only(albef("  foretold: words_head(t[neg.text])\n"))
    assert problem.message.startswith("every position of `caption[neg.text]` reaches the logits")


def test_a_masked_model_must_not_see_what_it_hides(only: Only) -> None:
    problem = only(
        "extends: albef\ncomponents:\n  second: {use: cross_attention_fuser}\n"
        "graph:\n  sees: mlm_head(second(text(masked.text), context=joint))\nlosses:\n  mlm: {logits: sees}\n"
    )
    assert problem.message.startswith(
        "`caption` itself reaches the logits that must foretell its hidden words, first in `text` at "
    )
    assert problem.hints == ("the way: caption -> text -> fusion -> second -> mlm_head",)


def seen_beside(masked: str, other: str, losses: str = "") -> str:
    """A masked model that also looks at a second text."""
    return (
        "extends: albef\ncomponents:\n  second: {use: cross_attention_fuser}\n  masker_2: {use: mlm_masker}\n"
        f"graph:\n  other: {other}\n  hidden: joint(caption={masked})\n"
        f"  sees: mlm_head(second(hidden, context=text(other.text)))\nlosses:\n  mlm: {{logits: sees{losses}}}\n"
    )


@pytest.mark.parametrize("masker", ["masker", "masker_2"])
def test_words_that_another_draw_leaves_to_be_seen_leak(only: Only, masker: str) -> None:
    text = seen_beside("masked.text", f"{masker}(caption)")
    problem = only(text if masker == "masker_2" else text.replace("  masker_2: {use: mlm_masker}\n", ""))
    leak = "`other.text` has other words hidden, and reaches logits that must foretell those of `masked.text`"
    assert problem.message.startswith(f"{leak}, first in `text` at ")
    assert problem.hints == ("the way: other.text -> text -> second -> mlm_head",)


def test_what_has_more_words_hidden_shows_none(child: Child) -> None:
    child(seen_beside("masked.text", "masker_2(masked.text)"))


@pytest.mark.parametrize("shown", ["caption", "masked.text"])
def test_what_was_hidden_twice_is_not_to_be_seen_before_either(only: Only, shown: str) -> None:
    text = seen_beside("other.text", "masker_2(masked.text)", ", labels: other.labels")
    text = text.replace("extends: albef\n", "extends: albef\ndrop: [losses.mlm.soft, losses.mlm.alpha]\n")
    problem = only(text.replace("context=text(other.text)", f"context=text({shown})"))
    assert problem.message.startswith(f"`{shown}` itself reaches the logits that must foretell its hidden words")


def test_hidden_patches_must_not_be_seen_either(only: Only) -> None:
    problem = only(
        "extends: beit3\ngraph:\n  seen: joint(words=words_of(half.text))\n  hidden_pair: hide_pair(image)\n"
    )
    assert problem.message.startswith("`image` itself reaches the logits that must foretell its hidden words")


def test_labels_and_logits_stand_on_one_text(only: Only) -> None:
    problem = only("extends: albef\nlosses: {mlm: {logits: guess}}\n")
    assert problem.message == "labels are of `masked.text`, logits stand on `caption`"
    assert problem.span is not None
    assert (problem.span.line, problem.span.column) == (2, 24)


def test_a_teacher_must_stand_on_the_same_text(only: Only) -> None:
    problem = only("extends: albef\ngraph:\n  taught: momentum.guess\n")
    assert problem.message == "logits stand on `masked.text`, soft stand on `caption`"


ONE_MORE = """\
extends: coca
teachers:
  slow: {decay: 0.9}
components:
  mask: {use: mlm_masker}
graph:
  hidden: mask(caption)
  shown:  words(caption=hidden.text)
  heard:  lm_head(shown.tokens)
  taught: slow.lm_head(slow.shown)
losses:
  mlm: {use: masked_lm, logits: heard, labels: hidden.labels, soft: taught}
"""


def test_scores_of_words_leave_out_a_cls_behind_them(messages: Callable[[str], list[tuple[str, str]]]) -> None:
    assert messages(ONE_MORE) == []


@pytest.mark.parametrize("name", ["vlmo", "beit3"])
def test_generation_over_a_masked_model_names_the_first_call_that_sees_later_words(name: str) -> None:
    logits = {"vlmo": "guess", "beit3": "text_given"}[name]
    extra = [] if name == "vlmo" else ["+graph.text_given=word_head(joint.language)"]
    (problem,) = problems(name, f"+outputs.told={{generate: {logits}, over: caption}}", *extra)
    tower = {"vlmo": "lower", "beit3": "backbone"}[name]
    assert problem.message == (
        f"`{tower}` lets positions of `caption` see later words, which generation does not know yet"
    )
    assert problem.related[0][0] == f"`{tower}` is called here"


def test_prefix_attention_may_generate() -> None:
    blueprint = checked(
        "beit3",
        '+graph.told=word_head(backbone(join(vision=patches, language=words), attention="prefix").language)',
        "+outputs.told_of={generate: told, over: caption, by: mask}",
    )
    logits = blueprint.type_of(blueprint.values["told"])
    assert logits.reads["caption"] is Flow.PAST
    assert logits.reads["image"] is Flow.ALL


def test_a_cls_that_attention_hides_from_its_words_is_refused() -> None:
    (problem,) = problems(
        "beit3",
        '+graph.told=backbone(join(vision=patches, language=words), attention="prefix").language.cls',
        "+outputs.told_of=told",
    )
    assert problem.message.endswith("stands first, and no position sees later ones: it has seen nothing of the words")


def test_a_cls_before_any_attention_has_seen_nothing() -> None:
    (problem,) = problems("vlmo", "text_embedding=normalize(text_proj(words.cls))")
    assert problem.message == (
        "the CLS of `words` stands first, and no position sees another one: it has seen nothing of the words"
    )


def test_a_cls_behind_the_words_has_seen_them_all() -> None:
    coca = paper("coca")
    assert coca.type_of(coca.values["text_embedding"]).reads == {"caption": Flow.ALL}
    assert coca.type_of(coca.values["logits"]).reads == {"caption": Flow.PAST, "image": Flow.ALL}
